// A data set as it lies on disk: its files and its columns.

internal import JSON

package struct Dataset: Sendable {
  /// Rows of a file of JSON lines are looked at to learn its columns: this many.
  private static let sampledRows = 100

  private let files: [DatasetFile]
  private var chosen: Set<String>?

  /// In the order of the schema, or of first appearance in the first hundred rows of the first file with rows.
  /// Files of JSON may hold more further on.
  package let columns: [String]
  /// Files and folders beside the rows that are not read.
  package let passedOver: [String]

  /// The files whose rows these are, in the order of reading: by name.
  package var paths: [String] { files.map(\.path) }

  /// - Parameters:
  ///   - path: a file, a folder (its files, not those of folders inside), or a shell pattern.
  ///   - columns: what rows will hold; nil for all there is. In parquet files nothing else is read.
  package init(path: String, columns: Set<String>? = nil) throws(DatasetError) {
    let found = try DatasetFiles(path: path)
    files = found.files
    passedOver = found.passedOver
    self.columns = try Self.columns(of: found.files)
    if let columns { try choose(columns) }
  }

  /// The same data set with rows that hold only `columns`.
  package func selecting(_ columns: Set<String>) throws(DatasetError) -> Dataset {
    var result = self
    try result.choose(columns)
    return result
  }

  private mutating func choose(_ columns: Set<String>) throws(DatasetError) {
    if let missing = columns.filter({ !self.columns.contains($0) }).sorted().first {
      throw .missingColumn(file: files[0].path, column: missing, found: self.columns)
    }
    chosen = columns
  }

  package func makeReader() -> DatasetReader {
    DatasetReader(files: files, columns: chosen)
  }

  /// How many rows there are, damaged ones included. Parquet files say it; others are passed over once.
  package func rowCount() throws(DatasetError) -> Int {
    let reader = makeReader()
    try reader.skip(to: .max)
    return reader.index
  }

  private static func columns(of files: [DatasetFile]) throws(DatasetError) -> [String] {
    for file in files {
      if file.format == .parquet { return try ParquetFile(path: file.path, columns: nil).columns }
      let reader = DatasetReader(files: [file], columns: nil)
      var columns: [String] = []
      for _ in 0..<sampledRows {
        guard let row = try reader.next() else { break }
        guard case .success(let object) = row.value else { continue }
        columns += object.keys.filter { !columns.contains($0) }
      }
      if !columns.isEmpty { return columns }
    }
    return []
  }
}
