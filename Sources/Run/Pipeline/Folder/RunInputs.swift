// What must be the same for a run to go on where another stopped, by the names the user knows it by.

internal import Calibration
internal import CompressedTensors
internal import JSON
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import Recipes
internal import Reporting
internal import Transformer

package struct RunInputs: Sendable, Equatable {
  /// Every flag and every word of a recipe that changes output bytes.
  package var options: [String: String] = [:]
  /// What config.json of the source says, by key.
  package var config: [String: String] = [:]
  /// A digest of the calibration tokens.
  package var tokens = ""
  /// The flags that the tokens come from: told where the tokens are others, and no reason to refuse by themselves.
  package var data: [String: String] = [:]

  package init() {}

  /// What differs first from other inputs; nil where nothing does.
  ///
  /// - Parameter model: the source, for the names of its keys.
  func difference(from asked: RunInputs, model: String) -> InputDifference? {
    func first(
      _ written: [String: String], _ asked: [String: String], _ option: (String) -> String
    ) -> InputDifference? {
      // These first: other options follow from them.
      let all =
        SizeWish.flags + ["--scheme", "--no-smoothing", "--rounding"]
        + Set(written.keys).union(asked.keys).sorted()
      return all.first { written[$0] != asked[$0] }.map { key in
        .option(
          option(key), written: written[key] ?? "(nothing)", asked: asked[key] ?? "(nothing)")
      }
    }
    // What `auto` comes to follows from the data, which is what to tell where that is another.
    func withoutAuto(_ options: [String: String]) -> [String: String] {
      options.filter { tokens == asked.tokens || $0.key != Self.expertTokensFlag }
    }
    // Other words are a recipe's.
    if let found = first(
      withoutAuto(options), withoutAuto(asked.options),
      { $0.hasPrefix("--") ? $0 : "\($0) of --recipe" })
      ?? first(config, asked.config, { "`\($0)` in \(model)/config.json" })
    {
      return found
    }
    if tokens == asked.tokens { return nil }
    // The name of the data last: a file that was moved is as good.
    func withoutName(_ flags: [String: String]) -> [String: String] {
      flags.filter { $0.key != Self.dataFlag }
    }
    return first(withoutName(data), withoutName(asked.data), { $0 })
      ?? first(data, asked.data, { $0 }) ?? .tokens
  }

  /// Refuses to go on with other inputs than these.
  ///
  /// - Parameters:
  ///   - path: of the state.
  ///   - data: what the calibration data is called.
  ///   - model: the source.
  package func check(
    against asked: RunInputs, path: String, data name: String, model: String
  ) throws(RunStateError) {
    switch difference(from: asked, model: model) {
    case nil: return
    case .option(let option, let written, let asked):
      throw .otherOptions(path: path, option: option, written: written, asked: asked)
    case .tokens: throw .otherTokens(path: path, data: name, model: model)
    }
  }

  static let dataFlag = "--calibration"
  static let expertTokensFlag = "--expert-tokens"

  /// The group sizes of all schemes.
  var groupSizes: [Int] {
    (options["--group-size"] ?? "").split(separator: ", ").compactMap { Int($0) }
  }

  // MARK: Kept

  var json: JSONValue {
    func object(_ entries: [String: String]) -> JSONValue {
      .object(JSONObject(entries.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value)) }))
    }
    return [
      "options": object(options),
      "config": object(config),
      "tokens": .string(tokens),
      "data": object(data),
    ]
  }

  init?(_ json: JSONValue) {
    func entries(_ key: String) -> [String: String]? {
      guard let object = json.object?[key]?.object else { return nil }
      var result: [String: String] = [:]
      for (key, value) in object.entries { result[key] = value.string }
      return result
    }
    guard let options = entries("options"), let config = entries("config"),
      let tokens = json.object?["tokens"]?.string, let data = entries("data")
    else { return nil }
    self.options = options
    self.config = config
    self.tokens = tokens
    self.data = data
  }
}

/// What two runs do not have in common.
enum InputDifference: Equatable {
  case option(String, written: String, asked: String)
  /// All flags are the same, and yet the tokens are not.
  case tokens
}

extension RunInputs {
  /// What states depend on, but the weights: the model's config, the tokens, and what multiplies them.
  ///
  /// - Parameter blocks: empty for a run without calibration.
  init(_ data: CalibrationSource, _ blocks: [TokenBlock], config: JSONObject, engine: Engine) {
    self.init()
    options = ["--engine": engine.name]
    for (key, value) in config.entries {
      self.config[key] = QuantizePlan.shortened(value.serialized())
    }
    if blocks.isEmpty { return }
    var tokens = Digest()
    for block in blocks {
      tokens.add("\(block.sequences)")
      for token in block.tokens { tokens.add("\(token)") }
    }
    self.tokens = tokens.text
    let selection = data.selection
    func text(_ value: (some CustomStringConvertible)?) -> String {
      value.map { "\($0)" } ?? "(not given)"
    }
    self.data = [
      RunInputs.dataFlag: data.name, "--samples": "\(selection.samples)",
      "--sequence-length": "\(selection.sequenceLength)",
      "--shuffle-seed": text(selection.shuffleSeed), "--pack": selection.packs ? "on" : "off",
      "--text-column": text(data.textColumn),
      "--add-special-tokens": text(data.addsSpecialTokens.map { $0 ? "yes" : "no" }),
      "--chat-template": text(data.chatTemplate),
      "--template-arg": QuantizePlan.shortened(
        data.templateArguments.map { "\($0.0)=\($0.1.serialized())" }.joined(separator: " ")),
      "--template-date": "\(data.templateDate)",
    ]
  }
}

