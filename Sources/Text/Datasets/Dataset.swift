// A data set as it lies on disk: its files and its columns.

internal import JSON

/// What rows are to hold.
struct ChosenColumns: Sendable {
  var wanted: Set<String>
  /// Columns that are read where they are there.
  var optional: Set<String> = []

  func contains(_ name: String) -> Bool { wanted.contains(name) || optional.contains(name) }
}

package struct Dataset: Sendable {
  /// How many rows of a file of JSON lines are looked at to learn its columns.
  private static let sampledRows = 100
  /// No table has more columns. A file with more was made to exhaust memory.
  static let mostColumns = 10_000

  private let files: [DatasetFile]
  /// How much of it may be in memory at once.
  package var room: Room
  private var chosen: ChosenColumns?

  /// How much of a text file is read at first.
  package static let firstTextBytes = TextDocument.firstBytes

  /// In the order of the schema, or of first appearance in the first hundred rows of the first file with rows.
  /// Files of JSON may hold more further on.
  package let columns: [String]
  /// Where there are no columns, what is wrong with the first row, if there is one.
  package let firstProblem: String?
  /// Files and folders beside the rows that are not read.
  package let passedOver: [String]

  /// The files whose rows these are, in the order of reading: by name.
  package var paths: [String] { files.map(\.name) }

  /// - Parameters:
  ///   - path: a file, a folder (its files, not those of folders inside), or a shell pattern.
  ///   - columns: what rows will hold; nil for all there is. In parquet files nothing else is read.
  ///   - room: how much of it may be in memory at once.
  package init(
    path: String, columns: Set<String>? = nil, room: Room = .standard
  ) throws(DatasetError) {
    let found = try DatasetFiles(path: path)
    files = found.files
    passedOver = found.passedOver
    self.room = room
    (self.columns, firstProblem) = try Self.columns(of: found.files, room)
    if let columns { try choose(ChosenColumns(wanted: columns)) }
  }

  /// This data set with rows that hold only `columns`, and those of `optional` that are there.
  package func selecting(
    _ columns: Set<String>, optional: Set<String> = []
  ) throws(DatasetError) -> Dataset {
    var result = self
    try result.choose(ChosenColumns(wanted: columns, optional: optional))
    return result
  }

  private mutating func choose(_ columns: ChosenColumns) throws(DatasetError) {
    if let missing = columns.wanted.filter({ !self.columns.contains($0) }).sorted().first {
      throw .missingColumn(file: files[0].path, column: missing, found: self.columns)
    }
    chosen = columns
  }

  package func makeReader() -> DatasetReader {
    DatasetReader(files: files, columns: chosen, room: room)
  }

  /// How many rows there are, damaged ones included. Parquet files say it; others are passed over once.
  package func rowCount() throws(DatasetError) -> Int {
    let reader = makeReader()
    try reader.skip(to: .max)
    return reader.index
  }

  /// A row again, with more of its text than the beginning that was read.
  ///
  /// - Parameter bytes: how much of the text is wanted.
  package func longer(_ row: DatasetRow, bytes: Int) throws(DatasetError) -> DatasetRow {
    guard row.isCut, let file = files.first(where: { $0.name == row.file }) else { return row }
    if bytes > room.rowBytes {
      throw .rowTooLong(file: row.file, place: "row \(row.line)", limit: room.rowBytes)
    }
    guard let longer = try TextDocument(file, room, byteLimit: bytes).next() else { return row }
    return DatasetRow(
      file: row.file, index: row.index, line: row.line, isLine: false, value: longer.value,
      isCut: longer.isCut)
  }

  private static func columns(
    of files: [DatasetFile], _ room: Room
  ) throws(DatasetError) -> ([String], firstProblem: String?) {
    var firstProblem: String?
    for file in files {
      switch file.format {
      case .parquet: return (try ParquetFile(path: file.path, columns: nil, room).columns, nil)
      case .text: return ([TextDocument.column], nil)
      case .table(let delimiter):
        return (try CSVRows(file, room, delimiter: delimiter).columns, nil)
      case .json, .jsonLines: break
      }
      let reader = DatasetReader(files: [file], columns: nil, room: room)
      var columns: [String] = []
      var known: Set<String> = []
      for _ in 0..<sampledRows {
        guard columns.count < mostColumns, let row = try reader.next() else { break }
        switch row.value {
        case .success(let object):
          columns += object.keys.filter { known.insert($0).inserted }
        case .failure(let problem):
          firstProblem = firstProblem ?? "\(row.place): \(problem.problem)"
        }
      }
      if !columns.isEmpty { return (columns, nil) }
    }
    return ([], firstProblem)
  }
}
