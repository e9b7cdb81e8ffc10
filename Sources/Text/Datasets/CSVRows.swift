// Rows of a table as text: fields between commas or tabs, names in the first row.

internal import JSON

/// Fields may stand in double quotes, and then hold delimiters, line ends and quotes that are doubled. Rows without any
/// character are no rows.
///
/// Source: RFC 4180; in what that leaves open, Python's `csv`.
final class CSVRows: RowSource {
  private let stream: ByteStream
  private let delimiter: UInt8
  /// What the columns are called.
  private(set) var columns: [String] = []
  private var row = 0
  /// The line in which the row that was read last begins, and the one behind its end.
  private var firstLine = 1
  private var nextLine = 1

  init(_ file: DatasetFile, _ room: Room, delimiter: UInt8) throws(DatasetError) {
    stream = try ByteStream(file, room)
    self.delimiter = delimiter
    guard let range = try nextRow() else {
      throw .damaged(file: stream.path, place: "row 1", problem: "no row with names of columns")
    }
    let names: [String]
    switch fields(in: range) {
    case .success(let fields): names = fields.enumerated().map { $1 ?? "unnamed \($0)" }
    case .failure(let problem):
      throw .damaged(file: stream.path, place: "row 1", problem: problem.problem)
    }
    var known: Set<String> = []
    for name in names where !known.insert(name).inserted {
      throw .damaged(
        file: stream.path, place: "row 1", problem: "two columns are called `\(name)`")
    }
    columns = names
    row = 0
  }

  func next() throws(DatasetError) -> SourceRow? {
    guard let range = try nextRow() else { return nil }
    let value = fields(in: range).flatMap { fields -> Result<JSONObject, RowProblem> in
      if fields.count != columns.count {
        return .failure(
          RowProblem(problem: "has \(fields.count) fields, the first row \(columns.count)"))
      }
      return .success(
        JSONObject(zip(columns, fields).map { ($0, $1.map { .string($0) } ?? .null) }))
    }
    return SourceRow(line: row, value: value)
  }

  func skip(_ count: Int) throws(DatasetError) -> Int {
    for done in 0..<count where try nextRow() == nil { return done }
    return count
  }

  // MARK: Bytes

  private enum Place {
    case fieldStart, plain, quoted
    /// Behind a quote within quotes: the end of them, or the first of two.
    case afterQuote
  }

  /// Where the next row that holds anything stands in the buffer, without its end.
  private func nextRow() throws(DatasetError) -> Range<Int>? {
    while let range = try nextRange() {
      if range.isEmpty { continue }
      row += 1
      return range
    }
    return nil
  }

  private func nextRange() throws(DatasetError) -> Range<Int>? {
    firstLine = nextLine
    var line = firstLine
    var quoteLine = line
    var place = Place.fieldStart
    var searched = 0
    while true {
      let start = stream.position
      let end = stream.withBytes { bytes -> Int? in
        var index = start + searched
        while index < bytes.count {
          let byte = bytes[index]
          if byte == UInt8(ascii: "\n") {
            line += 1
            if place != .quoted { return index }
          }
          let before = place
          advance(&place, byte)
          if before == .fieldStart, place == .quoted { quoteLine = line }
          index += 1
        }
        return nil
      }
      if let end {
        stream.position = end + 1
        nextLine = line
        let hasReturn = end > start && stream.buffer[end - 1] == UInt8(ascii: "\r")
        return start..<(hasReturn ? end - 1 : end)
      }
      searched = stream.buffer.count - start
      if searched > stream.room.rowBytes {
        let (file, limit) = (stream.path, stream.room.rowBytes)
        if place == .quoted {
          throw .unsupported(
            file: file, what: "row \(row + 1): \(Self.unclosed(quoteLine))",
            expected: "a row of at most \(limit >> 20) MiB", found: "more",
            wayOut: "close the quote, or raise --memory")
        }
        throw .rowTooLong(file: file, place: "row \(row + 1)", limit: limit)
      }
      if try !stream.more() {
        // The last row may lack its end. `more` has moved it to the front.
        if searched == 0 { return nil }
        stream.position = searched
        return 0..<searched
      }
    }
  }

  private static func unclosed(_ line: Int) -> String {
    "the quote that opens in line \(line) is not closed"
  }

  private func advance(_ place: inout Place, _ byte: UInt8) {
    let isQuote = byte == UInt8(ascii: "\"")
    switch place {
    case .fieldStart where isQuote: place = .quoted
    case .quoted: if isQuote { place = .afterQuote }
    case .afterQuote where isQuote: place = .quoted
    case .fieldStart, .plain, .afterQuote: place = byte == delimiter ? .fieldStart : .plain
    }
  }

  /// The fields of a row; nil for one without a character that stands in no quotes.
  private func fields(in range: Range<Int>) -> Result<[String?], RowProblem> {
    var fields: [String?] = []
    var field: [UInt8] = []
    var wasQuoted = false
    var line = firstLine
    var quoteLine = line
    var place = Place.fieldStart
    let problem = stream.withBytes { bytes -> RowProblem? in
      func end() -> RowProblem? {
        if fields.count == Dataset.mostColumns {
          return RowProblem(problem: "has more than \(Dataset.mostColumns) fields")
        }
        if field.isEmpty, !wasQuoted {
          fields.append(nil)
        } else if let text = String(validating: field, as: UTF8.self) {
          fields.append(text)
        } else {
          return RowProblem(problem: "field \(fields.count + 1) is not UTF-8")
        }
        (field, wasQuoted) = ([], false)
        return nil
      }
      for index in range {
        let byte = bytes[index]
        if byte == UInt8(ascii: "\n") { line += 1 }
        let before = place
        advance(&place, byte)
        switch (before, place) {
        case (.fieldStart, .quoted): (wasQuoted, quoteLine) = (true, line)
        case (.quoted, .afterQuote): break
        case (_, .fieldStart): if let problem = end() { return problem }
        default: field.append(byte)
        }
      }
      if place == .quoted {
        return RowProblem(
          problem: Self.unclosed(quoteLine) + ", which takes in the rest of the file")
      }
      return end()
    }
    return problem.map { .failure($0) } ?? .success(fields)
  }
}
