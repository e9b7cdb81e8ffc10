// A column chunk, page by page, as values with their levels.

internal import JSON
internal import SystemIO

/// Stands at one value; `advance` goes to the next. Holds one page and the dictionary.
final class ColumnReader {
  let type: LeafType
  /// The levels of the value it stands at; at the end both are 0.
  private(set) var repetition = 0
  private(set) var definition = 0
  private(set) var isAtEnd = false

  private let file: MappedFile
  private let room: Room
  private let packing: Packing
  private var unread: Range<Int>
  private var dictionary: [JSONValue?]?
  /// Values that are still to come, in the chunk and in the page.
  private var leftInChunk: Int
  private var leftInPage = 0
  private var repetitions: RunReader?
  private var definitions: RunReader?
  private var values: (any ValueReader)?

  init(_ file: MappedFile, _ chunk: ColumnChunk, _ type: LeafType, _ room: Room) throws(FileProblem)
  {
    if let foreign = type.foreign {
      throw .unsupported(
        expected: "text, numbers, booleans, lists and structures of them", found: foreign,
        wayOut: "choose other columns or leave it out of the data set")
    }
    if let problem = chunk.problem { throw problem }
    guard chunk.type == type.physical else {
      throw .damaged("its type is not that of the schema, \(type.physical.name)")
    }
    self.file = file
    self.room = room
    self.type = type
    packing = try Self.packing(chunk.codec)
    unread = chunk.bytes
    leftInChunk = chunk.values
    try advance()
  }

  /// The value it stands at, which must not be null; nil for bytes that are no text. To be asked once.
  func value() throws(FileProblem) -> JSONValue? {
    guard let values, !isAtEnd else { throw .damaged("ends too early") }
    return try values.next()
  }

  func advance() throws(FileProblem) {
    while leftInPage == 0 {
      guard leftInChunk > 0 else {
        isAtEnd = true
        repetition = 0
        definition = 0
        return
      }
      try nextPage()
    }
    leftInPage -= 1
    repetition = try repetitions?.next() ?? 0
    definition = try definitions?.next() ?? 0
    guard repetition <= type.maximumRepetition, definition <= type.maximumDefinition else {
      throw .damaged(
        "levels \(repetition) and \(definition) where the schema allows "
          + "\(type.maximumRepetition) and \(type.maximumDefinition)")
    }
  }

  // MARK: Pages

  private func nextPage() throws(FileProblem) {
    guard !unread.isEmpty else { throw .damaged("\(leftInChunk) values are missing") }
    let header = try self.header()
    let start = unread.lowerBound + header.headerSize
    let stored = start..<start + header.packedSize
    unread = stored.upperBound..<unread.upperBound
    defer { file.release(stored) }
    let limit = header.kind == .dictionary ? room.dictionaryBytes : room.pageBytes
    guard header.size <= limit else { throw .tooLarge("pages", limit, header.size) }
    switch header.kind {
    case .data: try dataPage(header, stored)
    case .dataV2: try dataPageV2(header, stored)
    case .dictionary: try dictionaryPage(header, stored)
    case .index, nil: break
    }
  }