extension QuantizePlan {
  /// What the source's shards hold is not among them: that is compared by itself.
  var inputs: RunInputs {
    var inputs = RunInputs(
      options.data, calibrates ? blocks : [], config: checkpoint.config, engine: run.engine)
    inputs.options = [
      "--scheme": Self.shortened(schemesText), "--group-size": groupSizesText,
      "--ignore": Self.shortened(options.ignore.joined(separator: " ")),
      "--no-smoothing": options.smooths ? "off" : "on", "--loss": options.loss.rawValue,
      "--rounding": options.rounding.rawValue,
      "--expert-weighting": calibrates ? options.weighting.rawValue : "none",
      RunInputs.expertTokensFlag: calibrates ? expertTokensText : "none",
      "--damping": options.rounding.needsGram ? "\(options.damping)" : "none",
      "--max-shard-size": "\(options.maximumShardBytes)", "--engine": run.engine.name,
      "duo_scaling": options.duoScaling.rawValue,
      "n_grid": "\(options.gridPoints)", "mappings": mappingsText,
    ]
    if options.smooths, let smoothQuant = options.smoothQuant {
      inputs.options["smoothing_strength"] = "\(smoothQuant.strength)"
    }
    if !options.writesCard { inputs.options["--no-card"] = "on" }
    if let scheme = options.predictions { inputs.options["--mtp"] = scheme.words }
    if let cache = options.cache { inputs.options["--kv-cache"] = cache.rawValue }
    let accepted = spec.notes.compactMap { note -> String? in
      if case .accepted(let key, _) = note { key } else { nil }
    }
    if let size = options.size {
      inputs.options["--choices"] = size.options.map(\.name).joined(separator: ", ")
      if measures {
        inputs.options["--scheme"] = nil
      } else {
        inputs.options[size.flag] = size.value
      }
    }
    if !accepted.isEmpty {
      inputs.options["--accept-config-key"] = accepted.sorted().joined(separator: " ")
    }
    return inputs
  }

  /// One for every Linear by its name; else each with its targets. What was chosen by its sums, and a digest of the rest.
  private var schemesText: String {
    if let chosen = options.chosen {
      var digest = Digest()
      for scheme in chosen.schemes { digest.add("\(scheme.targets) \(scheme.words)") }
      for target in chosen.kept { digest.add(target) }
      return "\(chosen.record.words) [\(digest.text)]"
    }
    return options.schemes.map { scheme in
      (scheme.targets == [QuantizationScheme.linear]
        ? scheme.name : "\(scheme.targets.joined(separator: " "))=\(scheme.words)")
        + (CompressionFormats.isUsual(scheme) ? "" : " as \(CompressionFormats.name(of: scheme))")
    }.joined(separator: ", ")
  }

  /// What was asked for, or what `auto` comes to: for each width of experts, where they have several.
  private var expertTokensText: String {
    switch options.expertTokens {
    case .all: return "all"
    case .number(let count): return "\(count)"
    case .auto:
      let widths = Set(spec.layers.flatMap(\.experts).map(\.down.inputs)).sorted()
      let counts = widths.map { options.expertTokens.count(channels: $0, of: run.tokens) }
      let texts = Set(counts).sorted { $0 ?? .max < $1 ?? .max }.map { $0.map { "\($0)" } ?? "all" }
      return texts.isEmpty ? "all" : texts.joined(separator: ", ")
    }
  }

  /// Largest first.
  private var groupSizesText: String {
    let sizes = Set(options.schemes.compactMap { $0.weights?.groupSize }).sorted(by: >)
    return sizes.isEmpty ? "none" : sizes.map { "\($0)" }.joined(separator: ", ")
  }

  /// Mappings that smooth all there is are as good as none.
  private var mappingsText: String {
    let smoothings = Array(output.smoothings.joined())
    let possible = checkpoint.spec.layers.flatMap(\.smoothings).filter {
      $0.consumers.contains { output.fates[$0.weight] == .packed }
    }
    if !options.smooths || smoothings.count == possible.count { return "all" }
    var producers = Digest()
    for smoothing in smoothings { producers.add(smoothing.producerName) }
    let words = (options.mappings ?? []).map {
      "\($0.smoothLayer) -> \($0.balanceLayers.joined(separator: " "))"
    }
    return Self.shortened(
      "\(smoothings.count) of \(possible.count) (\(words.joined(separator: "; ")))")
      + " [\(producers.text)]"
  }

  /// What is too long for a message ends in a digest.
  fileprivate static func shortened(_ text: String) -> String {
    if text.utf8.count <= 240 { return text }
    var digest = Digest()
    digest.add(text)
    return "\(text.prefix(200))… [\(digest.text)]"
  }
}
