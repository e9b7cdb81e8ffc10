// The values of one page, by encoding.
// Source: apache/parquet-format Encodings.md.

internal import JSON

/// Hands out the values of a page that are not null, in order.
protocol ValueReader: AnyObject {
  /// Nil for bytes that are no UTF-8 text.
  func next() throws(FileProblem) -> JSONValue?
}

enum Encoding: Int {
  case plain = 0
  case plainDictionary = 2
  case rle = 3
  case deltaBinaryPacked = 5
  case deltaLengthByteArray = 6
  case deltaByteArray = 7
  case rleDictionary = 8

  static func name(_ code: Int) -> String {
    let names = [
      "PLAIN", "encoding 1", "PLAIN_DICTIONARY", "RLE", "BIT_PACKED", "DELTA_BINARY_PACKED",
      "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", "RLE_DICTIONARY", "BYTE_STREAM_SPLIT",
    ]
    return names.indices.contains(code) ? names[code] : "encoding \(code)"
  }
}

/// - Parameters:
///   - dictionary: that of the column chunk, where it has one.
///   - range: of `page`, behind the levels.
func makeValueReader(
  encoding code: Int, _ type: LeafType, dictionary: [JSONValue?]?, page: [UInt8],
  _ range: Range<Int>
) throws(FileProblem) -> any ValueReader {
  switch (Encoding(rawValue: code), type.physical) {
  case (.plain, _):
    return PlainValues(type, page, range)
  case (.plainDictionary, _), (.rleDictionary, _):
    guard let dictionary else { throw .damaged("a page of a dictionary that is not there") }
    return try DictionaryValues(dictionary, page, range)
  case (.rle, .boolean):
    return try RunBooleans(page, range)
  case (.deltaBinaryPacked, .int32), (.deltaBinaryPacked, .int64):
    return try DeltaIntegers(type, page, range)
  case (.deltaLengthByteArray, .byteArray):
    return try DeltaLengthTexts(page, range)
  case (.deltaByteArray, .byteArray):
    return try DeltaTexts(page, range)
  default:
    throw .unsupported(
      expected: "PLAIN, a dictionary, RLE or the DELTA encoding of \(type.physical.name)",
      found: Encoding.name(code))
  }
}

/// One value after another. Texts have their length before them; booleans are single bits.
final class PlainValues: ValueReader {
  private var input: BitReader
  private let type: LeafType

  init(_ type: LeafType, _ page: [UInt8], _ range: Range<Int>) {
    input = BitReader(page, range)
    self.type = type
  }

  func next() throws(FileProblem) -> JSONValue? {
    switch type.physical {
    case .byteArray:
      let length = Int(try input.littleEndian(4))
      return text(input.bytes, try input.range(length))
    case .int32:
      let bits = UInt32(truncatingIfNeeded: try input.littleEndian(4))
      return integer(Int64(Int32(bitPattern: bits)), type)
    case .int64: return integer(Int64(bitPattern: try input.littleEndian(8)), type)
    case .float:
      let bits = UInt32(truncatingIfNeeded: try input.littleEndian(4))
      return real(Double(Float(bitPattern: bits)))
    case .double: return real(Double(bitPattern: try input.littleEndian(8)))
    case .boolean: return .bool(try input.bits(1) == 1)
    case .int96, .fixedLengthByteArray: preconditionFailure("refused by ColumnReader")
    }
  }
}

/// Indices into the dictionary of the column chunk.
private final class DictionaryValues: ValueReader {
  private let dictionary: [JSONValue?]
  private var indices: RunReader?

  init(_ dictionary: [JSONValue?], _ page: [UInt8], _ range: Range<Int>) throws(FileProblem) {
    self.dictionary = dictionary
    // A page of nulls may lack even the bit width.
    if !range.isEmpty {
      indices = try RunReader(
        page, range.lowerBound + 1..<range.upperBound, width: Int(page[range.lowerBound]))
    }
  }

  func next() throws(FileProblem) -> JSONValue? {
    guard let index = try indices?.next() else { throw .damaged("a page ends too early") }
    guard index < dictionary.count else {
      throw .damaged("value \(index) of a dictionary of \(dictionary.count)")
    }
    return dictionary[index]
  }
}

private final class RunBooleans: ValueReader {
  private var runs: RunReader

  init(_ page: [UInt8], _ range: Range<Int>) throws(FileProblem) {
    var input = BitReader(page, range)
    let length = Int(try input.littleEndian(4))
    runs = try RunReader(page, try input.range(length), width: 1)
  }

  func next() throws(FileProblem) -> JSONValue? {
    .bool(try runs.next() == 1)
  }
}

private final class DeltaIntegers: ValueReader {
  private var values: DeltaReader
  private let type: LeafType

  init(_ type: LeafType, _ page: [UInt8], _ range: Range<Int>) throws(FileProblem) {
    values = try DeltaReader(page, range)
    self.type = type
  }

  func next() throws(FileProblem) -> JSONValue? {
    let value = try values.next()
    return integer(type.physical == .int32 ? Int64(Int32(truncatingIfNeeded: value)) : value, type)
  }
}

/// All lengths, then all texts.
private final class DeltaLengthTexts: ValueReader {
  private var lengths: DeltaReader
  private var input: BitReader

  init(_ page: [UInt8], _ range: Range<Int>) throws(FileProblem) {
    lengths = try DeltaReader(page, range)
    input = BitReader(page, try lengths.end()..<range.upperBound)
  }

  func next() throws(FileProblem) -> JSONValue? {
    text(input.bytes, try nextRange())
  }

  func nextBytes() throws(FileProblem) -> ArraySlice<UInt8> {
    let range = try nextRange()
    return input.bytes[range]
  }

  private func nextRange() throws(FileProblem) -> Range<Int> {
    try input.range(Int(try lengths.next()))
  }
}

/// How many bytes each text shares with the one before it, then the rest of each, as all lengths and all texts.
private final class DeltaTexts: ValueReader {
  private var prefixLengths: DeltaReader
  private let suffixes: DeltaLengthTexts
  private var value: [UInt8] = []

  init(_ page: [UInt8], _ range: Range<Int>) throws(FileProblem) {
    prefixLengths = try DeltaReader(page, range)
    suffixes = try DeltaLengthTexts(page, try prefixLengths.end()..<range.upperBound)
  }

  func next() throws(FileProblem) -> JSONValue? {
    let prefix = Int(try prefixLengths.next())
    guard prefix >= 0, prefix <= value.count else {
      throw .damaged("a text that shares \(prefix) bytes with one of \(value.count)")
    }
    value.removeSubrange(prefix...)
    value += try suffixes.nextBytes()
    return text(value, value.indices)
  }
}

private func text(_ bytes: [UInt8], _ range: Range<Int>) -> JSONValue? {
  guard let utf8 = try? UTF8Span(validating: bytes.span.extracting(range)) else { return nil }
  return .string(String(copying: utf8))
}

private func integer(_ value: Int64, _ type: LeafType) -> JSONValue {
  guard type.isUnsigned, value < 0 else { return .int(Int(value)) }
  if type.physical == .int32 {
    return .int(Int(UInt32(truncatingIfNeeded: value)))
  }
  return .number(JSONNumber(literal: String(UInt64(bitPattern: value))))
}

/// JSON has neither infinity nor NaN: both are null, as pandas writes them.
private func real(_ value: Double) -> JSONValue {
  .double(value)
}
