// A file that is one JSON value: an array of rows, or an object with one array of rows.

internal import JSON

/// A `.json` file by its content: many write JSON lines under that name.
func openJSONFile(_ file: DatasetFile, _ room: Room) throws(DatasetError) -> any RowSource {
  let scanner = JSONScanner(try ByteStream(file, room))
  if try scanner.peek() == UInt8(ascii: "{") {
    // A second value after the first makes it lines.
    if try scanner.skipValue(), try scanner.peek() != nil { return try JSONLines(file, room) }
  }
  return try JSONDocument(file, room)
}

/// Hands out the elements of the array without ever holding the whole file. Only brackets, commas and strings are
/// looked at to find where an element ends, so that a damaged one does not cost those after it.
final class JSONDocument: RowSource {
  private enum State {
    case start
    /// In the array of rows.
    case rows
    case end
  }

  private let scanner: JSONScanner
  private var state = State.start
  private var row = 0
  /// The key of the array of rows, where the outer value is an object.
  private var rowsKey: String?

  init(_ file: DatasetFile, _ room: Room) throws(DatasetError) {
    scanner = JSONScanner(try ByteStream(file, room))
  }

  func next() throws(DatasetError) -> SourceRow? {
    guard let range = try nextRow(keeping: true) else { return nil }
    return try scanner.stream.row(in: range, line: row, place: "row \(row)")
  }

  func skip(_ count: Int) throws(DatasetError) -> Int {
    for done in 0..<count where try nextRow(keeping: false) == nil { return done }
    return count
  }

  private func nextRow(keeping: Bool) throws(DatasetError) -> Range<Int>? {
    switch state {
    case .end: return nil
    case .start:
      switch try scanner.peek() {
      case UInt8(ascii: "["):
        scanner.stream.position += 1
      case UInt8(ascii: "{"):
        scanner.stream.position += 1
        guard try enterArray() else {
          throw .notRows(file: scanner.stream.path, found: "an object without an array")
        }
      case nil: throw .notRows(file: scanner.stream.path, found: "nothing")
      default: throw .notRows(file: scanner.stream.path, found: "a single value")
      }
      state = .rows
      if try scanner.peek() == UInt8(ascii: "]") { return try leaveArray() }
    case .rows:
      if try scanner.take(",") {
        break
      } else if try scanner.peek() == UInt8(ascii: "]") {
        return try leaveArray()
      }
      throw scanner.damage(after: row, "expected `,` or `]`")
    }
    guard let range = try scanner.value(keeping: keeping) else {
      throw scanner.damage(after: row, "the array does not end")
    }
    row += 1
    return range
  }

  /// Goes to the first element of the next array that is a value of the outer object; false where it ends first.
  private func enterArray() throws(DatasetError) -> Bool {
    while true {
      if try scanner.take("}") { return false }
      guard try scanner.peek() == UInt8(ascii: "\""),
        let range = try scanner.value(endsAtColon: true),
        let key = (try? JSONValue.parse(Array(scanner.stream.buffer[range])))?.string,
        try scanner.take(":")
      else { throw scanner.damage(after: row, "expected a key in quotes and `:`") }
      if try scanner.take("[") {
        if let first = rowsKey {
          throw .notRows(
            file: scanner.stream.path, found: "an object with two arrays, `\(first)` and `\(key)`")
        }
        rowsKey = key
        return true
      }
      guard try scanner.skipValue() else {
        throw scanner.damage(after: row, "the object does not end")
      }
      if try scanner.take(",") { continue }
      guard try scanner.peek() == UInt8(ascii: "}") else {
        throw scanner.damage(after: row, "expected `,` or `}`")
      }
    }
  }

  /// Checks what stands behind the array.
  private func leaveArray() throws(DatasetError) -> Range<Int>? {
    scanner.stream.position += 1
    state = .end
    if rowsKey != nil {
      if try scanner.take(",") {
        _ = try enterArray()
      } else if try !scanner.take("}") {
        throw scanner.damage(after: row, "expected `,` or `}`")
      }
    }
    guard try scanner.peek() == nil else {
      throw scanner.damage(after: row, "expected the end of the file")
    }
    return nil
  }
}
