// The rows of a data set, one after another, file by file.

package import JSON

/// Why a row cannot be used while the rows around it can.
package struct RowProblem: Error, CustomStringConvertible, Equatable {
  package let problem: String

  package var description: String { problem }
}

/// One row and where it stands.
package struct DatasetRow: Sendable {
  package let file: String
  /// Counted from 0 over the whole data set, damaged rows included.
  package let index: Int
  /// Counted from 1: the line in a file of JSON lines, the row in other files.
  package let line: Int
  package let isLine: Bool
  package let value: Result<JSONObject, RowProblem>
  /// Whether the value is a text of which only the beginning was read.
  package let isCut: Bool

  init(
    file: String, index: Int, line: Int, isLine: Bool, value: Result<JSONObject, RowProblem>,
    isCut: Bool = false
  ) {
    self.file = file
    self.index = index
    self.line = line
    self.isLine = isLine
    self.value = value
    self.isCut = isCut
  }

  /// A row that lies in no file.
  package init(file: String, index: Int, value: JSONObject) {
    self.init(file: file, index: index, line: index + 1, isLine: false, value: .success(value))
  }

  /// `chats.jsonl: line 7`, for messages.
  package var place: String { "\(file): \(isLine ? "line" : "row") \(line)" }
}

/// Reads forward, at its caller's pace; what it holds does not grow with the files.
///
/// After an error is thrown the reader must not be used again.
package final class DatasetReader {
  private let files: [DatasetFile]
  private let columns: ChosenColumns?
  private let room: Room
  private var source: (any RowSource)?
  private var nextFile = 0
  /// The index of the row that `next` will return.
  package private(set) var index = 0

  init(files: [DatasetFile], columns: ChosenColumns?, room: Room) {
    self.files = files
    self.columns = columns
    self.room = room
  }

  /// Nil after the last row.
  package func next() throws(DatasetError) -> DatasetRow? {
    while let source = try openFile() {
      if let row = try source.next() {
        defer { index += 1 }
        let file = files[nextFile - 1]
        return DatasetRow(
          file: file.name, index: index, line: row.line, isLine: file.format == .jsonLines,
          value: row.value.map(chosen), isCut: row.isCut)
      }
      self.source = nil
    }
    return nil
  }

  /// Passes over rows until the next one is number `index`, or the data set ends. Quicker than reading them: of parquet
  /// files the least possible is parsed, of others nothing.
  package func skip(to index: Int) throws(DatasetError) {
    precondition(index >= self.index, "rows cannot be read twice")
    while self.index < index, let source = try openFile() {
      let wanted = index - self.index
      let skipped = try source.skip(wanted)
      self.index += skipped
      if skipped < wanted { self.source = nil }
    }
  }

  private func openFile() throws(DatasetError) -> (any RowSource)? {
    if let source { return source }
    guard nextFile < files.count else { return nil }
    let file = files[nextFile]
    nextFile += 1
    let opened: any RowSource
    switch file.format {
    case .jsonLines: opened = try JSONLines(file, room)
    case .json: opened = try openJSONFile(file, room)
    case .text: opened = try TextDocument(file, room)
    case .table(let delimiter): opened = try CSVRows(file, room, delimiter: delimiter)
    case .parquet: opened = try ParquetFile(path: file.path, columns: columns, room)
    }
    source = opened
    return opened
  }

  private func chosen(_ object: JSONObject) -> JSONObject {
    guard let columns, !object.keys.allSatisfy(columns.contains) else { return object }
    return JSONObject(
      object.entries.filter { columns.contains($0.key) }.map { ($0.key, $0.value) })
  }
}

/// The rows of one file.
protocol RowSource: AnyObject {
  /// Nil after the last row.
  func next() throws(DatasetError) -> SourceRow?

  /// Passes over `count` rows; returns how many there were.
  func skip(_ count: Int) throws(DatasetError) -> Int
}

struct SourceRow {
  let line: Int
  let value: Result<JSONObject, RowProblem>
  /// Whether more of the text follows in the file.
  var isCut = false
}

extension ByteStream {
  /// The row that the bytes in `range` of the buffer spell: JSON that should be one object.
  func row(in range: Range<Int>, line: Int, place: String) throws(DatasetError) -> SourceRow {
    let limit = room.valueBytes
    let parsed = withBytes { bytes -> Result<JSONValue, JSONError> in
      do throws(JSONError) {
        return .success(try JSONValue.parse(bytes.extracting(range), limit: limit))
      } catch {
        return .failure(error)
      }
    }
    switch parsed {
    case .success(.object(let object)): return SourceRow(line: line, value: .success(object))
    case .success(let other):
      return SourceRow(
        line: line,
        value: .failure(RowProblem(problem: "expected an object, found \(other.kind)")))
    case .failure(let error) where error.isTooLarge:
      throw .rowTooLong(file: path, place: place, limit: limit)
    case .failure(let error):
      return SourceRow(line: line, value: .failure(RowProblem(problem: "\(error)")))
    }
  }
}
