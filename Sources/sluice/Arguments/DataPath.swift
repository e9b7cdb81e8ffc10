// Data by name: the rows of a data set that lies in the local Hugging Face cache.

internal import CompressedTensors
internal import Datasets
internal import Pipeline
internal import SystemIO

/// A data set in the cache with several sets of rows, so that nobody can tell which of them are meant.
struct SeveralSplits: Error, CustomStringConvertible {
  let id: String
  let patterns: [String]

  var description: String {
    "\(id) is in the cache with several sets of rows; name one: "
      + patterns.prefix(8).map { shellText([$0]) }.joined(separator: ", ")
      + (patterns.count > 8 ? " and \(patterns.count - 8) more" : "")
  }
}

/// The data that the user named: the path that was typed, or the rows of ORG/NAME where they lie in the cache.
func dataPath(_ text: String) throws -> String {
  let above = FileSystem.parent(text)
  let isFileName = fileEndings.contains { text.lowercased().hasSuffix($0) }
  // Where there is a folder ORG, or NAME ends like a file, a path was mistyped.
  if isFileName || above == "." || FileSystem.exists(above) { return text }
  guard let folder = try HubCache().dataset(of: text) else { return text }
  let folders =
    [folder]
    + (try FileSystem.list(folder)).map { "\(folder)/\($0)" }
    .filter { FileSystem.isFolder($0) }
  var patterns: [String] = []
  for path in folders.compactMap({ try? Dataset(path: $0).paths }).joined() {
    let name = path.split(separator: "/").last.map(String.init) ?? path
    // `train-00000-of-00003.parquet` is a part of `train`.
    let pattern =
      name.contains("-of-")
      ? FileSystem.parent(path) + "/" + name.prefix { $0 != "-" } + "-*" : path
    if patterns.last != pattern { patterns.append(pattern) }
  }
  if patterns.count > 1 { throw SeveralSplits(id: text, patterns: patterns) }
  return patterns.first ?? folder
}

private let fileEndings = [
  ".jsonl", ".ndjson", ".json", ".txt", ".parquet", ".gz", ".zst", ".csv", ".tsv", ".arrow",
]
