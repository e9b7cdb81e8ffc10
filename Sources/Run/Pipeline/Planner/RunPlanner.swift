// The plan of a run: its own steps, run on shapes.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import Safetensors
internal import Synchronization
internal import Tensors
internal import Transformer

/// Everything that the plan of a run depends on but the budget.
struct RunPlanner {
  private let source: CheckpointShapes
  /// Where states are kept for other runs; nil where they are not.
  private var kept: KeptStates?
  /// Layers that are taken over from an older output.
  private var reused: ReusedLayers?
  private var output: OutputPlan
  /// What a pass that measures takes in the output's place.
  private var trials: [OutputPlan]
  private var options: QuantizeOptions
  private var blocks: [TokenBlock]
  private let engine: Engine
  /// The peak of resident memory when the model had been opened and the calibration data read.
  let loadingBytes: Int
  /// Layers that differ in what their steps use, and how many are like each.
  private var layers: [(layer: LayerSpec, count: Int)]
  // Found once: a large model has hundreds of thousands of tensors, and every budget that is tried asks.
  /// Tensors that no layer's work changes.
  private let copied: [TensorSpec]
  private let outputBytes: Int
  private let largestTensor: Int
  /// What steps were found to use. The search for passes, and plans with fewer tokens, ask for much of it again.
  private var known = KnownUses()

  /// Arithmetic after which a commit is due: about a minute on a small machine.
  private static let operationsPerCommit = 1e13
  /// What is left of a bf16 state in scratch: a byte plane that does not compress, and one of sign and exponent that
  /// goes to two fifths. Measured on trained and on random weights: 0.69 to 0.71.
  private static let compression = 0.70
  /// Attention over so many tokens ends before a commit is due.
  private static let uncutTokens = 16 << 10
  /// What is kept of a source tensor in the plan of one more output: names, types and shapes of what it becomes.
  private static let planBytes = 1 << 10
  /// What is kept of a name in a listing, and names of a part beside those of its units.
  private static let listedBytes = 96
  private static let listedParts = 16
  /// What compression leaves of the upper half of a Gram matrix in float32, and of its tiles on the diagonal.
  private static let gramCompression = 0.93

  /// - Parameter blocks: empty for a run without calibration.
  init(
    _ source: CheckpointShapes, _ output: OutputPlan, _ trials: [OutputPlan],
    _ options: QuantizeOptions, blocks: [TokenBlock], engine: Engine, loadingBytes: Int,
    kept: KeptStates? = nil, reused: ReusedLayers? = nil
  ) {
    self.source = source
    self.kept = kept
    self.reused = reused
    self.output = output
    self.trials = trials
    self.options = options
    self.blocks = blocks
    self.engine = engine
    self.loadingBytes = loadingBytes
    layers = Self.distinct(source, output, trials, blocks, kept, options, reused)
    // A pass that measures writes nothing.
    let written = trials.isEmpty ? output.tensors : []
    let ends = Set(output.ends.map(\.weight))
    copied = source.tensors.filter {
      trials.isEmpty
        && (output.fates[$0.name] == .copied || output.fates[$0.name] == .decoded
          || ends.contains($0.name))
    }
    outputBytes = written.reduce(0) { $0 + $1.byteCount }
    largestTensor =
      max(written.map(\.byteCount).max() ?? 0, source.tensors.map(\.byteCount).max() ?? 0)
  }

  /// This work with other options for its data, its experts or its rounding.
  func with(
    _ options: QuantizeOptions, _ output: OutputPlan, _ trials: [OutputPlan], blocks: [TokenBlock]
  ) -> RunPlanner {
    var result = self
    result.options = options
    result.blocks = blocks
    if output.method != self.output.method || kept != nil || reused != nil {
      result.output = output
      result.trials = trials
      // Of other tokens nothing is kept.
      (result.kept, result.reused) = (nil, nil)
      result.layers = Self.distinct(source, output, trials, blocks, nil, options)
      result.known = KnownUses()
    }
    return result
  }

  /// Up to the last one with something to calibrate.
  static func calibratedLayers(_ output: OutputPlan) -> Int {
    (output.taps.lastIndex { !$0.isEmpty } ?? -1) + 1
  }

