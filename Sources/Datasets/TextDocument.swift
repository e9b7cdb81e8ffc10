// A text file as one row with the column `text`.

internal import JSON

/// The whole file, to its last newline, is one row, as with `sample_by="document"` of `datasets`.
final class TextDocument: RowSource {
  static let column = "text"

  private let stream: ByteStream
  private var isRead = false

  init(_ file: DatasetFile) throws(DatasetError) {
    stream = try ByteStream(file)
  }

  func next() throws(DatasetError) -> SourceRow? {
    if isRead { return nil }
    isRead = true
    while try stream.more() {
      if stream.buffer.count > ByteStream.rowLimit {
        throw .rowTooLong(file: stream.path, place: "row 1", limit: ByteStream.rowLimit)
      }
    }
    do {
      let bytes = stream.buffer
      let text = String(copying: try UTF8Span(validating: bytes.span))
      return SourceRow(line: 1, value: .success(JSONObject([(Self.column, .string(text))])))
    } catch {
      let problem = "invalid UTF-8 at byte \(error.byteOffsets.lowerBound)"
      return SourceRow(line: 1, value: .failure(RowProblem(problem: problem)))
    }
  }

  func skip(_ count: Int) throws(DatasetError) -> Int {
    if isRead || count == 0 { return 0 }
    isRead = true
    return 1
  }
}