  private func header() throws(FileProblem) -> PageHeader {
    let result = unsafe file.withBytes { bytes -> Result<PageHeader, FileProblem> in
      let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[unread]).assumingMemoryBound(
        to: UInt8.self)
      do throws(FileProblem) {
        return .success(try PageHeader(unsafe Span(_unsafeElements: rest)))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  private func dataPage(_ header: PageHeader, _ stored: Range<Int>) throws(FileProblem) {
    let page = try unpack(stored, header, size: header.size, prefix: 0)
    var input = BitReader(page, page.indices)
    repetitions = try levels(
      &input, maximum: type.maximumRepetition, encoding: header.repetitionEncoding, size: nil)
    definitions = try levels(
      &input, maximum: type.maximumDefinition, encoding: header.definitionEncoding, size: nil)
    try begin(header, page, input.position)
  }

  private func dataPageV2(_ header: PageHeader, _ stored: Range<Int>) throws(FileProblem) {
    let prefix = header.repetitionSize + header.definitionSize
    let page = try unpack(stored, header, size: header.size, prefix: prefix)
    var input = BitReader(page, page.indices)
    let rle = Encoding.rle.rawValue
    repetitions = try levels(
      &input, maximum: type.maximumRepetition, encoding: rle, size: header.repetitionSize)
    definitions = try levels(
      &input, maximum: type.maximumDefinition, encoding: rle, size: header.definitionSize)
    try begin(header, page, prefix)
  }

  /// - Parameter size: bytes of the levels; nil where they say so themselves, in version 1 pages.
  private func levels(
    _ input: inout BitReader, maximum: Int, encoding: Int, size: Int?
  ) throws(FileProblem) -> RunReader? {
    if maximum == 0 {
      _ = try input.range(size ?? 0)
      return nil
    }
    guard encoding == Encoding.rle.rawValue else {
      throw .unsupported(expected: "levels in RLE", found: Encoding.name(encoding))
    }
    let length = if let size { size } else { Int(try input.littleEndian(4)) }
    let width = Int.bitWidth - maximum.leadingZeroBitCount
    return try RunReader(input.bytes, try input.range(length), width: width)
  }

  private func begin(_ header: PageHeader, _ page: [UInt8], _ start: Int) throws(FileProblem) {
    guard header.values <= leftInChunk else {
      throw .damaged("a page of \(header.values) values where \(leftInChunk) are left")
    }
    leftInChunk -= header.values
    leftInPage = header.values
    values = try makeValueReader(
      encoding: header.encoding, type, dictionary: dictionary, page: page, start..<page.count)
  }

  private func dictionaryPage(_ header: PageHeader, _ stored: Range<Int>) throws(FileProblem) {
    guard dictionary == nil else { throw .damaged("two dictionaries") }
    guard type.physical != .boolean else { throw .damaged("a dictionary of booleans") }
    let encoding = Encoding(rawValue: header.encoding)
    guard encoding == .plain || encoding == .plainDictionary else {
      throw .unsupported(expected: "a dictionary in PLAIN", found: Encoding.name(header.encoding))
    }
    let page = try unpack(stored, header, size: header.size, prefix: 0)
    let reader = PlainValues(type, page, page.indices)
    var values: [JSONValue?] = []
    for _ in 0..<header.values {
      values.append(try reader.next())
      let bytes = 2 * values.count * MemoryLayout<JSONValue?>.stride
      if bytes > room.dictionaryBytes { throw .tooLarge("dictionaries", room.dictionaryBytes) }
    }
    dictionary = values
  }

  // MARK: Bytes

  /// The page, `size` bytes. Its first `prefix` bytes are not packed.
  private func unpack(
    _ stored: Range<Int>, _ header: PageHeader, size: Int, prefix: Int
  ) throws(FileProblem) -> [UInt8] {
    let packing = header.isPacked ? packing : .none
    let result = unsafe file.withBytes { bytes -> Result<[UInt8], PackingError> in
      let stored = unsafe UnsafeRawBufferPointer(rebasing: bytes[stored])
      if let expected = header.checkSum, unsafe expected != checkSum(stored) {
        return .failure(PackingError(problem: "does not match its check sum"))
      }
      do throws(PackingError) {
        let rest = unsafe UnsafeRawBufferPointer(rebasing: stored[prefix...])
        let unpacked = try unsafe packing.unpack(rest, size: size - prefix)
        if prefix == 0 { return .success(unpacked) }
        return .success(unsafe Array(stored[..<prefix]) + unpacked)
      } catch {
        return .failure(error)
      }
    }
    switch result {
    case .success(let page): return page
    case .failure(let error): throw .damaged("a page: \(error.problem)")
    }
  }

  private static func packing(_ codec: Int) throws(FileProblem) -> Packing {
    switch codec {
    case 0: return .none
    case 1: return .snappy
    case 2: return .gzip
    case 6: return .zstd
    default:
      let names = [3: "LZO", 4: "BROTLI", 5: "LZ4", 7: "LZ4_RAW"]
      throw .unsupported(
        expected: "compression with snappy, zstd, gzip or none",
        found: names[codec] ?? "codec \(codec)")
    }
  }
}
