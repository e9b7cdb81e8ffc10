// A file, folder or pattern to the files that hold rows, in name order.

internal import SystemIO

/// One file of a data set and how its ending says to read it.
struct DatasetFile: Sendable, Equatable {
  enum Format: Sendable, Equatable {
    case jsonLines, json, text, parquet
    case table(delimiter: UInt8)
  }

  let path: String
  let format: Format
  let packing: Packing
  /// What messages call it.
  let name: String

  init(path: String, format: Format, packing: Packing, name: String) {
    self.path = path
    self.format = format
    self.packing = packing
    self.name = name
  }

  /// Nil where the ending is not one of ours.
  init?(path: String) {
    var name = Self.name(of: path)
    var packing = Packing.none
    let packings = [(".gz", Packing.gzip), (".zst", Packing.zstd)]
    if let (ending, kind) = packings.first(where: { name.hasSuffix($0.0) }) {
      name.removeLast(ending.count)
      packing = kind
    }
    let formats: [(String, Format)] = [
      (".jsonl", .jsonLines), (".ndjson", .jsonLines), (".json", .json), (".txt", .text),
      (".parquet", .parquet), (".csv", .table(delimiter: UInt8(ascii: ","))),
      (".tsv", .table(delimiter: UInt8(ascii: "\t"))),
    ]
    guard let (_, format) = formats.first(where: { name.hasSuffix($0.0) }),
      format != .parquet || packing == .none
    else { return nil }
    self.init(path: path, format: format, packing: packing, name: path)
  }

  /// `.xlsx` for `a/b.xlsx`, `.parquet.gz` for `b.parquet.gz`, in backticks.
  static func ending(of path: String) -> String {
    let parts = name(of: path).split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count > 1, let last = parts.last else { return "a name without ending" }
    let isPacking = ["gz", "zst", "xz", "bz2"].contains(last) && parts.count > 2
    return "`." + parts.suffix(isPacking ? 2 : 1).joined(separator: ".") + "`"
  }

  static func name(of path: String) -> String {
    path.split(separator: "/").last.map(String.init) ?? path
  }
}

/// The files behind a path that a user typed.
struct DatasetFiles {
  /// Never empty.
  let files: [DatasetFile]
  /// What lies beside them and is not read.
  let passedOver: [String]

  /// Descriptions of a data set that the `datasets` library keeps beside the rows.
  private static let descriptions: Set<String> = [
    "config.json", "dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json",
  ]

  init(path: String) throws(DatasetError) {
    let paths: [String]
    do {
      if path == StandardInput.word {
        files = [try StandardInput.file.get()]
        passedOver = []
        return
      }
      if FileSystem.isFolder(path) {
        let base = path.hasSuffix("/") ? path : path + "/"
        paths = try FileSystem.list(path).filter { !$0.hasPrefix(".") }.map { base + $0 }
      } else if !FileSystem.exists(path), FileSystem.isPattern(path) {
        paths = try FileSystem.matches(path)
      } else {
        _ = try FileSystem.fileSize(path)
        guard let file = DatasetFile(path: path) else {
          throw DatasetError.unknownEnding(file: path, ending: DatasetFile.ending(of: path))
        }
        files = [file]
        passedOver = []
        return
      }
    } catch let error as DatasetError {
      throw error
    } catch let error as SystemError {
      throw .unreadable(error)
    } catch {
      preconditionFailure("unforeseen error: \(error)")
    }
    var files: [DatasetFile] = []
    var others: [String] = []
    for path in paths {
      let isDescription = Self.descriptions.contains(DatasetFile.name(of: path))
      if !isDescription, !FileSystem.isFolder(path), let file = DatasetFile(path: path) {
        files.append(file)
      } else {
        others.append(path)
      }
    }
    // Beside rows, a text file is a licence or a note.
    if files.contains(where: { $0.format != .text }) {
      others += files.filter { $0.format == .text }.map(\.path)
      files.removeAll { $0.format == .text }
    }
    others.sort()
    if files.isEmpty {
      let found = others.map { (path: String) -> String in
        "`\(DatasetFile.name(of: path))\(FileSystem.isFolder(path) ? "/" : "")`"
      }
      throw .noFiles(path: path, found: found)
    }
    self.files = files
    self.passedOver = others
  }
}