  /// Layers whose states are made together.
  private var window: Int {
    // All of them are there, and stay.
    if kept != nil { return 1 }
    let all = source.spec.layers.count
    return min(max(1, options.window ?? (options.ranks > 1 ? 2 * options.ranks : 1)), all)
  }

  /// Whether states are made before the work on a layer, and not with it.
  private var makesStatesFirst: Bool { window > 1 || options.ranks > 1 }

  private var calibratedLayers: Int { Self.calibratedLayers(output) }
  private var tokens: Int { blocks.reduce(0) { $0 + $1.count } }
  private var mlps: [MLPSpec] { layers.flatMap(\.layer.mlps) }

  private static func distinct(
    _ source: CheckpointShapes, _ output: OutputPlan, _ trials: [OutputPlan],
    _ blocks: [TokenBlock], _ kept: KeptStates?, _ options: QuantizeOptions,
    _ reused: ReusedLayers? = nil
  ) -> [(layer: LayerSpec, count: Int)] {
    let calibrated = calibratedLayers(output)
    let layers = source.spec.layers
    let tokens = blocks.reduce(0) { $0 + $1.count }
    let made = layers.filter { reused?.layers.contains($0.index) != true }
    return made.distinct { layer in
      let entrance = layers.entrance(afterPart: layer.parts.count - 1, of: layer.index)
      return "\(layer.shape) \(layer.index < calibrated) \(layer.index + 1 < calibrated) "
        + (entrance.map { $0.before == nil ? "entered " : "normed, entered " } ?? "")
        + ([output] + trials).map { kinds(of: layer, source, $0) }.joined(separator: " ")
        + (kept.map { $0.shape(of: layer) { options.seen(in: $0, of: tokens) } } ?? "")
    }
  }

  /// What a plan makes of a layer, as far as its steps use other things for it.
  private static func kinds(
    of layer: LayerSpec, _ source: CheckpointShapes, _ output: OutputPlan
  ) -> String {
    let linears = layer.someLinears(units: 1) + (layer.experts.first?.linears ?? [])
    let kinds = linears.map { linear in
      let fate = output.fates[linear.weight] == .packed ? output.schemes[linear]?.words ?? "" : "c"
      return "\(source.byteWidth(linear))\(fate)"
    }
    let packed = layer.mlps.flatMap(\.units).count { output.fates[$0.down.weight] == .packed }
    return "\(kinds) \(packed) \(output.taps[layer.index].count) "
      + "\(output.smoothings[layer.index].map(\.consumers.count))"
  }

  // MARK: Steps on shapes

  /// - Parameter blocks: fewer where only the largest matter.
  private func inputs(
    _ passes: Passes, _ blocks: [TokenBlock], _ options: QuantizeOptions, _ ledger: Ledger
  ) -> StepInputs {
    let backend = Backend(
      threads: options.threads, memory: MemoryBudget(isReal: false), engine: engine,
      ledger: ledger)
    return StepInputs(
      spec: source.spec, output: output, trials: trials, options: options, blocks: blocks,
      passes: passes,
      calibratedLayers: blocks.isEmpty ? 0 : calibratedLayers, backend: backend,
      weights: ShapeWeights(source, ledger: ledger),
      states: StateFiles(
        folder: "", type: source.stateType, blocks: blocks, hidden: source.spec.hiddenSize,
        backend: backend, kept: kept, resumption: { Resumption() }, grew: {}),
      results: ShapeResults())
  }

  /// What a step uses over the run.
  private func use(
    _ step: RunStep, _ passes: Passes, _ blocks: [TokenBlock], _ options: QuantizeOptions
  ) -> StepUse {
    known.use(
      KnownUses.Key(
        step: step, passes: passes, blocks: blocks.map(\.sequences),
        expertTokens: options.expertTokens, makesStatesFirst: makesStatesFirst)
    ) { newUse(step, passes, blocks, options) }
  }

