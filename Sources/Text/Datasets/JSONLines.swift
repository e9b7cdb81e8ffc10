// One JSON object a line.

/// Blank lines are no rows, but count as lines.
final class JSONLines: RowSource {
  private let stream: ByteStream
  private var line = 0

  init(_ file: DatasetFile, _ room: Room) throws(DatasetError) {
    stream = try ByteStream(file, room)
  }

  func next() throws(DatasetError) -> SourceRow? {
    guard let range = try nextRow() else { return nil }
    return try stream.row(in: range, line: line, place: "line \(line)")
  }

  func skip(_ count: Int) throws(DatasetError) -> Int {
    for done in 0..<count where try nextRow() == nil { return done }
    return count
  }

  /// Where the next line that is not blank stands in the buffer.
  private func nextRow() throws(DatasetError) -> Range<Int>? {
    while let range = try nextLine() {
      if !stream.withBytes({ $0.extracting(range).isBlank }) { return range }
    }
    return nil
  }

  private func nextLine() throws(DatasetError) -> Range<Int>? {
    var searched = 0
    while true {
      let start = stream.position
      if let end = stream.withBytes({
        $0.firstIndex(of: UInt8(ascii: "\n"), from: start + searched)
      }) {
        line += 1
        stream.position = end + 1
        return start..<end
      }
      searched = stream.buffer.count - start
      if searched > stream.room.rowBytes {
        throw .rowTooLong(
          file: stream.path, place: "line \(line + 1)", limit: stream.room.rowBytes)
      }
      if try !stream.more() {
        // The last line may lack its end. `more` has moved it to the front.
        if searched == 0 { return nil }
        line += 1
        stream.position = searched
        return 0..<searched
      }
    }
  }
}

extension Span<UInt8> {
  fileprivate var isBlank: Bool {
    for index in indices where !self[index].isJSONSpace { return false }
    return true
  }

  fileprivate func firstIndex(of byte: UInt8, from start: Int) -> Int? {
    var index = start
    while index < count {
      if self[index] == byte { return index }
      index += 1
    }
    return nil
  }
}

extension UInt8 {
  var isJSONSpace: Bool { self == 0x20 || self == 0x0A || self == 0x0D || self == 0x09 }
}
