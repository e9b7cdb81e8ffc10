// What can be wrong with a data set, worded for its owner.

package import SystemIO

/// A data set that cannot be used. What is wrong with a single row is a `RowProblem` instead.
package enum DatasetError: Error, CustomStringConvertible, Equatable {
  /// The system refuses the file or folder.
  case unreadable(SystemError)
  /// Nothing at the path can be read as rows; `found` is what is there instead.
  case noFiles(path: String, found: [String])
  /// A single file whose ending is none of those this program reads.
  case unknownEnding(file: String, ending: String)
  /// The file breaks the rules of its format at `place`, so that no further row can be trusted.
  case damaged(file: String, place: String, problem: String)
  /// The file is sound, but uses a part of its format that is not read here.
  case unsupported(file: String, what: String, expected: String, found: String, wayOut: String)
  /// A `.json` file that holds no list of rows.
  case notRows(file: String, found: String)
  /// A row that would not fit in the memory that there is for it.
  case rowTooLong(file: String, place: String, limit: Int)
  case missingColumn(file: String, column: String, found: [String])

  package var description: String {
    switch self {
    case .unreadable(let error):
      "\(error)"
    case .noFiles(let path, let found):
      "\(path): no file to read rows from, expected \(Self.endings), found \(Self.list(found)); "
        + "name a file, a folder that holds such files, or a pattern in quotes"
    case .unknownEnding(let file, let ending):
      "\(file): expected \(Self.endings), found \(ending); \(Self.conversion(from: ending))"
    case .damaged(let file, let place, let problem):
      "\(file): \(place): \(problem); the file is damaged, download or write it again"
    case .unsupported(let file, let what, let expected, let found, let wayOut):
      "\(file): \(what): expected \(expected), found \(found); \(wayOut)"
    case .notRows(let file, let found):
      "\(file): expected an array of objects, or an object with one array of them, found \(found); "
        + "write one object a line and end the name in `.jsonl`"
    case .rowTooLong(let file, let place, let limit):
      "\(file): \(place): expected at most \(limit >> 20) MiB, found more; "
        + "raise --memory, or cut it into rows, one object a line in a `.jsonl` file"
    case .missingColumn(let file, let column, let found):
      "\(file): expected a column `\(column)`, found \(Self.quoted(found)); "
        + "name one of these or rename it in the data set"
    }
  }

  private static let endings =
    "`.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.txt` (each also with `.gz` or `.zst`) or `.parquet`"

  private static func conversion(from ending: String) -> String {
    switch ending {
    case "`.arrow`": "load the folder with `datasets` and save it with `to_parquet`"
    case "`.parquet.gz`", "`.parquet.zst`": "unpack it first, parquet packs its own pages"
    case "`.zst.gz`", "`.gz.zst`", "`.gz.gz`", "`.zst.zst`":
      "it is packed twice; unpack it once"
    default: "convert the rows to JSON lines"
    }
  }

  private static func quoted(_ names: [String]) -> String {
    list(names.map { "`\($0)`" })
  }

  private static func list(_ words: [String]) -> String {
    if words.isEmpty { return "none" }
    let shown = words.prefix(24).joined(separator: ", ")
    return words.count > 24 ? "\(shown) and \(words.count - 24) more" : shown
  }
}