  private func newUse(
    _ step: RunStep, _ passes: Passes, _ blocks: [TokenBlock], _ options: QuantizeOptions
  ) -> StepUse {
    var use = StepUse()
    let rounding = makesStatesFirst ? Stage.rounding : .whole
    func add(times: Double, _ stage: Stage = .whole, _ body: (StepInputs) throws -> Void) {
      let ledger = Ledger()
      var inputs = inputs(passes, blocks, options, ledger)
      inputs.stage = stage
      do {
        try body(inputs)
      } catch {
        preconditionFailure("a step fails on shapes: \(error)")
      }
      use.add(ledger, times: times)
    }
    switch step {
    case .load, .check: break
    case .copy:
      add(times: 1) { inputs in
        let copy = Copy(inputs: inputs, tensors: copied)
        try copy.copyTensors {}
        try copy.embedTokens()
        reused?.note(in: inputs.backend.ledger)
      }
    case .attend:
      forEachPart { layer, part, count in
        if makesStatesFirst, sourceReads.goesOn(behind: part) {
          add(times: count, .states) {
            try Attend(inputs: $0, layer: layer, part: part).run(from: 0)
          }
        }
        add(times: count, rounding) {
          try Attend(inputs: $0, layer: layer, part: part).run(from: 0)
        }
      }
    case .experts:
      forEachPart { layer, part, count in
        guard let branch = part.tokens else { return }
        add(times: count, rounding) {
          try experts(
            Experts(inputs: $0, layer: layer, part: part, branch: branch),
            unitsPerGroup: passes.unitsPerGroup)
        }
      }
    case .advance:
      forEachPart { layer, part, count in
        guard let branch = part.tokens else { return }
        func advance(_ inputs: StepInputs) -> Advance {
          Advance(inputs: inputs, layer: layer, part: part, branch: branch)
        }
        if !makesStatesFirst { return add(times: count) { try advance($0).run(from: 0) } }
        add(times: count, .rounding) { try advance($0).prove() }
        if sourceReads.goesOn(behind: part) {
          add(times: count, .states) { try advance($0).run(from: 0) }
        }
      }
    }
    return use
  }

  private var sourceReads: SourceReads {
    SourceReads(
      spec: source.spec, output: output, trials: trials, keeps: kept != nil,
      calibratedLayers: calibratedLayers)
  }

  /// Bytes of the source that are compared with their checksums, by the step behind which that is.
  private func comparedBytes(_ passes: Passes) -> [RunStep: Int] {
    func bytes(_ names: [String]) -> Int {
      names.reduce(0) { sum, name in
        sum + (source.isCoded(name) ? source.mappedBytes(name) : source.tensor(name).byteCount)
      }
    }
    let reads = sourceReads
    var result: [RunStep: Int] = [.check: bytes(reads.throughout)]
    result[.copy] = bytes(trials.isEmpty ? copied.map(\.name) : [source.spec.embedding])
    forEachPart { _, part, count in
      func add(_ step: RunStep, _ bytes: Int) { result[step, default: 0] += Int(count) * bytes }
      let (layer, index) = (part.layer, part.index)
      add(
        .attend,
        bytes(reads.names(from: .attend(layer: layer, part: index, block: 0), until: .finish)))
      if makesStatesFirst, reads.goesOn(behind: part) {
        add(.attend, bytes(reads.namesOfStates(behind: part)))
      }
      if part.tokens == nil { return }
      let groups = ranges(of: part.units.count, by: passes.unitsPerGroup).count
      let units = reads.names(
        from: .experts(layer: layer, part: index, unit: 0, end: 0, block: 0), until: .finish)
      add(.experts, bytes(units) + max(0, groups - 1) * bytes(reads.besideUnits(of: part)))
      add(
        .advance,
        bytes(reads.names(from: .advance(layer: layer, part: index, block: 0), until: .finish)))
    }
    return result
  }

  /// - Parameter body: takes a layer, a part of it, and how many layers are like it.
  private func forEachPart(_ body: (LayerSpec, LayerPart, Double) -> Void) {
    for (layer, count) in layers {
      for part in layer.parts { body(layer, part, Double(count)) }
    }
  }

