// The token sequences of a run: which rows, how long, and what became of the others.

internal import Datasets
internal import JSON

/// A data set that cannot be used.
package enum CalibrationError: Error, CustomStringConvertible, Equatable {
  case noKnownColumn(path: String, columns: [String])
  case noSuchColumn(path: String, asked: String, columns: [String])
  /// No row tells what columns there are.
  case noRows(path: String, firstProblem: String?)
  case noUsableRow(path: String, rows: Int, first: String?)

  package var description: String {
    func list(_ columns: [String]) -> String {
      columns.isEmpty ? "none" : columns.map { "`\($0)`" }.joined(separator: ", ")
    }
    return switch self {
    case .noKnownColumn(let path, let columns):
      "\(path): no column `messages`, `conversations`, `text` or `input_ids`; the columns are "
        + "\(list(columns)); name the one with text by --text-column"
    case .noSuchColumn(let path, let asked, let columns):
      "\(path): no column `\(asked)`; the columns are \(list(columns))"
    case .noRows(let path, nil): "\(path): no rows in it; give a file with chats, text or token ids"
    case .noRows(let path, let problem?): "\(path): no row can be read; the first: \(problem)"
    case .noUsableRow(let path, let rows, let first):
      "\(path): none of \(rows) rows gives tokens" + (first.map { "; the first: \($0)" } ?? "")
    }
  }
}

/// Which rows of a data set to use, and how much of each.
package struct RowSelection: Sendable, Equatable {
  package var samples: Int
  /// Tokens of a sequence, from the first.
  package var sequenceLength: Int
  /// Rows in an order drawn with this seed; without, in the order of the files.
  package var shuffleSeed: UInt64?
  /// Whether rows are joined and cut into full sequences.
  package var packs: Bool

  package init(samples: Int, sequenceLength: Int, shuffleSeed: UInt64? = nil, packs: Bool = false) {
    self.samples = samples
    self.sequenceLength = sequenceLength
    self.shuffleSeed = shuffleSeed
    self.packs = packs
  }
}

/// A row that was used, before it was cut.
package struct UsedRow: Sendable, Equatable {
  /// Counted from 0 over the data set.
  package let index: Int
  package let encoded: EncodedRow
}

/// A row that could not be used, and why.
package struct FailedRow: Sendable, Equatable, CustomStringConvertible {
  package let place: String
  package let problem: String
  package var description: String { "\(place): \(problem)" }
}

/// Token sequences to run through the model.
package struct CalibrationData: Sendable, Equatable {
  /// Never empty; none of the sequences is.
  package private(set) var sequences: [[Int32]] = []
  /// Rows that gave no token and no error.
  package private(set) var emptyRows = 0
  /// Rows that were cut to the sequence length.
  package private(set) var cutRows = 0
  package private(set) var failedRows: [FailedRow] = []
  package private(set) var rowsRead = 0

  package var tokens: Int { sequences.reduce(0) { $0 + $1.count } }
  package var longest: Int { sequences.map(\.count).max() ?? 0 }

  /// Reads rows until there is enough, and no further.
  ///
  /// - Parameters:
  ///   - path: what errors call the data set.
  ///   - used: sees every row that is used.
  package init(
    _ rows: CalibrationRows, path: String, encoder: RowEncoder, selection: RowSelection,
    used: (UsedRow) throws -> Void = { _ in }
  ) throws {
    var pending: [Int32] = []
    let reader = try rows.makeReader(selection)
    while sequences.count < selection.samples, let row = try reader.next() {
      rowsRead += 1
      let encoded: EncodedRow
      do {
        encoded = try encoder.encode(row.value.get())
      } catch let problem as RowProblem {
        failedRows.append(FailedRow(place: row.place, problem: problem.problem))
        continue
      } catch let problem as UnusableRow {
        failedRows.append(FailedRow(place: row.place, problem: problem.problem))
        continue
      }
      if encoded.ids.isEmpty {
        emptyRows += 1
        continue
      }
      try used(UsedRow(index: row.index, encoded: encoded))
      if selection.packs {
        pending += encoded.ids
        while pending.count >= selection.sequenceLength, sequences.count < selection.samples {
          sequences.append(Array(pending.prefix(selection.sequenceLength)))
          pending.removeFirst(selection.sequenceLength)
        }
      } else {
        if encoded.ids.count > selection.sequenceLength { cutRows += 1 }
        sequences.append(Array(encoded.ids.prefix(selection.sequenceLength)))
      }
    }
    // Too little text for one full sequence is still text.
    if sequences.isEmpty, !pending.isEmpty { sequences.append(pending) }
    if sequences.isEmpty {
      throw CalibrationError.noUsableRow(
        path: path, rows: rowsRead, first: failedRows.first?.description)
    }
  }
}
