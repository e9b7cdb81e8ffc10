// Protocol buffer messages field by field, of which SentencePiece's models are made.

/// A field of a message: its number and what it holds.
struct MessageField {
  enum Value {
    case varint(UInt64)
    case fixed64(UInt64)
    case bytes(ArraySlice<UInt8>)
    case fixed32(UInt32)
  }

  let number: UInt64
  /// Where it starts in the file.
  let start: Int
  let value: Value
}

/// Reads the fields of a message in order. Lengths are held against what is left, so nothing is allocated that the
/// file does not hold.
struct MessageReader {
  struct Problem: Error {
    let at: Int
    let text: String
  }

  private let bytes: ArraySlice<UInt8>
  private var position: Int

  init(_ bytes: ArraySlice<UInt8>) {
    self.bytes = bytes
    position = bytes.startIndex
  }

  /// The next field; nil at the end.
  mutating func next() throws(Problem) -> MessageField? {
    if position == bytes.endIndex { return nil }
    let start = position
    let tag = try varint()
    guard (1..<1 << 29).contains(tag >> 3) else {
      throw Problem(at: start, text: "field number \(tag >> 3) does not exist")
    }
    let value: MessageField.Value
    switch tag & 7 {
    case 0: value = .varint(try varint())
    case 1: value = .fixed64(try fixed(8))
    case 2:
      let length = try varint()
      guard length <= UInt64(bytes.endIndex - position) else {
        throw Problem(
          at: start, text: "a field of \(length) bytes, but \(bytes.endIndex - position) follow")
      }
      value = .bytes(bytes[position..<position + Int(length)])
      position += Int(length)
    case 5: value = .fixed32(UInt32(truncatingIfNeeded: try fixed(4)))
    case let other: throw Problem(at: start, text: "wire type \(other) does not exist here")
    }
    return MessageField(number: tag >> 3, start: start, value: value)
  }

  private mutating func varint() throws(Problem) -> UInt64 {
    let start = position
    var value: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 70, by: 7) {
      guard position < bytes.endIndex else { throw Problem(at: start, text: "a number is cut off") }
      let byte = bytes[position]
      position += 1
      value |= UInt64(byte & 0x7F) << shift
      if byte < 0x80 { return value }
    }
    throw Problem(at: start, text: "a number has more than ten bytes")
  }

  private mutating func fixed(_ count: Int) throws(Problem) -> UInt64 {
    guard bytes.endIndex - position >= count else {
      throw Problem(at: position, text: "a number is cut off")
    }
    var value: UInt64 = 0
    for index in 0..<count { value |= UInt64(bytes[position + index]) << UInt64(8 * index) }
    position += count
    return value
  }
}

extension MessageField {
  func bytes(_ name: String) throws(MessageReader.Problem) -> ArraySlice<UInt8> {
    guard case .bytes(let bytes) = value else { throw wrongType(name, "bytes") }
    return bytes
  }

  func text(_ name: String) throws(MessageReader.Problem) -> [UInt8] {
    let text = Array(try bytes(name))
    guard (try? UTF8Span(validating: text.span)) != nil else {
      throw MessageReader.Problem(at: start, text: "`\(name)` is not UTF-8")
    }
    return text
  }

  func float(_ name: String) throws(MessageReader.Problem) -> Float {
    guard case .fixed32(let bits) = value else { throw wrongType(name, "a float") }
    return Float(bitPattern: bits)
  }

  /// A 32-bit integer, negative ones as protocol buffers write them.
  func int(_ name: String) throws(MessageReader.Problem) -> Int32 {
    guard case .varint(let bits) = value else { throw wrongType(name, "an integer") }
    return Int32(truncatingIfNeeded: bits)
  }

  private func wrongType(_ name: String, _ expected: String) -> MessageReader.Problem {
    MessageReader.Problem(at: start, text: "`\(name)` is not \(expected)")
  }
}
