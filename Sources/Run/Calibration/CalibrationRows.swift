// Where calibration rows come from: a data set on disk, or the chats that come with the program.

internal import CBuiltinChats
package import Datasets
internal import JSON
internal import Tensors

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

  /// A row with more of its text; the same row where all of it was read.
  func longer(_ row: DatasetRow, bytes: Int) throws(DatasetError) -> DatasetRow {
    if case .dataset(let dataset) = self { try dataset.longer(row, bytes: bytes) } else { row }
  }

  /// - Parameter room: how much of the rows may be in memory at once.
  func makeReader(_ selection: RowSelection, _ room: Room) throws -> any RowStream {
    let stream: any RowStream
    let wanted = selection.rows ?? 0..<Int.max
    switch self {
    case .dataset(var dataset):
      dataset.room = room
      let reader = dataset.makeReader()
      if wanted.lowerBound > 0 { try reader.skip(to: wanted.lowerBound) }
      stream = wanted.upperBound < .max ? SomeRows(reader, count: wanted.count) : reader
    case .builtIn: stream = BuiltInChats()
    }
    guard let seed = selection.shuffleSeed else { return stream }
    let count =
      switch self {
      case .dataset(let dataset):
        max(0, min(try dataset.rowCount(), wanted.upperBound) - wanted.lowerBound)
      case .builtIn: BuiltInChats().count
      }
    return try ShuffledRows(stream, rows: count, seed: seed, wanted: selection.samples, room)
  }
}

/// Rows one after another.
protocol RowStream {
  func next() throws(DatasetError) -> DatasetRow?
}

extension DatasetReader: RowStream {}

/// The first rows of others.
private final class SomeRows: RowStream {
  private let rows: any RowStream
  private var left: Int

  init(_ rows: any RowStream, count: Int) {
    self.rows = rows
    left = count
  }

  func next() throws(DatasetError) -> DatasetRow? {
    if left == 0 { return nil }
    left -= 1
    return try rows.next()
  }
}

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
/// Every row has a number drawn from seed and index; the rows with the smallest numbers come first.
private final class ShuffledRows: RowStream {
  private var rows: ArraySlice<DatasetRow> = []

  init(
    _ stream: any RowStream, rows count: Int, seed: UInt64, wanted: Int, _ room: Room
  ) throws {
    // Half as many again, for rows that turn out unusable.
    let kept = wanted < count ? wanted + wanted / 2 + 16 : count
    let order = Self.order(of: count, seed: seed, keeping: max(1, min(count, kept)))
    let places = Dictionary(uniqueKeysWithValues: zip(order, order.indices))
    var chosen = [DatasetRow?](repeating: nil, count: order.count)
    var index = 0
    var bytes = 0
    while let row = try stream.next() {
      if let place = places[index] {
        chosen[place] = row
        bytes += (try? row.value.get()).map { JSONValue.object($0).footprint } ?? 0
        if bytes > room.bytes / 2 {
          throw CalibrationError.shuffledRowsTooLarge(place: row.place, limit: room.bytes / 2)
        }
      }
      index += 1
    }
    rows = chosen.compactMap { $0 }[...]
  }

  /// The rows with the smallest numbers, that with the smallest first.
  private static func order(of count: Int, seed: UInt64, keeping kept: Int) -> [Int] {
    var best: [(number: UInt64, index: Int)] = []
    // Now and then the best of twice as many: there may be more rows than memory for their numbers.
    func keepTheBest() {
      best.sort { ($0.number, $0.index) < ($1.number, $1.index) }
      best.removeLast(max(0, best.count - kept))
    }
    for index in 0..<count {
      best.append((draw(seed, index), index))
      if best.count >= 2 * kept { keepTheBest() }
    }
    keepTheBest()
    return best.map(\.index)
  }

  func next() -> DatasetRow? { rows.popFirst() }
}
