// Rows of token ids from a JSON-lines file.

internal import JSON
internal import SystemIO

/// A data set that cannot be used.
package enum CalibrationError: Error, CustomStringConvertible, Equatable {
  /// `problem` is a whole sentence about the file.
  case unreadable(path: String, problem: String)
  case badRow(path: String, line: Int, problem: String)
  case noInputIDs(path: String, line: Int, keys: [String])
  case badToken(path: String, line: Int, position: Int, found: String, vocabularySize: Int)
  case empty(path: String)

  package var description: String {
    switch self {
    case .unreadable(_, let problem): problem
    case .badRow(let path, let line, let problem):
      "\(path): line \(line): \(problem); every line is an object with a list `input_ids`"
    case .noInputIDs(let path, let line, let keys):
      "\(path): line \(line) has no `input_ids`, only \(keys.map { "`\($0)`" }.joined(separator: ", ")); "
        + "tokenize the data set first"
    case .badToken(let path, let line, let position, let found, let vocabularySize):
      "\(path): line \(line): token \(position) is \(found), expected a whole number below "
        + "\(vocabularySize); the ids belong to another tokenizer"
    case .empty(let path): "\(path): no row with tokens; give a file with at least one"
    }
  }
}

/// Token sequences to run through the model.
package struct CalibrationData: Sendable, Equatable {
  /// Never empty; none of the sequences is.
  package let sequences: [[Int32]]
  /// Rows without a token, which were passed over.
  package let emptyRows: Int
  /// Rows that were cut to the sequence length.
  package let cutRows: Int

  package var tokens: Int { sequences.reduce(0) { $0 + $1.count } }
  package var longest: Int { sequences.map(\.count).max() ?? 0 }

  /// The first `samples` rows that hold tokens, each cut to its first `sequenceLength`. Reading stops there.
  package init(
    path: String, samples: Int, sequenceLength: Int, vocabularySize: Int
  ) throws(CalibrationError) {
    let file: MappedFile
    do {
      file = try MappedFile(path: path)
    } catch {
      throw .unreadable(path: path, problem: "\(error)")
    }
    var sequences: [[Int32]] = []
    var emptyRows = 0
    var cutRows = 0
    var line = 0
    var start = 0
    while start < file.byteCount, sequences.count < samples {
      line += 1
      let row = Self.line(of: file, from: start)
      start += row.count + 1
      if row.allSatisfy({ $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\r") }) { continue }
      let ids = try Self.ids(row, path: path, line: line, vocabularySize: vocabularySize)
      if ids.isEmpty {
        emptyRows += 1
      } else {
        if ids.count > sequenceLength { cutRows += 1 }
        sequences.append(Array(ids.prefix(sequenceLength)))
      }
    }
    if sequences.isEmpty { throw .empty(path: path) }
    self.sequences = sequences
    self.emptyRows = emptyRows
    self.cutRows = cutRows
  }

  private static func line(of file: MappedFile, from start: Int) -> [UInt8] {
    unsafe file.withBytes { bytes in
      let rest = unsafe bytes[start...]
      let end = unsafe rest.firstIndex(of: UInt8(ascii: "\n")) ?? rest.endIndex
      return unsafe [UInt8](rest[start..<end])
    }
  }

  private static func ids(
    _ row: [UInt8], path: String, line: Int, vocabularySize: Int
  ) throws(CalibrationError) -> [Int32] {
    let value: JSONValue
    do {
      value = try JSONValue.parse(row)
    } catch {
      throw .badRow(path: path, line: line, problem: "\(error)")
    }
    guard let object = value.object else {
      throw .badRow(path: path, line: line, problem: "expected an object, found \(value.kind)")
    }
    guard let column = object["input_ids"] else {
      throw .noInputIDs(path: path, line: line, keys: Array(object.keys.prefix(8)))
    }
    guard let values = column.array else {
      throw .badRow(path: path, line: line, problem: "`input_ids` is \(column.kind)")
    }
    var ids: [Int32] = []
    ids.reserveCapacity(values.count)
    for (position, value) in values.enumerated() {
      guard let id = value.int, id >= 0, id < vocabularySize else {
        throw .badToken(
          path: path, line: line, position: position, found: value.serialized(),
          vocabularySize: vocabularySize)
      }
      ids.append(Int32(id))
    }
    return ids
  }
}