  private func experts(_ step: Experts, unitsPerGroup: Int) throws {
    let groups = ranges(of: step.branch.mixer.units.count, by: unitsPerGroup)
    let always = step.branch.mixer.alwaysOn.count
    var shared = SharedRounding()
    // The first one makes the rounding of its input, and those after it find it made.
    if let group = groups.first { try step.run(group, from: 0, shared: &shared) }
    // So does the first one of the routed units where these have an input of their own.
    let first = step.branch.mixer.hasRoutedInput ? always : -1
    let kind = { (group: Range<Int>) in
      [
        group.count, group.count { $0 < always }, group.contains(first) ? 1 : 0,
        step.isKept(group) ? 1 : 0,
      ]
    }
    try step.inputs.backend.forEach(of: Array(groups.dropFirst()), alike: kind) { group in
      try step.run(group, from: 0, shared: &shared)
    }
  }

  // MARK: Memory

  private var always: [MemoryUse] {
    [
      ResidentModel.process, ResidentModel.names(source.tensors.count),
      ResidentModel.tokens(tokens),
      ResidentModel.ranks(options.ranks, ofHost: options.ranksOfHost ?? options.ranks),
      ResidentModel.recipe(isRead: options.recipe != nil),
      MemoryUse("plans of the choices", choices * source.tensors.count * Self.planBytes),
      MemoryUse(
        "listings of kept states",
        kept == nil
          ? 0
          : source.spec.layers.flatMap(\.parts).reduce(0) {
            $0 + Self.listedBytes * ($1.units.count + Self.listedParts)
          }),
      // Those of its tensors, and of their checksums.
      MemoryUse(
        "the output that is replaced",
        reused == nil ? 0 : 2 * ResidentModel.names(source.tensors.count).bytes),
    ]
  }

  /// Schemes of a run to a size; its passes keep the plans that are measured.
  private var choices: Int { options.size?.options.count { $0.scheme != nil } ?? 0 }

  private func plan(
    _ step: RunStep, _ use: StepUse, budget: Int = 0
  ) -> StepPlan<RunStep> {
    if step == .load {
      let base = always.reduce(0) { $0 + $1.bytes }
      return StepPlan(
        step,
        always: always + [
          ResidentModel.loading(loadingBytes, beyond: base),
          ResidentModel.namesBeingPrepared(source.tensors.count),
        ], use: use)
    }
    let largest =
      (layers.flatMap(\.layer.linears) + output.ends).map { $0.inputs * $0.outputs * 4 }.max() ?? 0
    var uses =
      always + [ResidentModel.threads(options.threads, largestWeight: largest)]
    switch step {
    case .load: break
    case .copy where output.ends.isEmpty: break
    case .copy, .attend, .experts, .advance:
      let mapped = use.others.first { $0.name == "mapped weights" }?.bytes ?? 0
      uses.append(ResidentModel.pagesAround(others: source.totalBytes - mapped))
    case .check:
      uses += ResidentModel.checking(
        threads: options.threads, outputs: trials.isEmpty ? output.tensors.count : 0,
        share: Double(options.maximumShardBytes) / Double(max(1, outputBytes)),
        largest: largestTensor, all: max(outputBytes, source.totalBytes))
    }
    return StepPlan(step, always: uses, use: use, budget: budget)
  }

  private func steps(
    _ passes: Passes, _ blocks: [TokenBlock], budget: Int = 0
  ) -> (plans: [StepPlan<RunStep>], uses: [RunStep: StepUse]) {
    let uses = RunStep.allCases.map { ($0, use($0, passes, blocks, options)) }
    return (uses.map { plan($0, $1, budget: budget) }, Dictionary(uniqueKeysWithValues: uses))
  }

  /// The blocks that decide what memory a step takes.
  private var largestBlocks: [TokenBlock] {
    func longest(_ block: TokenBlock) -> Int { block.sequences.map(\.count).max() ?? 0 }
    guard let most = blocks.max(by: { $0.count < $1.count }),
      let deepest = blocks.max(by: { longest($0) < longest($1) })
    else { return [] }
    return longest(deepest) > longest(most) ? [most, deepest] : [most]
  }

  /// The smallest budget that this work can be done in.
  var smallestBudget: Int { steps(.smallest, largestBlocks).plans.map(\.bytes).max() ?? 0 }

