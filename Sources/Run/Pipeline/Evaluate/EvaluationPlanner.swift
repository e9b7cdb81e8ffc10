// The plan of an evaluation: its own steps, run on shapes.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Safetensors
internal import ScratchStore
internal import Tensors
internal import Transformer

/// Everything that the plan of an evaluation depends on but the budget.
struct EvaluationPlanner {
  /// The models, then the reference where there is one.
  private let sources: [CheckpointShapes]
  /// How many of them are measured.
  private let measured: Int
  private let blocks: [TokenBlock]
  private let threads: Int
  /// The peak of resident memory when the checkpoints had been opened and the data read.
  private let loadingBytes: Int
  /// What reading the tokenizer takes, where it is read again at the end.
  private let tokenizerBytes: Int
  /// For each checkpoint, the layers that differ, and how many are like each.
  private let layers: [[(layer: LayerSpec, count: Int)]]

  /// What is kept of a tensor of an opened checkpoint, and what its header took while it was read. Measured on two
  /// checkpoints of 72,000 tensors together: 1.1 KiB.
  private static let tensorBytes = 1280
  /// Ids in blocks and the sequences they were cut from; what is kept of each position of a model, and sorted once more.
  private static let tokenBytes = 16
  private static let scoreBytes = 112
  /// A head is let go of after every tile of the vocabulary.
  private static let headNeighbourBytes = 4 << 20

  init(
    _ sources: [CheckpointShapes], measured: Int, blocks: [TokenBlock], threads: Int,
    loadingBytes: Int,
    tokenizerBytes: Int
  ) {
    self.sources = sources
    self.measured = measured
    self.blocks = blocks
    self.threads = threads
    self.loadingBytes = loadingBytes
    self.tokenizerBytes = tokenizerBytes
    layers = sources.map { source in
      source.spec.layers.distinct { layer in
        let isLast = layer.index + 1 == source.spec.layers.count
        let bytes = layer.someLinears(units: 1).map(source.byteCount)
        return "\(layer.shape) \(bytes) \(isLast)"
      }
    }
  }

  private var tokens: Int { blocks.reduce(0) { $0 + $1.count } }

  // MARK: Steps on shapes

  private func steps(
    _ blocks: [TokenBlock], layerBlocks: Int, headBlocks: Int, _ ledger: Ledger
  ) -> EvaluationSteps {
    let backend = Backend(
      threads: threads, memory: MemoryBudget(isReal: false), ledger: ledger)
    return EvaluationSteps(
      models: sources.enumerated().map { index, source in
        let weights = ShapeWeights(source, ledger: ledger)
        return EvaluatedModel(
          folder: source.folder, spec: source.spec,
          weights: index < measured ? weights.served : weights)
      }, measured: measured, blocks: blocks, layerBlocks: layerBlocks, headBlocks: headBlocks,
      backend: backend,
      scratch: "", progress: {})
  }

  private func use(times: Double = 1, _ body: (Ledger) throws -> Void) -> StepUse {
    var use = StepUse()
    let ledger = Ledger()
    do {
      try body(ledger)
    } catch {
      preconditionFailure("a step fails on shapes: \(error)")
    }
    use.add(ledger, times: times)
    return use
  }

  private func layers(_ count: Int) -> StepUse {
    var all = StepUse()
    for index in sources.indices {
      all.add(
        use { try steps(blocks, layerBlocks: count, headBlocks: 1, $0).embed(index) }, times: 1)
      for (layer, times) in layers[index] {
        let one = use {
          try steps(blocks, layerBlocks: count, headBlocks: 1, $0).advance(layer, of: index)
        }
        all.add(one, times: Double(times))
      }
    }
    return all
  }

  private func head(_ count: Int) -> StepUse {
    use { ledger in
      let steps = steps(blocks, layerBlocks: 1, headBlocks: count, ledger)
      let states = try sources.indices.map {
        try steps.states($0, layer: sources[$0].spec.layers.count)
      }
      _ = try steps.score(states) { _, _, _ in }
    }
  }

  // MARK: Memory

