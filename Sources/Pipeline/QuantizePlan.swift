// The inputs of a run, opened, checked and planned before anything is written.

internal import Calibration
package import CompressedTensors
internal import JSON
internal import LinearAlgebra
internal import Models
package import Planning
internal import Quantization
internal import Recipes
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

/// The inputs of a run, opened, checked and planned; nothing has been written yet.
package struct QuantizePlan: Sendable {
  package let options: QuantizeOptions
  package let checkpoint: Checkpoint
  package let output: OutputPlan
  package let run: RunPlan
  package let warnings: [RunWarning]
  /// What the calibration data came to; nil without.
  package let data: DataSummary?
  /// The recipe of this run, in llm-compressor's words.
  let recipe: Recipe
  let blocks: [TokenBlock]
  let layout: ShardLayout

  /// A Linear that llm-compressor quantizes unless it is ignored, and Sluice never does.
  private static let head = "lm_head"

  /// - Parameter residentPeak: what this process took at most so far, where it does nothing else.
  package init(_ options: QuantizeOptions, residentPeak: () -> Int = { 0 }) throws {
    try self.init(
      options,
      checkpoint: Checkpoint(
        folder: options.model, room: RunPlan.checkpointRoom(budget: options.memory)),
      residentPeak: residentPeak)
  }

  /// - Parameter checkpoint: `options.model`, opened.
  package init(
    _ options: QuantizeOptions, checkpoint: Checkpoint, residentPeak: () -> Int = { 0 }
  ) throws {
    self.options = options
    self.checkpoint = checkpoint
    if checkpoint.quantization != nil {
      throw QuantizeError.alreadyQuantized(folder: options.model)
    }
    var patterns: [IgnorePattern] = []
    let origin = options.ignoreIsFromRecipe ? "\(options.recipe ?? ""): ignore" : "--ignore"
    for text in options.ignore { patterns.append(try IgnorePattern(text, origin: origin)) }
    recipe = Recipe(
      scheme: options.scheme,
      ignore: patterns.map(\.recipeText)
        + (patterns.contains { $0.matches(Self.head) } ? [] : [Self.head]),
      smooths: options.smooths, rounding: options.rounding,
      dampening: options.rounding == .compensated ? options.dampening : nil,
      duoScaling: options.duoScaling, gridPoints: options.gridPoints, mappings: options.mappings)
    let mappings = try options.mappings.map {
      try ResolvedMappings($0, of: checkpoint.spec, file: options.recipe ?? "mappings")
    }
    output = try OutputPlan(
      checkpoint, scheme: options.scheme, ignoring: patterns, smooths: options.smooths,
      method: options.rounding, producers: mappings?.producers)
    var warnings: [RunWarning] = []
    if options.smooths { warnings += (mappings?.notes ?? []).map { .mapping($0) } }
    let unused = checkpoint.activationScales
    if unused > 0 { warnings.append(.activationScalesDropped(count: unused)) }
    if options.ignoreIsFromRecipe, !patterns.contains(where: { $0.matches(Self.head) }) {
      warnings.append(.headStays(recipe: options.recipe ?? ""))
    }
    if options.calibrates {
      let data = try options.data.load(
        model: options.model, vocabularySize: checkpoint.spec.vocabularySize,
        room: {
          try RunPlan.dataRoom(
            budget: options.memory, tensors: checkpoint.model.tensors.count, tokenizerBytes: $0)
        })
      self.data = DataSummary(data, of: options.data)
      blocks = TokenBlock.cut(data.sequences)
    } else {
      blocks = []
      data = nil
    }
    let fates = output.fates
    for group in checkpoint.spec.layers.flatMap(\.fusedGroups) {
      let plain = group.filter { fates[$0.weight] != .packed }
      if let first = plain.first, plain.count < group.count {
        warnings.append(.splitsFused(module: first.name))
      }
    }
    self.warnings = warnings
    run = try RunPlan(
      Workload(
        checkpoint: checkpoint, output: output, blocks: blocks, loss: options.loss,
        expertTokens: options.expertTokens, gridPoints: options.grid.count,
        threads: options.threads, shardBytes: options.maximumShardBytes,
        engine: try Self.engine(options.engine, for: checkpoint), loadingBytes: residentPeak()),
      budget: options.memory)
    layout = ShardLayout(
      tensors: output.tensors, maximumShardBytes: options.maximumShardBytes)
  }

  /// The engine that was asked for, or the best one.
  private static func engine(_ asked: Engine?, for checkpoint: Checkpoint) throws -> Engine {
    let tensor = checkpoint.weights.tensor(checkpoint.spec.layers[0].attention.linears[0].weight)
    let isBF16 = tensor.dtype.unscaled == .bf16
    guard let asked else { return isBF16 ? .best : .f32 }
    if !asked.isAvailable { throw QuantizeError.missingInstructions(engine: asked) }
    if asked == .bf16 && !isBF16 {
      throw QuantizeError.engineRounds(
        file: tensor.file.path, tensor: tensor.name, dtype: tensor.dtype)
    }
    return asked
  }

  /// Floating-point operations of a run until it stands where `position` says.
  func operations(before position: RunPosition) -> Double {
    let layers = run.layers
    let all = run.tokens
    func tokens(_ blocks: Int) -> Double {
      Double(blocks < self.blocks.count ? self.blocks[..<blocks].reduce(0) { $0 + $1.count } : all)
    }
    func whole(_ count: Int) -> Double {
      layers.prefix(count).reduce(0) { $0 + $1.total(tokens: all) }
    }
    func attendAndUnits(_ layer: Int, before unit: Int) -> Double {
      layers[layer].attend.total(tokens: all)
        + layers[layer].units.prefix(unit).reduce(0) { $0 + $1.total(tokens: all) }
    }
    switch position {
    case .copy: return 0
    case .attend(let layer, let block):
      return whole(layer) + tokens(block) * layers[layer].attend.perToken
    case .experts(let layer, let unit, let end, let block):
      let begun = block > 0 ? layers[layer].units[unit..<max(unit, end)] : []
      return whole(layer) + attendAndUnits(layer, before: unit)
        + tokens(block) * begun.reduce(0) { $0 + $1.perToken }
    case .advance(let layer, let block):
      return whole(layer) + attendAndUnits(layer, before: layers[layer].units.count)
        + tokens(block) * layers[layer].advance.perToken
    case .finish, .done: return run.operations
    }
  }

  /// The share of a run's arithmetic that is done where `position` says; nil where there is none.
  func share(before position: RunPosition) -> Double? {
    run.operations > 0 ? operations(before: position) / run.operations : nil
  }

  /// All shards, headers included.
  var outputFileBytes: Int { layout.shards.reduce(0) { $0 + $1.byteCount } }

  /// What must be the same for a run to go on where another stopped.
  func fingerprint() throws -> [String: String] {
    var model = Digest()
    for (key, value) in checkpoint.config.entries { model.add("\(key)=\(value.serialized())") }
    for tensor in checkpoint.model.tensors {
      model.add("\(tensor.name) \(tensor.dtype) \(tensor.shape) \(tensor.range)")
    }
    var tokens = Digest()
    for block in blocks {
      tokens.add("\(block.sequences)")
      for token in block.tokens { tokens.add("\(token)") }
    }
    // Mappings that smooth all there is are as good as none.
    let smoothings = Array(output.smoothings.joined())
    let possible = checkpoint.spec.layers.flatMap(\.smoothings).filter {
      $0.consumers.contains { output.fates[$0.weight] == .packed }
    }
    var producers = Digest()
    for smoothing in smoothings { producers.add(smoothing.producerName) }
    let isAll = !options.smooths || smoothings.count == possible.count
    return [
      "model": model.text, "model weights": try weightSample(), "calibration tokens": tokens.text,
      "--scheme": "\(options.scheme.bits) bits\(options.scheme.isSymmetric ? "" : " asymmetric")",
      "--group-size": "\(options.scheme.groupSize)",
      "--ignore": options.ignore.joined(separator: " "),
      "--no-smoothing": options.smooths ? "off" : "on", "--loss": options.loss.rawValue,
      "--rounding": options.rounding.rawValue,
      "--expert-weighting": options.calibrates ? options.weighting.rawValue : "none",
      "--expert-tokens": options.calibrates
        ? options.expertTokens.map { "\($0)" } ?? "all" : "none",
      "--dampening": options.rounding == .compensated ? "\(options.dampening)" : "none",
      "--max-shard-size": "\(options.maximumShardBytes)", "--engine": run.engine.name,
      "duo_scaling": options.duoScaling.rawValue, "n_grid": "\(options.gridPoints)",
      "mappings": isAll ? "all" : "\(smoothings.count) of \(possible.count) (\(producers.text))",
    ]
  }

  /// Pages of each shard that stand for its content.
  private static let samples = 16

  /// A digest of some pages of every shard: tells another checkpoint of the same shapes apart, wherever the files lie
  /// and whenever they were copied there, without reading hundreds of gigabytes.
  private func weightSample() throws -> String {
    var digest = Digest()
    let page = Buffer("a page", byteCount: 4096, from: Matrix.unlimited)
    for file in checkpoint.model.files {
      guard let mapped = file.tensors.first?.file else { continue }
      for sample in 0..<Self.samples {
        let start = (mapped.byteCount - 1) * sample / (Self.samples - 1) / 4096 * 4096
        let range = start..<min(start + 4096, mapped.byteCount)
        _ = try unsafe mapped.read(range, into: page.bytes)
        unsafe digest.add(page.bytes[..<range.count])
      }
    }
    return digest.text
  }
}
