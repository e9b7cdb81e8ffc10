// Bytes to JSONValue: RFC 8259 to the letter, and Python's NaN and Infinity where asked. Errors name the byte.

/// Where a text stops being JSON, and why.
package struct JSONError: Error, CustomStringConvertible, Equatable {
  package let offset: Int
  package let problem: String
  /// The key, where the problem is that an object holds it twice.
  package let duplicateKey: String?
  /// Whether the problem is that the value takes more memory than it may.
  package let isTooLarge: Bool

  package init(
    offset: Int, problem: String, duplicateKey: String? = nil, isTooLarge: Bool = false
  ) {
    self.offset = offset
    self.problem = problem
    self.duplicateKey = duplicateKey
    self.isTooLarge = isTooLarge
  }

  package var description: String { "\(problem) at byte \(offset)" }
}

extension JSONValue {
  /// - Parameters:
  ///   - limit: bytes that the value may take, as far as they can be foretold.
  ///   - allowsNonFinite: whether `NaN`, `Infinity` and `-Infinity` are numbers, as Python's `json` writes them.
  package static func parse(
    _ bytes: [UInt8], limit: Int = .max, allowsNonFinite: Bool = false
  ) throws(JSONError) -> JSONValue {
    try parse(bytes.span, limit: limit, allowsNonFinite: allowsNonFinite)
  }

  package static func parse(
    _ bytes: Span<UInt8>, limit: Int = .max, allowsNonFinite: Bool = false
  ) throws(JSONError) -> JSONValue {
    var parser = Parser(bytes, limit: limit)
    parser.allowsNonFinite = allowsNonFinite
    return try parser.document()
  }

  /// - Parameter bytes: valid until the call returns.
  @unsafe
  package static func parse(
    _ bytes: UnsafeRawBufferPointer, limit: Int = .max
  ) throws(JSONError) -> JSONValue {
    let elements = unsafe bytes.assumingMemoryBound(to: UInt8.self)
    return try parse(unsafe Span(_unsafeElements: elements), limit: limit)
  }
}

/// Recursive descent; the span checks every index, so no input can read outside it.
private struct Parser: ~Escapable {
  /// Deeper nesting is refused before it can exhaust the stack of a worker thread (512 KiB).
  static let maximumDepth = 128

  /// What one more value of a list takes: a list that grows is there twice while it is copied.
  private static let elementBytes = 2 * MemoryLayout<JSONValue>.stride
  /// What a member of an object takes, with its key and its place in the table of keys.
  private static let memberBytes = elementBytes + 2 * MemoryLayout<String>.stride + 96
  /// Beside what it holds, a list, an object or a text takes this.
  private static let headerBytes = 32

  let bytes: Span<UInt8>
  var position = 0
  var depth = 0
  private let limit: Int
  private var left: Int
  var allowsNonFinite = false

  @_lifetime(copy bytes)
  init(_ bytes: Span<UInt8>, limit: Int) {
    self.bytes = bytes
    self.limit = limit
    left = limit
  }

  private mutating func spend(_ bytes: Int) throws(JSONError) {
    left -= bytes
    if left < 0 {
      throw JSONError(
        offset: position, problem: "takes more than \(limit >> 20) MiB of memory",
        isTooLarge: true)
    }
  }

  /// A text of so many bytes; a short one takes no memory of its own.
  private mutating func spendText(_ bytes: Int) throws(JSONError) {
    if bytes > 16 { try spend(bytes + Self.headerBytes) }
  }

  mutating func document() throws(JSONError) -> JSONValue {
    skipByteOrderMark()
    skipSpace()
    let value = try value()
    skipSpace()
    guard position == bytes.count else { throw failure("expected the end of the text") }
    return value
  }

  /// Some editors write a byte order mark. The RFC lets a parser ignore it.
  private mutating func skipByteOrderMark() {
    let mark: [UInt8] = [0xEF, 0xBB, 0xBF]
    if bytes.count >= mark.count, mark.indices.allSatisfy({ bytes[$0] == mark[$0] }) {
      position = mark.count
    }
  }

