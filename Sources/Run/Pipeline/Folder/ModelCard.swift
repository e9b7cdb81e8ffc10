// README.md of an output: a model card as people publish them. It says nothing of machine, time or place, so that it is
// the same to the byte for the same run.

internal import CompressedTensors
internal import JSON
internal import Planning
internal import Reporting
internal import SystemIO

/// What a card says of the source, as it was when the run began: the source may be moved or gone when the card is made
/// again.
package struct CardSource: Sendable, Equatable {
  /// ORG/NAME, or the folder's name.
  package let name: String
  /// Whether it is ORG/NAME, so that the hub can link it.
  package let isOnHub: Bool
  /// Licence and languages, as the head of the source's own card has them.
  package let head: [String]

  private static let keptKeys = [
    "license", "license_name", "license_link", "language", "pipeline_tag",
  ]
  private static let mostLines = 64

  /// - Parameter folder: of the source.
  init(folder: String) {
    let path = FileSystem.resolved(folder)
    name = HubCache.name(of: path)
    isOnHub = name.contains("/")
    let card = (try? FileSystem.readFile(folder + "/" + ModelCard.file, limit: 1 << 20)) ?? []
    head = Self.head(of: String(decoding: card, as: UTF8.self))
  }

  /// Lines of the keys that are kept, with what is indented or listed under them.
  private static func head(of card: String) -> [String] {
    // The end of a line may be two characters, which are one here.
    let lines = card.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
      .map(String.init)
    guard lines.first == "---", let end = lines.dropFirst().firstIndex(of: "---") else { return [] }
    var kept: [String] = []
    var isKept = false
    for line in lines[1..<end] {
      if line.first.map({ $0 != " " && $0 != "-" && $0 != "#" }) ?? false {
        isKept = keptKeys.contains(String(line.prefix { $0 != ":" }))
      }
      let isShort = line.utf8.count <= 200 && !line.unicodeScalars.contains { $0.value < 0x20 }
      if isKept, isShort, kept.count < mostLines { kept.append(line) }
    }
    return kept
  }

  // MARK: Kept

  var json: JSONValue {
    [
      "name": .string(name), "on_hub": .bool(isOnHub),
      "head": .array(head.map { .string($0) }),
    ]
  }

  init?(_ json: JSONValue) {
    guard let object = json.object, let name = object["name"]?.string,
      let isOnHub = object["on_hub"]?.bool, let head = object["head"]?.array
    else { return nil }
    self.name = name
    self.isOnHub = isOnHub
    self.head = head.compactMap(\.string)
  }
}

/// A card is made of the records of a run, like its report.
struct ModelCard {
  static let file = "README.md"

  private let source: CardSource
  private let report: Report
  /// What stays as it is, without the reasons: these may name files.
  private let left: [String]
  /// Of recipe.yaml.
  private let recipe: String

  /// - Returns: nil where the run writes no card.
  init?(_ folder: OutputFolder) throws {
    let state = try RunState(readingFrom: folder.state)
    guard let source = state.history.card else { return nil }
    self.source = source
    report = try RunReport(output: folder.path).report
    left = (state.history.coverage?.left ?? []).map(\.what)
    recipe = String(
      decoding: try FileSystem.readFile("\(folder.path)/\(OutputFolder.recipe)"), as: UTF8.self)
  }

  var bytes: [UInt8] { Array(text.utf8) }

  /// Whether the output has this card.
  func isIn(_ folder: OutputFolder) -> Bool {
    (try? FileSystem.readFile("\(folder.path)/\(Self.file)")) == bytes
  }

  /// - Returns: whether it was not there, or another.
  @discardableResult
  func write(to folder: OutputFolder) throws -> Bool {
    if isIn(folder) { return false }
    let path = "\(folder.path)/\(Self.file)"
    try folder.checkPlace(path)
    try replaceFile(path, with: bytes)
    return true
  }

  // MARK: Text

  private func setting(_ name: String) -> String? { report.subject.setting(name) }

  private var scheme: String { setting("--scheme") ?? "" }

  /// A word for the title; nil where schemes differ.
  private var word: String? {
    let isWord = scheme.allSatisfy { $0.isLetter || $0.isNumber || $0 == "_" }
    return isWord && !scheme.isEmpty ? scheme : nil
  }

