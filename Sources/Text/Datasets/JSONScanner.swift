// Where JSON values end, without reading what is in them.

/// Finds where JSON values end.
final class JSONScanner {
  let stream: ByteStream

  init(_ stream: ByteStream) {
    self.stream = stream
  }

  /// The next byte that is not white space, which stays unread.
  func peek() throws(DatasetError) -> UInt8? {
    while true {
      while stream.position < stream.buffer.count {
        let byte = stream.buffer[stream.position]
        if !byte.isJSONSpace { return byte }
        stream.position += 1
      }
      guard try stream.more() else { return nil }
    }
  }

  func take(_ expected: Unicode.Scalar) throws(DatasetError) -> Bool {
    guard try peek() == UInt8(ascii: expected) else { return false }
    stream.position += 1
    return true
  }

  /// Reads on to the `,`, `]` or `}` behind the value, which stays unread, and returns where it stands in the buffer;
  /// nil where the file ends first.
  ///
  /// - Parameter keeping: whether the value stays in the buffer. If not, the range means nothing, and the value may have
  ///   any length.
  func value(keeping: Bool = true, endsAtColon: Bool = false) throws(DatasetError) -> Range<Int>? {
    _ = try peek()
    var extent = ValueExtent(endsAtColon: endsAtColon)
    var searched = 0
    while true {
      let start = stream.position
      if let end = stream.withBytes({ extent.end(in: $0, from: start + searched) }) {
        stream.position = end
        return start..<end
      }
      searched = stream.buffer.count - start
      if !keeping {
        stream.position = stream.buffer.count
        searched = 0
      } else if searched > stream.room.rowBytes {
        throw .rowTooLong(file: stream.path, place: "a value", limit: stream.room.rowBytes)
      }
      guard try stream.more() else { return nil }
    }
  }

  /// Passes over a whole value; an object or an array ends with its bracket. False where the file ends first.
  func skipValue() throws(DatasetError) -> Bool {
    let first = try peek()
    guard first == UInt8(ascii: "{") || first == UInt8(ascii: "[") else {
      return try value(keeping: false) != nil
    }
    // Seen from inside, the value ends at its closing bracket; commas end only its elements.
    stream.position += 1
    while true {
      guard try value(keeping: false) != nil else { return false }
      let end = stream.buffer[stream.position]
      stream.position += 1
      if end != UInt8(ascii: ",") { return true }
    }
  }

  func damage(after row: Int, _ problem: String) -> DatasetError {
    .damaged(
      file: stream.path, place: row == 0 ? "before the first row" : "after row \(row)",
      problem: problem)
  }
}

/// How deep in brackets and quotes the bytes so far have led.
private struct ValueExtent {
  let endsAtColon: Bool
  private var depth = 0
  private var inString = false
  private var isEscaped = false

  init(endsAtColon: Bool) {
    self.endsAtColon = endsAtColon
  }

  mutating func end(in bytes: Span<UInt8>, from start: Int) -> Int? {
    var index = start
    while index < bytes.count {
      let byte = bytes[index]
      if inString {
        if isEscaped {
          isEscaped = false
        } else if byte == UInt8(ascii: "\\") {
          isEscaped = true
        } else if byte == UInt8(ascii: "\"") {
          inString = false
        }
      } else {
        switch byte {
        case UInt8(ascii: "\""): inString = true
        case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
        case UInt8(ascii: "}"), UInt8(ascii: "]"):
          if depth == 0 { return index }
          depth -= 1
        case UInt8(ascii: ","):
          if depth == 0 { return index }
        case UInt8(ascii: ":"):
          if depth == 0, endsAtColon { return index }
        default: break
        }
      }
      index += 1
    }
    return nil
  }
}