  private var always: [MemoryUse] {
    let tensors = sources.reduce(0) { $0 + $1.tensors.count }
    return [
      ResidentModel.process,
      MemoryUse("names and headers", tensors * Self.tensorBytes),
      MemoryUse(
        "tokens and what is known of each",
        tokens * (Self.tokenBytes + measured * Self.scoreBytes)),
    ]
  }

  private var threadUse: MemoryUse {
    let linears = sources.flatMap(\.spec.layers).flatMap { $0.someLinears(units: 2) }
    let largest = linears.map { $0.inputs * $0.outputs }.max() ?? 0
    return ResidentModel.threads(threads, largestWeight: 4 * largest)
  }

  private func plan(
    _ step: EvaluationStep, _ use: StepUse, budget: Int = 0
  ) -> StepPlan<EvaluationStep> {
    var uses = always + (step == .load ? [] : [threadUse])
    switch step {
    case .load:
      let base = always.reduce(0) { $0 + $1.bytes }
      uses.append(ResidentModel.loading(loadingBytes, beyond: base))
    case .layers:
      let bytes = sources.map(\.totalBytes).max() ?? 0
      uses.append(ResidentModel.pagesAround(others: bytes))
    case .head:
      uses += sources.map {
        MemoryUse("pages around it", min(Self.headNeighbourBytes, $0.totalBytes / 8))
      }
    case .text:
      uses.append(MemoryUse("the tokenizer", tokenizerBytes))
    }
    return StepPlan(step, always: uses, use: use, budget: budget)
  }

  private func plans(layerBlocks: Int, headBlocks: Int, budget: Int = 0) -> (
    plans: [StepPlan<EvaluationStep>], operations: Double
  ) {
    let (layers, head) = (layers(layerBlocks), head(headBlocks))
    return (
      [
        plan(.load, StepUse()), plan(.layers, layers, budget: budget),
        plan(.head, head, budget: budget), plan(.text, StepUse()),
      ], layers.arithmetic + head.arithmetic
    )
  }

  /// The smallest budget that this work can be done in.
  var smallestBudget: Int {
    plans(layerBlocks: 1, headBlocks: 1).plans.map(\.bytes).max() ?? 0
  }

  /// - Parameter budget: bytes of resident memory, everything included.
  /// - Throws: `BudgetTooSmall` with the smallest budget that would do.
  func plan(budget: Int) throws(BudgetTooSmall) -> EvaluationPlan {
    let smallest = plans(layerBlocks: 1, headBlocks: 1).plans
    let refusal = BudgetTooSmall(smallest, budget: budget) { step in
      let fewer = threads > 1 ? ["use fewer --threads"] : []
      return switch step {
      // What it takes was measured.
      case .load: []
      case .layers, .head: ["lower --sequence-length"] + fewer
      // Some are spelled unless none are asked for.
      case .text: ["give --worst 0"] + fewer
      }
    }
    if let refusal { throw refusal }
    func most(_ bytes: (Int) -> Int) -> Int {
      var (low, high) = (1, max(1, blocks.count))
      while low < high {
        let middle = (low + high + 1) / 2
        if bytes(middle) <= budget { low = middle } else { high = middle - 1 }
      }
      return low
    }
    let layerBlocks = most { plan(.layers, layers($0)).bytes }
    let headBlocks = most { plan(.head, head($0)).bytes }
    let (steps, operations) = plans(
      layerBlocks: layerBlocks, headBlocks: headBlocks, budget: budget)
    return EvaluationPlan(
      budget: budget, smallestBudget: smallest.map(\.bytes).max() ?? 0, steps: steps,
      layerBlocks: layerBlocks,
      headBlocks: headBlocks, tokens: tokens, scratchBytes: scratchBytes, operations: operations)
  }

  /// Two generations of one checkpoint's states in float32, beside the final ones of those before it.
  private var scratchBytes: Int {
    func states(_ source: CheckpointShapes, before layer: Int) -> Int {
      tokens * source.spec.columns(before: layer) * 4
    }
    let two = sources.map { source in
      source.spec.layers.indices.map {
        states(source, before: $0) + states(source, before: $0 + 1)
      }.max() ?? 0
    }
    let last = sources.map { states($0, before: $0.spec.layers.count) }
    return two.indices.map { two[$0] + last[..<$0].reduce(0, +) }.max() ?? 0
  }
}
