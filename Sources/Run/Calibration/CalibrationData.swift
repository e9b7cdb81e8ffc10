// The token sequences of a run: which rows, how long, and what became of the others.

package import Datasets
internal import JSON
internal import SystemIO
internal import Tokenization

/// A data set that cannot be used.
package enum CalibrationError: Error, CustomStringConvertible, Equatable {
  case noKnownColumn(path: String, columns: [String])
  case noSuchColumn(path: String, asked: String, columns: [String])
  /// No row tells what columns there are.
  case noRows(path: String, firstProblem: String?)
  /// There are fewer rows than before the first that was named.
  case noRowsThere(path: String, first: Int)
  /// A file to write is one that is read.
  case wouldReplace(path: String, flag: String)
  case noUsableRow(path: String, rows: Int, first: String?)
  case costlyTemplate(path: String, rows: Int, first: String?)
  case textTooLong(place: String, bytes: Int, needed: Int, room: Int)
  case shuffledRowsTooLarge(place: String, limit: Int)
  case tooManyTokens(path: String, limit: Int)
  case noSamples(set: String, share: Double, of: Int)

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
    case .noRowsThere(let path, let first):
      "\(path): it ends before row \(first), counted from 0; name rows that are there"
    case .wouldReplace(let path, let flag):
      "\(path): \(flag) would replace a file that is read; name another one"
    case .noUsableRow(let path, let rows, let first):
      "\(path): none of \(counted(rows, "row")) gives tokens"
        + (first.map { "; the first: \($0)" } ?? "")
    case .costlyTemplate(let path, let rows, let first):
      "\(path): the chat template came to a limit on \(counted(rows, "row")); give another one by --chat-template"
        + (first.map { "; the first: \($0)" } ?? "")
    case .textTooLong(let place, let bytes, let needed, let room):
      "\(place): \(bytes >> 10) KiB of text without a place where it can be cut: tokenizing it takes up to "
        + "\(needed >> 20) MiB, and there are \(room >> 20) MiB; raise --memory, or cut the row"
    case .shuffledRowsTooLarge(let place, let limit):
      "\(place): the rows that --shuffle-seed chooses up to here take more than \(limit >> 20) MiB of memory; "
        + "raise --memory or lower --samples"
    case .noSamples(let set, let share, let all):
      "\(set): its share of \(share) of \(counted(all, "sample")) is less than one; raise --samples, or its share"
    case .tooManyTokens(let path, let limit):
      "\(path): the sequences take more than \(limit >> 20) MiB of memory; raise --memory or lower --samples"
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
  /// Rows to choose among, from 0; nil for all.
  package var rows: Range<Int>?

  package init(samples: Int, sequenceLength: Int, shuffleSeed: UInt64? = nil, packs: Bool = false) {
    self.samples = samples
    self.sequenceLength = sequenceLength
    self.shuffleSeed = shuffleSeed
    self.packs = packs
  }
}

/// A row that was used, before it was cut; of a long text only the beginning.
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

  /// Rows that may come to a limit of the template before the template itself is taken to be the cause.
  private static let mostCostlyRows = 8

  /// With the sequences of another data set behind these.
  func joined(
    with other: CalibrationData, path: String, room: Room
  ) throws(CalibrationError) -> CalibrationData {
    var result = self
    result.sequences += other.sequences
    result.emptyRows += other.emptyRows
    result.cutRows += other.cutRows
    result.failedRows += other.failedRows
    result.rowsRead += other.rowsRead
    if result.tokens > room.bytes / 16 {
      throw .tooManyTokens(path: path, limit: room.bytes / 2)
    }
    return result
  }

  /// JSON lines with `input_ids`: as data they give these sequences again.
  func write(to path: String) throws(SystemError) {
    var text = ""
    for sequence in sequences {
      text += "{\"input_ids\": [\(sequence.map(String.init).joined(separator: ", "))]}\n"
    }
    try replaceFile(path, with: Array(text.utf8))
  }

  package var tokens: Int { sequences.reduce(0) { $0 + $1.count } }
  package var longest: Int { sequences.map(\.count).max() ?? 0 }

  /// Reads rows until there is enough, and no further.
  ///
  /// - Parameters:
  ///   - path: what errors call the data set.
  ///   - used: sees every row that is used.
  package init(
    _ rows: CalibrationRows, path: String, encoder: RowEncoder, selection: RowSelection,
    room: Room, used: (UsedRow) throws -> Void = { _ in }
  ) throws {
    var pending: [Int32] = []
    var tokens = 0
    var costly: [FailedRow] = []
    let reader = try rows.makeReader(selection, room)
    while sequences.count < selection.samples, let row = try reader.next() {
      rowsRead += 1
      // One more than is used, to know whether there are more.
      let (full, overflows) = selection.sequenceLength.multipliedReportingOverflow(
        by: selection.packs ? selection.samples - sequences.count : 1)
      let wanted = overflows || full == .max ? .max : full + 1
      let encoded: EncodedRow
      do {
        encoded = try Self.encode(row, of: rows, encoder, atLeast: wanted, room)
      } catch let problem as RowProblem {
        failedRows.append(FailedRow(place: row.place, problem: problem.problem))
        continue
      } catch let problem as UnusableRow {
        failedRows.append(FailedRow(place: row.place, problem: problem.problem))
        if problem.isCostly { costly += failedRows.suffix(1) }
        if costly.count >= Self.mostCostlyRows {
          throw CalibrationError.costlyTemplate(
            path: path, rows: costly.count, first: costly.first?.description)
        }
        continue
      }
      if encoded.ids.isEmpty {
        emptyRows += 1
        continue
      }
      try used(UsedRow(index: row.index, encoded: encoded))
      tokens += min(encoded.ids.count, wanted)
      // They are in memory twice: as sequences and as blocks.
      if tokens > room.bytes / 16 {
        throw CalibrationError.tooManyTokens(path: path, limit: room.bytes / 2)
      }
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
      if rowsRead == 0, let first = selection.rows?.lowerBound, first > 0 {
        throw CalibrationError.noRowsThere(path: path, first: first)
      }
      throw CalibrationError.noUsableRow(
        path: path, rows: rowsRead, first: failedRows.first?.description)
    }
  }

  /// Reads on in a long text until its beginning gives tokens enough.
  private static func encode(
    _ row: DatasetRow, of rows: CalibrationRows, _ encoder: RowEncoder, atLeast wanted: Int,
    _ room: Room
  ) throws -> EncodedRow {
    var row = row
    var bytes = Dataset.firstTextBytes
    while true {
      do {
        let encoded = try encoder.encode(
          row.value.get(), isWhole: !row.isCut, atLeast: wanted, room: room.bytes)
        if let encoded { return encoded }
      } catch let problem as UncutText {
        throw CalibrationError.textTooLong(
          place: row.place, bytes: problem.byteCount, needed: problem.neededBytes,
          room: room.bytes)
      }
      bytes *= 2
      row = try rows.longer(row, bytes: bytes)
    }
  }
}
