// The inputs of a run, opened, checked and planned before anything is written.

internal import Calibration
package import CompressedTensors
internal import JSON
internal import LinearAlgebra
package import Models
package import Planning
internal import Quantization
internal import Recipes
package import Reporting
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Tokenization
internal import Transformer

/// The inputs of a run, opened, checked and planned; nothing has been written yet.
package struct QuantizePlan: Sendable {
  /// With the group size that was chosen where none was named.
  package let options: QuantizeOptions
  package let spec: ModelSpec
  package var layers: LayerCount {
    let predictions = spec.layers.count { $0.entrance != nil }
    return LayerCount(spec.layers.count - predictions, predictions: predictions)
  }
  /// nil where the weights are not here, and shapes alone were planned with.
  package let opened: Checkpoint?
  /// Of a pass that measures the first of `trials`, with all activations that any of them must see.
  package let output: OutputPlan
  /// What a pass that measures takes in the output's place; none in one that writes.
  let trials: [OutputPlan]
  /// What a pass that measures is for.
  package let sizing: Sizing?
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
  /// Where states are kept for other runs.
  let kept: KeptStates?
  package let keptSummary: KeptSummary?
  /// What each layer comes to, for a run that replaces this one's output; none of a pass that measures.
  let layerRecords: [String]
  /// Layers that are taken over from the output that this one replaces.
  let reused: ReusedLayers?

  /// The names, types and shapes that were planned with, where nothing else is there to tell them.
  private let shapes: CheckpointShapes?
  private let config: JSONObject
  private let planner: RunPlanner

  /// The checkpoint of a run.
  package var checkpoint: Checkpoint {
    guard let opened else { preconditionFailure("a plan of shapes alone is not run") }
    return opened
  }

  private var source: CheckpointShapes { shapes ?? CheckpointShapes(checkpoint) }

  /// - Parameter residentPeak: what this process took at most so far, where it does nothing else.
  package init(_ options: QuantizeOptions, residentPeak: () -> Int = { 0 }) throws {
    try self.init(
      options,
      checkpoint: Checkpoint(
        folder: options.model, accepting: options.acceptedKeys,
        room: RunPlan.checkpointRoom(budget: options.memory)),
      residentPeak: residentPeak)
  }

  /// - Parameter checkpoint: `options.model`, opened.
  package init(
    _ options: QuantizeOptions, checkpoint: Checkpoint, residentPeak: () -> Int = { 0 }
  ) throws {
    try self.init(
      options, source: CheckpointShapes(checkpoint), opened: checkpoint,
      config: checkpoint.config, residentPeak: residentPeak)
  }

  /// The plan of a model whose weights may not be here yet: then that of the shapes that config.json and the index tell,
  /// which can be looked at and not be run.
  package init(
    ofWhatIsHere options: QuantizeOptions, residentPeak: () -> Int = { 0 }
  ) throws {
    let room = RunPlan.checkpointRoom(budget: options.memory)
    let config = try CheckpointConfig(
      folder: options.model, accepting: options.acceptedKeys, room: room)
    let listing = try ShardListing(folder: options.model, room: room)
    if listing.isComplete {
      try self.init(options, residentPeak: residentPeak)
    } else {
      try self.init(
        options, source: CheckpointShapes(config, listing: listing), opened: nil,
        config: config.config, residentPeak: residentPeak)
    }
  }

  /// The plan of the pass that writes, behind one that measured.
  ///
  /// - Parameter restarts: whether an earlier run in the output is to be forgotten.
  init(_ plan: QuantizePlan, choosing chosen: ChosenSize, restarts: Bool) throws {
    var options = plan.options.choosing(chosen)
    options.restarts = restarts
    try self.init(
      options, source: plan.source, opened: plan.opened, config: plan.config, read: plan,
      residentPeak: { plan.loadingBytes })
  }

  /// - Parameter read: a plan whose calibration data is that of this one; nil to read it.
  private init(
    _ asked: QuantizeOptions, source: CheckpointShapes, opened: Checkpoint?, config: JSONObject,
    read: QuantizePlan? = nil, residentPeak: () -> Int
  ) throws {
    let source = try asked.predictions == nil ? source.withoutPredictions : source.predicting()
    var opened = opened
    opened?.spec = source.spec
    try Gemm.open()
    try AcceptedKeyMissing.check(
      asked.acceptedKeys, in: [config], file: asked.model + "/" + OutputFolder.config)
    spec = source.spec
    self.opened = opened
    self.config = config
    shapes = opened == nil ? source : nil
    var named = asked
    var patterns: [IgnorePattern] = []
    let origin = asked.ignoreIsFromRecipe ? "\(asked.recipe ?? ""): ignore" : "--ignore"
    for text in asked.ignore { patterns.append(try IgnorePattern(text, origin: origin)) }
    let asIgnored = patterns
    for text in asked.chosen?.kept ?? [] {
      patterns.append(try IgnorePattern(text, reason: SizeOption.plain.name))
    }
    var warnings = source.notes.map { RunWarning.source(note: $0) }
    let schemeOrigin =
      asked.schemesAreFromRecipe
      ? "\(asked.recipe ?? ""): targets" : asked.measures ? "--choices" : "--scheme"
    let wish = asked.measures ? asked.size : nil
    if let wish { named.schemes = wish.options.compactMap(\.scheme) }
    var groups = named.schemes
    if !asked.schemesAreFromRecipe {
      groups = try groups.map { scheme in
        scheme.targeting(
          try scheme.targets.flatMap { target in
            try target == QuantizationScheme.linear
              ? [target]
              : IgnorePattern.targets(
                target, of: source.spec.withoutPredictions, origin: schemeOrigin)
          })
      }
    }
    for layered in asked.layerSchemes {
      groups = try layered.apply(to: groups, of: source.spec.layers)
      named.schemes = groups
    }
    if let scheme = asked.predictions {
      try Self.checkLoaded(scheme, by: source.spec.predictions)
      // What is for every Linear is for theirs, too.
      let isUsual = groups.allSatisfy {
        $0.targets == [QuantizationScheme.linear] && $0.isSame(as: scheme)
      }
      if !isUsual { groups.append(scheme.targetingPredictions(of: source.spec, beside: groups)) }
    }
    if !asked.isGroupSizeNamed {
      // Of schemes to choose among, the first whose size is free stands for all.
      let first = groups.first { $0.grouped(by: 1) != $0 } ?? groups[0]
      let size = try OutputPlan.groupSize(
        for: source, schemes: wish == nil ? groups : [first], from: schemeOrigin,
        ignoring: patterns)
      let free = groups.filter { $0.grouped(by: size) != $0 }
      if let usual = free.compactMap({ $0.weights?.groupSize }).max(), size != usual {
        warnings.append(.smallerGroups(size, instead: usual))
      }
      groups = groups.map { $0.grouped(by: size) }
      named.schemes = named.schemes.map { $0.grouped(by: size) }
      named.predictions = named.predictions?.grouped(by: size)
      if wish != nil { named.size = asked.size?.grouped(by: size) }
    }
    let options = named
    self.options = options
    let mappings = try options.mappings.map {
      try ResolvedMappings($0, of: source.spec, file: options.recipe ?? "mappings")
    }
    let file = options.recipe ?? ""
    let unsmoothed = try spec.unsmoothed(ignoring: options.smoothQuant?.ignore ?? [], file: file)
    let producers =
      mappings == nil && unsmoothed.isEmpty
      ? nil
      : (mappings?.producers ?? Set(spec.layers.flatMap(\.smoothings).map(\.producerName)))
        .subtracting(unsmoothed)
    let cacheOrigin =
      asked.cacheIsFromRecipe ? "\(asked.recipe ?? ""): kv_cache_scheme" : "--kv-cache"
    func output(
      _ schemes: [QuantizationScheme], by method: RoundingMethod, cache: CacheScheme?
    ) throws -> OutputPlan {
      try OutputPlan(
        source, schemes: schemes, from: schemeOrigin, ignoring: patterns,
        smooths: options.smooths, method: method, producers: producers,
        cache: cache.map { ($0, cacheOrigin) })
    }
    if let wish = options.size, options.measures {
      try Self.checkLoaded(wish, of: source.spec)
      trials = OutputPlan.numbered(
        try groups.map {
          try output([$0], by: Self.measuringMethod(options.rounding), cache: nil)
        })
      let ignored = try IgnorePattern.matching(patterns, of: OutputPlan.modules(of: source))
      sizing = try Sizing(wish, trials, source, cache: options.cache) {
        !ignored.contains($0.name)
      }
      self.output = OutputPlan.seeing(trials, of: source.spec)
    } else {
      trials = []
      sizing = nil
      self.output = try output(groups, by: options.rounding, cache: options.cache)
    }
    let output = self.output
    // llm-compressor quantizes it unless it is ignored, and Sluice where a target names it.
    let head = source.spec.headName
    let ignoresHead = try patterns.contains { try $0.matches(head) }
    let quantizesHead = output.ends.contains(spec.head)
    var recipe = Recipe(
      schemes: output.schemes.schemes,
      ignore: patterns.map(\.recipeText)
        + (ignoresHead || quantizesHead ? [] : [head])
        + output.undivided.map(\.name),
      smooths: options.smooths, rounding: options.rounding,
      damping: options.rounding.needsGram ? options.damping : nil,
      duoScaling: options.duoScaling, gridPoints: options.gridPoints, mappings: options.mappings,
      cache: options.cache)
    recipe.smoothQuant = options.smoothQuant
    self.recipe = recipe
    coverage = Coverage(source, output, patterns: patterns)
    let modules = OutputPlan.modules(of: source)
    warnings += asIgnored.flatMap { $0.openNumbers(among: modules) }.map(RunWarning.openNumber)
    if let warning = RunWarning(undivided: output) { warnings.append(warning) }
    let chosen = output.schemes
    let experts = Set(
      spec.layers.flatMap(\.experts).flatMap(\.linears).compactMap { chosen[$0] })
    warnings += chosen.schemes.compactMap { scheme in
      CompressionFormats.loadingProblem(scheme, forExperts: experts.contains(scheme)).map {
        .notLoaded(scheme: scheme.name, reason: $0)
      }
    }
    if !output.ends.isEmpty, options.rounding.needsGram {
      warnings.append(.endsClipped(output.ends.map(\.name)))
    }
    if options.rounding.compensatesOutputs {
      let alone = spec.layers.filter { layer in
        layer.parts.compactMap(\.sequence?.mixer).contains { mixer in
          mixer.probed.isEmpty
            && mixer.linears.contains { output.fates[$0.weight] == .packed }
        }
      }
      if !alone.isEmpty { warnings.append(.outputsAlone(layers: alone.map(\.index))) }
    }
    if options.rounding == .nearest, options.roundingIsFromRecipe {
      warnings.append(.roundingOfRecipe(file: options.recipe ?? ""))
    }
    if options.smooths, let smoothQuant = options.smoothQuant {
      warnings.append(
        .smoothQuant(
          file: file, strength: smoothQuant.strength,
          seesActivations: chosen.schemes.contains { $0.inputActivations != nil }))
    }
    if options.smooths, let mappings {
      warnings += mappings.notes.map { .mapping($0) } + mappings.openNumbers.map { .openNumber($0) }
    }
    let unused = source.activationScales
    if unused > 0 { warnings.append(.activationScalesDropped(count: unused)) }
    if options.ignoreIsFromRecipe, !ignoresHead, !quantizesHead {
      warnings.append(.headStays(recipe: options.recipe ?? ""))
    }
    let engine = try Self.engine(options.engine, for: source, opened)
    let trials = trials
    func planner(
      _ blocks: [TokenBlock], loadingBytes: Int, _ kept: KeptStates? = nil,
      _ reused: ReusedLayers? = nil
    ) -> RunPlanner {
      RunPlanner(
        source, output, trials, options, blocks: blocks, engine: engine, loadingBytes: loadingBytes,
        kept: kept, reused: reused)
    }
    if let read {
      (data, blocks) = (read.data, read.blocks)
    } else if options.calibrates || output.schemes.storeScales || !trials.isEmpty {
      do {
        let data = try options.data.load(
          model: options.model, vocabularySize: source.spec.vocabularySize,
          room: { bytes in
            try RunPlan.dataRoom(
              budget: options.memory, tensors: source.tensors.count, tokenizerBytes: bytes
            ) { loading in
              planner(TokenBlock.most(of: options.data.selection), loadingBytes: loading)
                .smallestBudget
            }
          })
        self.data = DataSummary(data, of: options.data)
        blocks = TokenBlock.cut(data.sequences)
      } catch TokenizerError.noTokenizer where opened == nil {
        data = nil
        blocks = TokenBlock.most(of: options.data.selection)
        warnings.append(
          .dataAssumed(
            sequences: options.data.selection.samples,
            tokens: options.data.selection.sequenceLength))
      }
    } else {
      blocks = []
      data = nil
    }
    try spec.checkLength(TokenBlock.longest(of: blocks))
    warnings += RunWarning.longSequence(TokenBlock.longest(of: blocks), for: config)
    let fates = output.fates
    for group in spec.layers.flatMap(\.fusedGroups) {
      let plain = group.filter { fates[$0.weight] != .packed }
      if let first = plain.first, plain.count < group.count {
        warnings.append(.splitsFused(module: first.name))
      }
    }
    let leftExperts = spec.layers.filter { layer in
      layer.experts.flatMap(\.linears).contains { fates[$0.weight] != .packed }
    }
    if !leftExperts.isEmpty { warnings.append(.expertsStay(layers: leftExperts.map(\.index))) }
    if options.keptStates != nil, options.ranks > 1 {
      throw KeptError.severalProcesses(count: options.ranks)
    }
    // Without calibration there is nothing to keep.
    if let folder = options.keptStates, !blocks.isEmpty {
      kept = try KeptStates(
        folder, inputs: RunInputs(options.data, blocks, config: config, engine: engine),
        layers: source.spec.layers, model: options.model, output: options.output,
        data: options.data.name)
    } else {
      kept = nil
    }
    if let damaged = kept?.damaged, !damaged.isEmpty { warnings.append(.keptDamaged(damaged)) }
    self.warnings = warnings
    let calibratedLayers = blocks.isEmpty ? 0 : RunPlanner.calibratedLayers(output)
    layerRecords =
      trials.isEmpty
      ? output.layerRecords(
        of: source.spec, options, calibratedLayers: calibratedLayers, engine: engine) : []
    if let replaced = options.replaces, trials.isEmpty, kept != nil || (options.window ?? 1) == 1 {
      reused = ReusedLayers(
        replaced, source.spec, records: layerRecords,
        inputs: RunInputs(
          options.data, options.calibrates || output.schemes.storeScales ? blocks : [],
          config: config, engine: engine),
        source: opened.map { SourceFile.all(of: $0.model) } ?? [],
        calibratedLayers: calibratedLayers, kept: kept
      ) { layer in
        output.writtenTensors(of: layer) { source.tensor($0).dtype.unscaled }
      }
    } else {
      reused = nil
    }
    let whole = planner(blocks, loadingBytes: residentPeak(), kept, reused)
    self.planner = whole
    keptSummary = whole.keptSummary
    run = try whole.plan(budget: options.memory)
    if let chosen = options.chosen { span = chosen.begins...1 }
    layout = ShardLayout(
      tensors: trials.isEmpty ? output.tensors : [], maximumShardBytes: options.maximumShardBytes)
  }

  /// Whether the run looks at calibration data.
  var calibrates: Bool {
    options.calibrates || output.schemes.storeScales || !trials.isEmpty
  }

  /// Whether this is the plan of a pass that measures, and writes nothing.
  package var measures: Bool { !trials.isEmpty }

  /// All that is rounded: the output, or each of the trials.
  var rounded: [OutputPlan] { trials.isEmpty ? [output] : trials }

  /// Refuses choices that vLLM does not load.
  private static func checkLoaded(_ wish: SizeWish, of spec: ModelSpec) throws(SizeError) {
    let hasExperts = spec.layers.contains { !$0.experts.isEmpty }
    for option in wish.options {
      guard let scheme = option.scheme,
        let reason = CompressionFormats.loadingProblem(scheme, forExperts: hasExperts)
      else { continue }
      throw .notLoaded(choice: option.name, reason: reason)
    }
  }

  /// Refuses what vLLM does not load in prediction layers.
  private static func checkLoaded(
    _ scheme: QuantizationScheme, by layers: [LayerSpec]
  ) throws(PredictionError) {
    let hasExperts = layers.contains { !$0.experts.isEmpty }
    if let reason = CompressionFormats.loadingProblem(scheme, forExperts: hasExperts) {
      throw .notLoaded(scheme: scheme.name, reason: reason)
    }
  }

  /// What a pass rounds by that measures for one that rounds by `method`: errors of rounding to nearest are found beside
  /// those within clipped ranges.
  private static func measuringMethod(_ method: RoundingMethod) -> RoundingMethod {
    method == .nearest ? .clip : method
  }

  /// The plan of the same run with other options for its data, its experts or its rounding: the model as it was opened,
  /// and the first of the sequences that were read.
  init(_ plan: QuantizePlan, with options: QuantizeOptions) throws {
    self.options = options
    (spec, opened, shapes, config) = (plan.spec, plan.opened, plan.shapes, plan.config)
    (coverage, warnings, data) = (plan.coverage, plan.warnings, plan.data)
    var recipe = plan.recipe
    recipe.rounding = options.rounding
    recipe.damping = options.rounding.needsGram ? options.damping : nil
    self.recipe = recipe
    if plan.trials.isEmpty {
      trials = []
      output =
        options.rounding == plan.output.method
        ? plan.output : plan.output.rounded(by: options.rounding, of: spec)
    } else {
      let method = Self.measuringMethod(options.rounding)
      trials = plan.trials.map { $0.rounded(by: method, of: plan.spec) }
      output = OutputPlan.seeing(trials, of: plan.spec)
    }
    sizing = plan.sizing
    layout = plan.layout
    (kept, keptSummary, layerRecords, reused) = (nil, nil, [], nil)
    let sequences = plan.blocks.flatMap { block in
      block.sequences.map { Array(block.tokens[$0]) }
    }
    blocks = TokenBlock.cut(Array(sequences.prefix(options.data.selection.samples)))
    planner = plan.planner.with(options, output, trials, blocks: blocks)
    run = try planner.plan(budget: options.memory)
  }

  /// Sequences of the calibration data.
  var sequences: Int { blocks.reduce(0) { $0 + $1.sequences.count } }

  /// The engine that was asked for, or the best one.
  private static func engine(
    _ asked: Engine?, for source: CheckpointShapes, _ opened: Checkpoint?
  ) throws -> Engine {
    let tensor = source.tensor(source.spec.layers[0].linears[0].weight)
    let isBF16 = tensor.dtype.unscaled == .bf16
    guard let asked else { return isBF16 ? .best : .f32 }
    if !asked.isAvailable { throw QuantizeError.missingInstructions(engine: asked) }
    if asked == .bf16 && !isBF16 {
      throw QuantizeError.engineRounds(
        place: opened?.weights.parameter(tensor.name).file.path ?? source.folder,
        tensor: tensor.name,
        dtype: tensor.dtype)
    }
    return asked
  }

  /// What the steps of a layer write.
  func writtenTensors(of layer: LayerSpec) -> [TensorSpec] {
    output.writtenTensors(of: layer) { source.tensor($0).dtype.unscaled }
  }

  /// What the first step copies: tensors of the source, of which it takes those that no layer's work changes.
  var copiedTensors: [TensorSpec] { measures ? [] : source.tensors }

  /// Of the arithmetic of all passes, where this one begins and ends.
  package internal(set) var span = 0.0...1.0

  /// What the process had taken at most when it had opened the model and read the data.
  var loadingBytes: Int { planner.loadingBytes }

  /// Smoothing scales, beside the output.
  var scalesLayout: ShardLayout {
    ShardLayout(
      singleFile: OutputFolder.smoothingFile, tensors: rounded.flatMap(\.smoothingTensors))
  }

  /// The type of hidden states in scratch.
  var stateType: DType { source.stateType }

  /// All shards, headers included; before they are laid out, their tensors.
  var outputFileBytes: Int {
    sizing.map { min($0.limit, $0.largestBytes) }
      ?? layout.shards.reduce(0) { $0 + $1.byteCount }
  }
}
