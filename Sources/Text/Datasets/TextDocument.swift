// A text file as one row with the column `text`.

internal import JSON

/// The whole file is one row, as with `sample_by="document"` of `datasets`. Of a long file only the beginning is read;
/// `Dataset.longer` reads more.
final class TextDocument: RowSource {
  static let column = "text"
  /// What is read of a text at first: many times what a sequence of tokens takes.
  static let firstBytes = 1 << 20

  private let stream: ByteStream
  private let byteLimit: Int
  private var isRead = false

  /// - Parameter byteLimit: of the text; it ends at a whole character.
  init(
    _ file: DatasetFile, _ room: Room, byteLimit: Int = TextDocument.firstBytes
  ) throws(DatasetError) {
    stream = try ByteStream(file, room)
    self.byteLimit = byteLimit
  }

  func next() throws(DatasetError) -> SourceRow? {
    if isRead { return nil }
    isRead = true
    // The byte behind the limit tells whether the text goes on.
    while stream.buffer.count - stream.position <= byteLimit {
      guard try stream.more() else { break }
    }
    let start = stream.position
    var end = stream.buffer.count
    let isCut = end - start > byteLimit
    if isCut {
      end = start + byteLimit
      while end > start, stream.buffer[end] & 0xC0 == 0x80 { end -= 1 }
    }
    let text = stream.withBytes { bytes -> Result<String, RowProblem> in
      do throws(UTF8.ValidationError) {
        return .success(
          String(copying: try UTF8Span(validating: bytes.extracting(start..<end))))
      } catch {
        return .failure(
          RowProblem(problem: "invalid UTF-8 at byte \(error.byteOffsets.lowerBound)"))
      }
    }
    return SourceRow(
      line: 1, value: text.map { JSONObject([(Self.column, .string($0))]) }, isCut: isCut)
  }

  func skip(_ count: Int) throws(DatasetError) -> Int {
    if isRead || count == 0 { return 0 }
    isRead = true
    return 1
  }
}
