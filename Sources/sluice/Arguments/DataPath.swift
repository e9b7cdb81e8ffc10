// Data by name: files, stdin, and data sets of the local Hugging Face cache, with a split, rows and a share of each.

internal import Calibration
internal import CompressedTensors
internal import Datasets
internal import Reporting
internal import SystemIO

/// A name of data that cannot be meant.
enum DataNameError: Error, CustomStringConvertible {
  /// A data set with several sets of rows, so that nobody can tell which of them are meant.
  case severalSplits(name: String, splits: [String])
  case noSuchSplit(name: String, split: String, splits: [String], command: String?)
  case badBrackets(name: String, found: String)
  case openBracket(name: String)
  /// Nothing beside a comma.
  case noName(text: String)
  /// Nothing before a bracket.
  case onlyBrackets(text: String)
  case noShare(name: String)
  case badShare(name: String, found: String)
  case shares(text: String, sum: Double)

  var description: String {
    func list(_ names: [String]) -> String {
      names.prefix(8).joined(separator: ", ")
        + (names.count > 8 ? " and \(names.count - 8) more" : "")
    }
    return switch self {
    case .severalSplits(let name, let splits):
      "\(name) has several sets of rows; name one: "
        + list(splits.map { shellText(["\(name)[\($0)]"]) })
    case .noSuchSplit(let name, let split, let splits, let command):
      "\(name): no set of rows is called `\(split)` (found \(splits.isEmpty ? "none" : list(splits)))"
        + (command.map { "; download it with `\($0)`" }
          ?? (splits.isEmpty ? "; there are no files of rows in it" : "; name one of these"))
    case .badBrackets(let name, let found):
      "\(name): expected a set of rows such as [train], rows such as [:512] or [100:200], or both in this order, "
        + "found [\(found)]"
    case .openBracket(let name):
      "\(name): a bracket has no partner; a set of rows and rows stand as in data[train][:512]"
    case .noName(let text): "\(text): expected a name before and behind each comma, found none"
    case .onlyBrackets(let text): "\(text): expected a name before the bracket, found none"
    case .noShare(let name):
      "\(name): has no share, and other data has; give each its own, such as \(name):0.5"
    case .badShare(let name, let found):
      "\(name): a share is a number above 0 and up to 1, such as 0.5 (found \(found))"
    case .shares(let text, let sum):
      "\(text): the shares add up to \(rounded(sum)), expected 1"
    }
  }
}

/// The data that the user named: `NAME[SPLIT][FIRST:END]:SHARE` between commas. What is there by the name that was typed
/// is that.
func namedRows(_ text: String) throws -> [NamedRows] {
  if isThere(text) { return [NamedRows(path: text)] }
  let words = parts(of: text)
  var result: [NamedRows] = []
  var shares: [Double?] = []
  for word in words {
    if word.isEmpty { throw DataNameError.noName(text: text) }
    let (name, share) = try isThere(word) ? (word, nil) : shared(word)
    shares.append(share)
    result.append(try rows(name))
  }
  if shares.allSatisfy({ $0 == nil }) {
    for place in result.indices { result[place].share = 1 / Double(result.count) }
    return result
  }
  for (place, share) in shares.enumerated() {
    guard let share else { throw DataNameError.noShare(name: words[place]) }
    result[place].share = share
  }
  let sum = result.reduce(0) { $0 + $1.share }
  if abs(sum - 1) > 1e-6 { throw DataNameError.shares(text: text, sum: sum) }
  return result
}

/// A name and its share; nil for none.
private func shared(_ word: String) throws(DataNameError) -> (name: String, share: Double?) {
  // What looks like a number, so that a name with a colon stays one.
  guard let parts = word.wholeMatch(of: /(.+):([-+]?(?:[0-9.]+(?:[eE][-+]?[0-9]+)?%?|nan|inf))/)
  else { return (word, nil) }
  let (name, text) = (String(parts.output.1), String(parts.output.2))
  guard let share = Double(text), share > 0, share.isFinite else {
    throw .badShare(name: name, found: text)
  }
  return (name, share)
}

private func isThere(_ text: String) -> Bool {
  FileSystem.exists(text)
    || FileSystem.isPattern(text) && (try? FileSystem.matches(text))?.isEmpty == false
}

/// What stands between commas outside of brackets.
private func parts(of text: String) -> [String] {
  var parts = [""]
  var depth = 0
  for character in text {
    if character == "[" { depth += 1 }
    if character == "]" { depth -= 1 }
    if character == ",", depth == 0 {
      parts.append("")
    } else {
      parts[parts.count - 1].append(character)
    }
  }
  return parts
}

