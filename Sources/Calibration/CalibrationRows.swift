// Where calibration rows come from: a data set on disk, or the chats that come with the program.

internal import CBuiltinChats
package import Datasets
internal import JSON

/// Rows to choose from.
package enum CalibrationRows: Sendable {
  case dataset(Dataset)
  /// See `CBuiltinChats`.
  case builtIn

  /// The columns that rows have.
  package var columns: [String] {
    switch self {
    case .dataset(let dataset): dataset.columns
    case .builtIn: ["messages"]
    }
  }

  /// The column to read.
  package func column(path: String, named text: String?) throws(CalibrationError) -> RowColumn {
    if let column = RowColumn.find(in: columns, named: text) { return column }
    if columns.isEmpty, case .dataset(let dataset) = self {
      throw .noRows(path: path, firstProblem: dataset.firstProblem)
    }
    if let text { throw .noSuchColumn(path: path, asked: text, columns: columns) }
    throw .noKnownColumn(path: path, columns: columns)
  }

  /// These rows with nothing but what `RowEncoder` reads: columns beside it may be of any type.
  func selecting(_ column: RowColumn) throws(DatasetError) -> CalibrationRows {
    guard case .dataset(let dataset) = self else { return self }
    let optional: Set<String> = column.isChat ? [RowColumn.tools] : []
    return .dataset(try dataset.selecting([column.name], optional: optional))
  }

  func makeReader(_ selection: RowSelection) throws -> any RowStream {
    let stream: any RowStream =
      switch self {
      case .dataset(let dataset): dataset.makeReader()
      case .builtIn: BuiltInChats()
      }
    guard let seed = selection.shuffleSeed else { return stream }
    let count =
      switch self {
      case .dataset(let dataset): try dataset.rowCount()
      case .builtIn: BuiltInChats().count
      }
    return try ShuffledRows(stream, rows: count, seed: seed, wanted: selection.samples)
  }
}

/// Rows one after another.
protocol RowStream {
  func next() throws(DatasetError) -> DatasetRow?
}

extension DatasetReader: RowStream {}

/// The chats that are compiled in.
private final class BuiltInChats: RowStream {
  private let lines: [ArraySlice<UInt8>]
  private var index = 0

  init() {
    var count = 0
    let start = unsafe sluice_builtin_chats(&count)
    lines = unsafe Array(UnsafeBufferPointer(start: start, count: count))
      .split(separator: UInt8(ascii: "\n"))
  }

  var count: Int { lines.count }

  func next() -> DatasetRow? {
    guard index < count else { return nil }
    defer { index += 1 }
    guard let chat = try? JSONValue.parse(Array(lines[index])).object else {
      preconditionFailure("built-in chat \(index) is not an object")
    }
    return DatasetRow(file: "built-in chats", index: index, value: chat)
  }
}

/// A seeded choice of rows, in an order drawn with the same seed.
///
/// Every row has a number drawn from seed and index; the rows with the smallest numbers come first. Half as many again
/// as wanted are kept, for rows that turn out unusable.
private final class ShuffledRows: RowStream {
  private var rows: ArraySlice<DatasetRow> = []

  init(_ stream: any RowStream, rows count: Int, seed: UInt64, wanted: Int) throws {
    let kept = wanted < count ? min(count, wanted + wanted / 2 + 16) : count
    let order = (0..<count).sorted { draw(seed, $0) < draw(seed, $1) }.prefix(kept)
    let places = Dictionary(uniqueKeysWithValues: zip(order, order.indices))
    var chosen = [DatasetRow?](repeating: nil, count: kept)
    var index = 0
    while let row = try stream.next() {
      if let place = places[index] { chosen[place] = row }
      index += 1
    }
    rows = chosen.compactMap { $0 }[...]
  }

  func next() -> DatasetRow? { rows.popFirst() }
}