  /// - Parameter budget: bytes of resident memory, everything included.
  /// - Throws: `BudgetTooSmall` with the smallest budget that would do.
  func plan(budget: Int) throws(BudgetTooSmall) -> RunPlan {
    let smallest = steps(.smallest, largestBlocks).plans
    let refusal = BudgetTooSmall(smallest, budget: budget) { step in
      // What it takes was measured.
      if step == .load { return [] }
      let isOfTokens = step != .check && !blocks.isEmpty
      return (isOfTokens ? ["lower --sequence-length"] : [])
        + (options.threads > 1 ? ["use fewer --threads"] : [])
    }
    if let refusal { throw refusal }
    let units = mlps.map(\.units.count).max() ?? 1
    let largestBlocks = largestBlocks
    let passes = PassSearch(
      units: units, blocks: blocks.count,
      fits: { passes, step in
        let blocks = step == .advance ? blocks : largestBlocks
        return plan(step, use(step, passes, blocks, options)).bytes <= budget
      },
      reads: { passes in
        let use = use(.experts, passes, blocks, options)
        return (use.traffic[.source] ?? 0) + (use.traffic[.scratchRead] ?? 0)
      }, commitsOften: commitsOften
    ).best
    let (plans, uses) = steps(passes, blocks, budget: budget)
    let compared = comparedBytes(passes)
    return RunPlan(
      budget: budget, smallestBudget: smallest.map(\.bytes).max() ?? 0, steps: plans,
      passes: passes, engine: engine,
      tokens: tokens, longestSequence: blocks.flatMap { $0.sequences.map(\.count) }.max() ?? 0,
      calibratedLayers: calibratedLayers, window: window, sourceBytes: source.totalBytes,
      outputBytes: outputBytes,
      scratchBytes: scratchBytes(passes), largestUnitCount: units, otherTokens: otherTokens,
      weightPasses: calibratedLayers > 1
        ? (blocks.count + passes.blocksPerPass - 1) / passes.blocksPerPass : 0,
      uses: uses, operationsOfAllTokens: operationsOfAllTokens(passes, uses),
      comparedBytes: compared,
      // Beside what steps read: once for their checksums, and each time that these are compared.
      sourceReadBytes: source.totalBytes + compared.values.reduce(0, +)
        + Int(uses.values.reduce(0) { $0 + ($1.traffic[.source] ?? 0) }))
  }

  /// The arithmetic of the run if every expert saw all tokens.
  private func operationsOfAllTokens(_ passes: Passes, _ uses: [RunStep: StepUse]) -> Double {
    var all = options
    all.expertTokens = .all
    var uses = uses
    if otherTokens != nil { uses[.experts] = use(.experts, passes, blocks, all) }
    // In the order in which the run's operations are added up: these are the same then, to the last bit.
    return RunStep.allCases.reduce(0) { $0 + (uses[$1]?.arithmetic ?? 0) }
  }

  private var otherTokens: Int? {
    options.expertTokens.most(of: layers.flatMap(\.layer.experts), tokens: tokens)
  }

  private func commitsOften(_ passes: Passes, _ step: RunStep) -> Bool {
    let rows = blocks.map(\.count).max() ?? 0
    func operations(_ linear: LinearSpec) -> Double {
      2 * Double(linear.inputs) * Double(linear.outputs)
    }
    func most(_ work: (MLPSpec) -> Double) -> Double {
      mlps.map(work).max() ?? 0
    }
    if step == .experts {
      let count = passes.unitsPerGroup
      let each = most { mlp in
        mlp.units.suffix(count).flatMap(\.readers).reduce(0) { $0 + operations($1) }
      }
      return count == 1 || Double(rows) * each <= Self.operationsPerCommit
    }
    let each = most { mlp in
      let chosen = mlp.routed.prefix(mlp.router?.expertsPerToken ?? 0)
      return (mlp.alwaysOn + chosen).flatMap(\.linears).reduce(0) { $0 + operations($1) }
    }
    return passes.blocksPerPass == 1
      || Double(passes.blocksPerPass * rows) * each <= Self.operationsPerCommit
  }

  // MARK: Disk

  /// What is kept for other runs; nil where nothing is.
  var keptSummary: KeptSummary? {
    kept.map {
      KeptSummary($0, inputs(.smallest, blocks, options, Ledger()), stateBytes: stateBytes)
    }
  }

