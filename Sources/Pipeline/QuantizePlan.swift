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
  /// What is quantized, and what is left.
  package let coverage: Coverage
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
    try Gemm.open()
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
        + (try patterns.contains { try $0.matches(Self.head) } ? [] : [Self.head]),
      smooths: options.smooths, rounding: options.rounding,
      dampening: options.rounding == .compensated ? options.dampening : nil,
      duoScaling: options.duoScaling, gridPoints: options.gridPoints, mappings: options.mappings)
    let mappings = try options.mappings.map {
      try ResolvedMappings($0, of: checkpoint.spec, file: options.recipe ?? "mappings")
    }
    output = try OutputPlan(
      checkpoint, scheme: options.scheme, ignoring: patterns, smooths: options.smooths,
      method: options.rounding, producers: mappings?.producers)
    coverage = Coverage(checkpoint, output, patterns: patterns)
    let modules = OutputPlan.modules(of: checkpoint)
    var warnings = patterns.flatMap { $0.openNumbers(among: modules) }.map(RunWarning.openNumber)
    if options.rounding == .nearest, options.roundingIsFromRecipe {
      warnings.append(.roundingOfRecipe(file: options.recipe ?? ""))
    }
    if options.smooths, let mappings {
      warnings += mappings.notes.map { .mapping($0) } + mappings.openNumbers.map { .openNumber($0) }
    }
    let unused = checkpoint.activationScales
    if unused > 0 { warnings.append(.activationScalesDropped(count: unused)) }
    if options.ignoreIsFromRecipe, try !patterns.contains(where: { try $0.matches(Self.head) }) {
      warnings.append(.headStays(recipe: options.recipe ?? ""))
    }
    let engine = try Self.engine(options.engine, for: checkpoint)
    let planned = output
    func work(_ blocks: [TokenBlock], loadingBytes: Int) -> Workload {
      Workload(
        checkpoint: checkpoint, output: planned, blocks: blocks, loss: options.loss,
        expertTokens: options.expertTokens, gridPoints: options.grid.count,
        threads: options.threads, shardBytes: options.maximumShardBytes, engine: engine,
        loadingBytes: loadingBytes)
    }
    if options.calibrates {
      let data = try options.data.load(
        model: options.model, vocabularySize: checkpoint.spec.vocabularySize,
        room: { bytes in
          try RunPlan.dataRoom(
            budget: options.memory, tensors: checkpoint.model.tensors.count, tokenizerBytes: bytes
          ) { loading in
            RunPlan.smallestBudget(
              work(TokenBlock.most(of: options.data.selection), loadingBytes: loading))
          }
        })
      self.data = DataSummary(data, of: options.data)
      warnings += RunWarning.longSequence(data.longest, for: checkpoint)
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
    let leftExperts = checkpoint.spec.layers.filter { layer in
      layer.mlp.routed.flatMap(\.linears).contains { fates[$0.weight] != .packed }
    }
    if !leftExperts.isEmpty { warnings.append(.expertsStay(layers: leftExperts.map(\.index))) }
    self.warnings = warnings
    run = try RunPlan(work(blocks, loadingBytes: residentPeak()), budget: options.memory)
    layout = ShardLayout(
      tensors: output.tensors, maximumShardBytes: options.maximumShardBytes)
  }

  /// The plan of the same run with other options for its data, its experts or its rounding: the model as it was opened,
  /// and the first of the sequences that were read.
  init(_ plan: QuantizePlan, with options: QuantizeOptions) throws {
    self.options = options
    checkpoint = plan.checkpoint
    (coverage, warnings, data) = (plan.coverage, plan.warnings, plan.data)
    var recipe = plan.recipe
    recipe.rounding = options.rounding
    recipe.dampening = options.rounding == .compensated ? options.dampening : nil
    self.recipe = recipe
    output = plan.output.rounded(by: options.rounding, of: checkpoint.spec)
    layout = plan.layout
    let sequences = plan.blocks.flatMap { block in
      block.sequences.map { Array(block.tokens[$0]) }
    }
    blocks = TokenBlock.cut(Array(sequences.prefix(options.data.selection.samples)))
    run = try RunPlan(
      Workload(
        checkpoint: checkpoint, output: output, blocks: blocks, loss: options.loss,
        expertTokens: options.expertTokens, gridPoints: options.grid.count,
        threads: options.threads, shardBytes: options.maximumShardBytes, engine: plan.run.engine,
        loadingBytes: plan.run.step(.load).bytes),
      budget: options.memory)
  }

  /// Sequences of the calibration data.
  var sequences: Int { blocks.reduce(0) { $0 + $1.sequences.count } }

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
}