  private mutating func value() throws(JSONError) -> JSONValue {
    guard let first = peek() else { throw failure("expected a value") }
    switch first {
    case UInt8(ascii: "{"): return try nested { parser throws(JSONError) in try parser.object() }
    case UInt8(ascii: "["): return try nested { parser throws(JSONError) in try parser.array() }
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "-") where allowsNonFinite && isInfinity(at: position + 1):
      position += 1
      return try word("Infinity", .number(JSONNumber(checkedLiteral: "-Infinity")))
    case UInt8(ascii: "I") where allowsNonFinite:
      return try word("Infinity", .number(JSONNumber(checkedLiteral: "Infinity")))
    case UInt8(ascii: "N") where allowsNonFinite:
      return try word("NaN", .number(JSONNumber(checkedLiteral: "NaN")))
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number(try number())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    default: throw failure("expected a value")
    }
  }

  private mutating func nested(
    _ body: (inout Parser) throws(JSONError) -> JSONValue
  ) throws(JSONError) -> JSONValue {
    guard depth < Self.maximumDepth else {
      throw failure("nested more than \(Self.maximumDepth) deep")
    }
    depth += 1
    defer { depth -= 1 }
    try spend(2 * Self.headerBytes)
    return try body(&self)
  }

  private mutating func object() throws(JSONError) -> JSONValue {
    position += 1
    var object = JSONObject()
    skipSpace()
    if take("}") { return .object(object) }
    while true {
      let start = position
      guard peek() == UInt8(ascii: "\"") else { throw failure("expected a key in quotes") }
      let key = try string()
      skipSpace()
      guard take(":") else { throw failure("expected `:` after the key `\(key)`") }
      skipSpace()
      try spend(Self.memberBytes)
      guard object.append(key, try value()) else {
        throw JSONError(
          offset: start, problem: "key `\(key)` appears twice", duplicateKey: key)
      }
      skipSpace()
      if take("}") { return .object(object) }
      guard take(",") else { throw failure("expected `,` or `}`") }
      skipSpace()
    }
  }

  private mutating func array() throws(JSONError) -> JSONValue {
    position += 1
    var elements: [JSONValue] = []
    skipSpace()
    if take("]") { return .array(elements) }
    while true {
      try spend(Self.elementBytes)
      elements.append(try value())
      skipSpace()
      if take("]") { return .array(elements) }
      guard take(",") else { throw failure("expected `,` or `]`") }
      skipSpace()
    }
  }

  private mutating func word(
    _ word: StaticString, _ value: JSONValue
  ) throws(JSONError) -> JSONValue {
    let start = position
    for byte in "\(word)".utf8 {
      guard peek() == byte else { throw failure("expected a value", at: start) }
      position += 1
    }
    return value
  }

  // MARK: Numbers

  private func isInfinity(at place: Int) -> Bool {
    place < bytes.count && bytes[place] == UInt8(ascii: "I")
  }

  private mutating func number() throws(JSONError) -> JSONNumber {
    let start = position
    let negative = take("-")
    let digits = position
    var magnitude = 0
    var fits = true
    while let digit = takeDigit() {
      let (shifted, overflowed) = magnitude.multipliedReportingOverflow(by: 10)
      let (sum, carried) = shifted.addingReportingOverflow(digit)
      fits = fits && !overflowed && !carried
      magnitude = sum
    }
    guard position > digits else { throw failure("expected a digit") }
    if bytes[digits] == UInt8(ascii: "0"), position > digits + 1 {
      throw failure("a number starts with a superfluous zero", at: start)
    }
    var isInteger = true
    if take(".") {
      isInteger = false
      try skipDigits()
    }
    if take("e") || take("E") {
      isInteger = false
      _ = take("+") || take("-")
      try skipDigits()
    }
    if isInteger, fits, !(negative && magnitude == 0) {
      return JSONNumber(negative ? -magnitude : magnitude)
    }
    try spendText(position - start)
    return JSONNumber(checkedLiteral: try text(start..<position))
  }

  private mutating func takeDigit() -> Int? {
    guard let byte = peek(), byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else {
      return nil
    }
    position += 1
    return Int(byte &- UInt8(ascii: "0"))
  }

  private mutating func skipDigits() throws(JSONError) {
    guard takeDigit() != nil else { throw failure("expected a digit") }
    while takeDigit() != nil {}
  }

  // MARK: Strings

  private mutating func string() throws(JSONError) -> String {
    let quote = position
    position += 1
    var result = ""
    var runStart = position
    while let byte = peek() {
      switch byte {
      case UInt8(ascii: "\""):
        let run = try text(runStart..<position)
        position += 1
        try spendText(position - quote)
        return result.isEmpty ? run : result + run
      case UInt8(ascii: "\\"):
        // A text that grows is copied: what was there counts again.
        try spend(position - runStart + 4)
        result += try text(runStart..<position)
        result.unicodeScalars.append(try escape())
        runStart = position
      case 0..<0x20:
        throw failure("control character in a string; it must be escaped")
      default:
        position += 1
      }
    }
    throw failure("string without closing quote", at: quote)
  }

  private mutating func escape() throws(JSONError) -> Unicode.Scalar {
    let start = position
    position += 1
    guard let kind = peek() else { throw failure("unfinished escape", at: start) }
    position += 1
    switch kind {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(kind)
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{C}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"): break
    default: throw failure("unknown escape", at: start)
    }
    let first = try hexadecimal()
    if let scalar = Unicode.Scalar(first) { return scalar }
    // A surrogate means something only as a high half followed at once by the escape of a low one.
    guard first < 0xDC00, take("\\"), take("u") else {
      throw failure("lone surrogate in an escape", at: start)
    }
    let second = try hexadecimal()
    guard (0xDC00..<0xE000).contains(second),
      let scalar = Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
    else { throw failure("lone surrogate in an escape", at: start) }
    return scalar
  }

  private mutating func hexadecimal() throws(JSONError) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = peek(), let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
        throw failure("expected four hexadecimal digits")
      }
      value = value << 4 | UInt32(digit)
      position += 1
    }
    return value
  }

  /// The bytes of `range` as text, refused where they are not UTF-8.
  private func text(_ range: Range<Int>) throws(JSONError) -> String {
    do {
      return String(copying: try UTF8Span(validating: bytes.extracting(range)))
    } catch {
      throw failure("invalid UTF-8", at: range.lowerBound + error.byteOffsets.lowerBound)
    }
  }

  // MARK: Bytes

  private func peek() -> UInt8? {
    position < bytes.count ? bytes[position] : nil
  }

  private mutating func take(_ expected: Unicode.Scalar) -> Bool {
    guard peek() == UInt8(ascii: expected) else { return false }
    position += 1
    return true
  }

  private mutating func skipSpace() {
    while let byte = peek(), byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 {
      position += 1
    }
  }

  private func failure(_ problem: String, at offset: Int? = nil) -> JSONError {
    JSONError(offset: offset ?? position, problem: problem)
  }
}
