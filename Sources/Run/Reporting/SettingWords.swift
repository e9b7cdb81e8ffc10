// Options in words: what the page calls them. report.json has the names that scripts know.

internal import JSON
internal import Planning

extension Subject {
  package func setting(_ name: String) -> String? { settings.first { $0.name == name }?.value }

  /// What the weights became: `W4A16 in groups of 128`, `NVFP4A16, W8A16 in groups of 128 for layers 2-3`. nil where that
  /// is not known.
  package var schemeWords: String? {
    guard let value = setting("--scheme") else { return nil }
    let words = Self.schemeText(value)
    let isOne = !words.contains(",") && !words.contains(" ")
    let groups = setting("--group-size") ?? groupSize.map { "\($0)" } ?? "none"
    return words + (isOne && groups != "none" ? " in groups of \(groups)" : "")
  }

  /// Without the digest that tells choices apart; layers by their numbers instead of a pattern.
  fileprivate static func schemeText(_ value: String) -> String {
    value.replacing(/\ \[[0-9a-f]+\]$/, with: "")
      .replacing(/re:(?:\w|\\\.)*\(([0-9|]+)\)\\\.\.\*=([^,]*)/) { match in
        let numbers = match.output.1.split(separator: "|").compactMap { Int($0) }
        return "\(match.output.2) for \(layersText(numbers))"
      }
  }
}

extension Report {
  /// - Returns: nil for what says nothing.
  func words(_ setting: Setting) -> Setting? {
    let (name, value) = (setting.name, setting.value)
    switch name {
    case _ where value.isEmpty: return nil
    case "--scheme": return Setting("scheme", Subject.schemeText(value))
    case "--group-size": return Setting("columns that share a scale", value)
    case "--ignore": return Setting("patterns left out", value)
    case "--no-smoothing": return Setting("AWQ's scales", value == "on" ? "none" : "searched for")
    case "--loss":
      return Setting(
        "error in the scale search",
        value == "gram" ? "by Gram matrices" : "by second moments of channels")
    case "--rounding": return Setting("rounding", value)
    case "--expert-weighting": return Setting("what a token counts for an expert", value)
    case "--expert-tokens":
      return Setting("tokens beside its own that an expert sees", Int(value).map(whole) ?? value)
    case "--damping": return Setting("damping of Gram matrices", value)
    case "--max-shard-size": return Setting("largest file", Int(value).map(size) ?? value)
    case "--engine": return Setting("products by", value)
    case "--mtp": return Setting("prediction layers", value)
    case "--kv-cache": return Setting("keys and values", value)
    case "--accept-config-key": return Setting("keys taken to change nothing", value)
    case "--choices": return Setting("schemes to choose among", value)
    case "--target-size": return Setting("size asked for", Int(value).map(size) ?? value)
    case "--target-bits": return Setting("bits asked for", value)
    case "duo_scaling":
      let words = ["true": "yes", "false": "no"]
      return Setting("weights count in the scales", words[value.lowercased()] ?? value)
    case "n_grid": return Setting("points of the scale search", value)
    case "mappings": return Setting("where scales are searched for", value)
    case "smoothing_strength": return Setting("strength in the recipe", value)
    default: return setting
    }
  }
}

extension DataChoice {
  /// What was said, in the order of the line.
  var words: [Setting] {
    func yes(_ value: Bool) -> String { value ? "yes" : "no" }
    let arguments = templateArguments.entries.map { "\($0.key)=\($0.value.serialized())" }
    let all: [(String, String?)] = [
      ("data", name ?? path ?? "the built-in chats"), ("rows asked for", samples.map(whole)),
      ("tokens of a row at most", sequenceLength.map(whole)),
      ("chosen at random with seed", shuffleSeed.map { "\($0)" }),
      ("rows joined", packs.map(yes)), ("column of text", textColumn),
      ("special tokens added", addsSpecialTokens.map(yes)), ("chat template", chatTemplate),
      ("variables for the template", arguments.isEmpty ? nil : arguments.joined(separator: " ")),
      ("day that templates take for today", templateDate.map { String($0.prefix { $0 != "T" }) }),
      ("sequences", sequences.map(whole)), ("tokens", tokens.map(whole)),
      ("empty rows", emptyRows.map(whole)), ("unusable rows", failedRows.map(whole)),
    ]
    return all.compactMap { name, value in value.map { Setting(name, $0) } }
  }
}