  /// Hidden states of all tokens, where each has one.
  private var stateBytes: Int {
    let raw = tokens * source.spec.hiddenSize * source.stateType.byteWidth
    return Int(Double(raw) * (source.stateType == .bf16 ? Self.compression : 1))
  }

  /// Two generations of hidden states, and a third where branches are side by side; with Gram matrices, what one step
  /// leaves to the next, those of a group, and those of attention and its gradients where a commit cuts it.
  private func scratchBytes(_ passes: Passes) -> Int {
    if calibratedLayers == 0 { return 0 }
    let widest = layers.flatMap(\.layer.parts).map { max($0.statesBefore, $0.statesBetween) }.max()
    let states = (widest ?? 1) * stateBytes
    let atOnce = layers.contains { $0.layer.parts.contains(where: \.isParallel) } ? 3 : 2
    let generations =
      makesStatesFirst
      ? window * (layers.map(\.layer.parts.count).max() ?? 1) + 1 + atOnce * options.ranks : atOnce
    if !options.gathersGrams { return generations * states }
    func matrix(_ count: Int) -> Int {
      let numbers = count * (count + min(count, Gemm.gramTile(count))) / 2
      return Int(Double(numbers * 4) * Self.gramCompression)
    }
    func stored(_ channels: Int) -> Int {
      ActivationStatistics.gramRanges(channels).reduce(0) { $0 + matrix($1.count) }
    }
    func slopes(_ unit: UnitSpec) -> Int {
      let width = unit.down.inputs
      guard output.method.compensatesOutputs, let block = StreamMoments.unitBlockSize(width) else {
        return 0
      }
      return unit.sides.count * width / block * matrix(block)
    }
    let input = output.method.needsGram ? stored(source.spec.hiddenSize) : 0
    let group =
      mlps.map { mlp in
        let units = mlp.units.sorted { $0.down.inputs > $1.down.inputs }
          .prefix(passes.unitsPerGroup)
        return units.count > 1 ? units.reduce(0) { $0 + stored($1.down.inputs) + slopes($1) } : 0
      }.max() ?? 0
    let inputs = inputs(passes, blocks, options, Ledger())
    func attention(_ layer: LayerSpec, _ part: LayerPart) -> Int {
      let taps = output.taps[layer.index].filter {
        Attend.sees($0, part) && !layer.readers(at: $0).isEmpty
      }
      let gradients = OutputGradients.kinds(inputs, layer, part).map(\.kind)
      return taps.reduce(0) { $0 + stored(layer.channels(at: $1)) }
        + gradients.reduce(0) { sum, kind in
          let size = kind.block ?? kind.channels
          return sum + kind.channels / size * matrix(size)
        }
    }
    let cut =
      tokens > Self.uncutTokens
      ? layers.flatMap { layer, _ in layer.parts.map { attention(layer, $0) } }.max() ?? 0 : 0
    return max(
      generations * states + max(input, cut),
      (generations - 1) * states + input + group)
  }
}

extension CheckpointShapes {
  /// The type of hidden states in scratch.
  var stateType: DType { HiddenStates.dtype(for: tensor(spec.embedding).dtype) }
}

extension [LayerSpec] {
  /// The first layer of each key, and how many have that key.
  func distinct(by key: (LayerSpec) -> String) -> [(layer: LayerSpec, count: Int)] {
    var places: [String: Int] = [:]
    var result: [(layer: LayerSpec, count: Int)] = []
    for layer in self {
      let key = key(layer)
      if let place = places[key] {
        result[place].count += 1
      } else {
        places[key] = result.count
        result.append((layer, 1))
      }
    }
    return result
  }
}

/// What steps of one output use, by all that a plan of it varies: its passes, the sizes of its data, and the tokens of
/// experts.
private final class KnownUses: Sendable {
  struct Key: Hashable {
    let step: RunStep
    let passes: Passes
    /// The rows of each sequence of each block.
    let blocks: [[Range<Int>]]
    let expertTokens: OtherTokens
    let makesStatesFirst: Bool
  }

  private let uses = Mutex<[Key: StepUse]>([:])

  func use(_ key: Key, _ find: () -> StepUse) -> StepUse {
    if let use = uses.withLock({ $0[key] }) { return use }
    let use = find()
    uses.withLock { $0[key] = use }
    return use
  }
}