  private var smooths: Bool { !report.choices.smoothings.isEmpty }

  private var title: String { "\(FileSystem.name(source.name))-\(word ?? "quantized")" }

  private var text: String {
    var lines = ["---"]
    if source.isOnHub {
      lines += ["base_model: \(source.name)", "base_model_relation: quantized"]
    }
    lines += source.head
    if !source.head.contains(where: { $0.hasPrefix("pipeline_tag:") }) {
      lines.append("pipeline_tag: text-generation")
    }
    lines += ["library_name: transformers", "tags:"]
    let tags = ["compressed-tensors", word?.lowercased(), smooths ? "awq" : nil, "vllm", "sluice"]
    lines += tags.compactMap { $0.map { "- \($0)" } } + ["---", "", "# \(title)", ""]
    let model =
      source.isOnHub ? "[\(source.name)](https://huggingface.co/\(source.name))" : source.name
    lines += [
      "\(model) quantized with Sluice, as compressed-tensors, which vLLM loads.", "", "| | |",
      "|---|---|",
    ]
    lines += facts.map { "| \($0) | \(Self.cell($1)) |" }
    lines += distance
    lines += ["", "## Use", "", "```", "vllm serve \(title)", "```"]
    lines += ["", "## Recipe", "", "```yaml", recipe.trimmedEnd, "```", "", "## Licence", ""]
    let license = source.head.first { $0.hasPrefix("license:") }?.dropFirst("license:".count)
      .filter { $0 != " " }
    lines.append(
      license.map { "That of the base model: \($0)." }
        ?? "That of the base model; its own card says which.")
    return lines.joined(separator: "\n") + "\n"
  }

  private var facts: [(String, String)] {
    let subject = report.subject
    let share = percentText(Double(subject.outputBytes) / Double(max(1, subject.sourceBytes)))
    var facts = [
      ("scheme", subject.schemeWords ?? ""),
      ("quantized", "\(subject.quantized) (\(counted(report.choices.linears.count, "Linear")))"),
      ("left as they are", left.joined(separator: "; ")),
    ]
    if let scheme = setting("--mtp") { facts.append(("prediction layers", scheme)) }
    if let cache = setting("--kv-cache") { facts.append(("keys and values", cache)) }
    facts.append(("size", "\(bytesText(subject.outputBytes)), \(share) of the base model"))
    facts.append(("method", method))
    if let data = report.choices.data, let sequences = data.sequences, let tokens = data.tokens {
      facts.append(
        (
          "calibration data",
          "\(data.name ?? "the built-in chats"): \(counted(sequences, "sequence")), \(counted(tokens, "token"))"
        ))
    }
    return facts
  }

  private var method: String {
    let rounding = setting("--rounding") ?? ""
    let last = rounding == "nearest" ? "rounded to nearest" : "\(rounding) rounding"
    return smooths ? "AWQ's scales, then \(last)" : last
  }

  /// A table of what was measured.
  private var distance: [String] {
    if report.evaluations.isEmpty { return [] }
    func number(_ value: Double?) -> String { value.map(Self.digits) ?? "–" }
    let rows = report.evaluations.map { record in
      [
        record.data, grouped(record.tokens), number(record.divergence?.mean),
        number(record.divergence?.percentile99),
        record.divergence.map { "\(Self.digits(100 * $0.agreement)) %" } ?? "–",
        number(record.perplexity), number(record.referencePerplexity),
      ].map(Self.cell).joined(separator: " | ")
    }
    return [
      "", "## Distance to the base model", "",
      "| data | tokens | KL mean | KL 99th percentile | same first choice | perplexity | of the base model |",
      "|---|---|---|---|---|---|---|",
    ] + rows.map { "| \($0) |" }
  }

  /// Text that keeps to its cell.
  private static func cell(_ text: String) -> String {
    String(text.map { $0.isNewline ? " " : $0 }).replacing("|", with: "\\|")
  }

  /// Four digits that count.
  private static func digits(_ value: Double) -> String {
    if value == 0 || !value.isFinite { return "\(value)" }
    return "\(significant(value, digits: 4))"
  }
}

extension String {
  fileprivate var trimmedEnd: String {
    var result = self
    while result.last?.isWhitespace == true { result.removeLast() }
    return result
  }
}