/// One name, with what stands in brackets behind it.
private func rows(_ text: String) throws -> NamedRows {
  var name = text
  var split: String?
  var range: Range<Int>?
  if !isThere(name), name.count(where: { $0 == "[" }) != name.count(where: { $0 == "]" }) {
    throw DataNameError.openBracket(name: name)
  }
  while !isThere(name), name.hasSuffix("]"), let open = name.lastIndex(of: "[") {
    let inside = String(name[name.index(after: open)...].dropLast())
    name = String(name[..<open])
    if let rows = inside.wholeMatch(of: /([0-9]{0,15}):([0-9]{0,15})/), range == nil, split == nil {
      let (first, end) = (Int(rows.output.1) ?? 0, Int(rows.output.2) ?? .max)
      if first >= end { throw DataNameError.badBrackets(name: name, found: inside) }
      range = first..<end
    } else if split == nil, inside.contains(where: \.isLetter),
      inside.allSatisfy({ !":,[]*".contains($0) })
    {
      split = inside
    } else {
      throw DataNameError.badBrackets(name: name, found: inside)
    }
  }
  if name.isEmpty { throw DataNameError.onlyBrackets(text: text) }
  let found = try path(of: name, split: split)
  return NamedRows(
    path: found, name: name == "-" ? "stdin" : name + (split.map { "[\($0)]" } ?? ""), rows: range)
}

/// The files that a name and a split mean.
private func path(of name: String, split: String?) throws -> String {
  let isFileName = fileEndings.contains { name.lowercased().hasSuffix($0) }
  let above = FileSystem.parent(name)
  // Where there is a folder ORG, or NAME ends like a file, a path was mistyped.
  let isPath = name == "-" || isFileName || above == "." || FileSystem.exists(above)
  if isPath, split == nil { return name }
  let cached = isPath ? nil : try HubCache().dataset(of: name)
  let folder = cached ?? name
  if cached == nil, split == nil { return name }
  let found = splits(of: folder)
  if let split {
    let meant = found.filter { $0.name == split || "\($0.group)/\($0.name)" == split }
    if meant.count == 1 { return meant[0].pattern }
    if meant.count > 1 {
      throw DataNameError.severalSplits(
        name: name, splits: meant.map { "\($0.group)/\($0.name)" })
    }
    let id = name.split(separator: "@", maxSplits: 1).map(String.init)
    let revision = id.count > 1 ? ["--revision", id[1]] : []
    let command = cached.map { _ in
      "hf download --repo-type dataset "
        + shellText([id[0]] + revision + ["--include", "*\(split)*"])
    }
    throw DataNameError.noSuchSplit(
      name: name, split: split, splits: found.map(\.name), command: command)
  }
  if found.count > 1 {
    let names = found.map(\.name)
    throw DataNameError.severalSplits(
      name: name,
      splits: Set(names).count == names.count ? names : found.map { "\($0.group)/\($0.name)" })
  }
  return found.first?.pattern ?? folder
}

/// Files of rows that belong together: `train-00000-of-00003.parquet` is a part of `train`, and so is `train/0000.parquet`.
private struct Split: Equatable {
  let name: String
  /// The folder above.
  let group: String
  let pattern: String
}

private func splits(of folder: String) -> [Split] {
  var result: [Split] = []
  for path in files(below: folder, depth: 3) {
    let (above, file) = (FileSystem.parent(path), FileSystem.name(path))
    let stem = String(file.prefix { $0 != "." })
    let split: Split
    if let parts = stem.firstMatch(of: /^(.+?)-[0-9]+-of-[0-9]+/) {
      let name = String(parts.output.1)
      split = Split(
        name: name, group: FileSystem.name(above), pattern: "\(above)/\(name)-[0-9]*-of-*")
    } else if stem.allSatisfy(\.isNumber), above != folder {
      split = Split(
        name: FileSystem.name(above), group: FileSystem.name(FileSystem.parent(above)),
        pattern: above)
    } else {
      split = Split(name: stem, group: FileSystem.name(above), pattern: path)
    }
    if !result.contains(split) { result.append(split) }
  }
  return result
}

/// Files with rows, folder by folder.
private func files(below folder: String, depth: Int) -> [String] {
  let own = (try? Dataset(path: folder).paths) ?? []
  if depth == 0 { return own }
  let folders = ((try? FileSystem.list(folder)) ?? []).filter { !$0.hasPrefix(".") }.sorted()
    .map { "\(folder)/\($0)" }.filter { FileSystem.isFolder($0) }
  return own + folders.flatMap { files(below: $0, depth: depth - 1) }
}

private let fileEndings = [
  ".jsonl", ".ndjson", ".json", ".txt", ".parquet", ".gz", ".zst", ".csv", ".tsv", ".arrow",
]
