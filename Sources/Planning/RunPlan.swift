// What a run will need, from shapes alone: memory by step, disk, arithmetic, and the sizes of its passes.

internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Quantization
internal import Safetensors
internal import Tensors
internal import Transformer

/// A budget that no plan fits.
package enum PlanError: Error, CustomStringConvertible, Equatable {
  case budgetTooSmall(budget: Int, smallest: Int, step: String, consumer: String)

  package var description: String {
    switch self {
    case .budgetTooSmall(let budget, let smallest, let step, let consumer):
      "--memory \(bytesText(budget)) is too small: the step `\(step)` needs "
        + "\(bytesText(smallest)), most of it for \(consumer); raise --memory to "
        + "\(bytesText(smallest)) or lower --sequence-length"
    }
  }
}

/// "1.5 GiB" for people; three significant digits, rounded up.
package func bytesText(_ bytes: Int) -> String {
  var value = Double(bytes)
  var unit = "B"
  for next in ["KiB", "MiB", "GiB", "TiB"] where value >= 1000 {
    value /= 1024
    unit = next
  }
  let digits = value < 10 ? 100.0 : value < 100 ? 10.0 : 1.0
  let rounded = (value * digits).rounded(.up) / digits
  return (rounded == rounded.rounded() ? "\(Int(rounded))" : "\(rounded)") + " " + unit
}

/// One step of the life of a layer, at its largest.
package struct StepPlan: Sendable, Equatable {
  package let name: String
  /// Resident bytes by consumer, largest first.
  package let consumers: [(name: String, bytes: Int)]
  /// Floating-point operations over the whole run.
  package let operations: Double

  package var bytes: Int { consumers.reduce(0) { $0 + $1.bytes } }

  init(_ name: String, _ consumers: [(String, Int)], operations: Double) {
    self.name = name
    self.consumers = consumers.map { (name: $0.0, bytes: $0.1) }.sorted { $0.bytes > $1.bytes }
    self.operations = operations
  }

  package static func == (a: StepPlan, b: StepPlan) -> Bool {
    a.name == b.name && a.operations == b.operations && a.bytes == b.bytes
  }
}

/// The plan of a run: `sluice plan` prints it, `sluice quantize` follows it.
package struct RunPlan: Sendable, Equatable {
  package let budget: Int
  package let steps: [StepPlan]
  /// Units (experts) whose statistics are gathered in one pass over the hidden states.
  package let unitsPerGroup: Int
  /// Blocks of tokens that advance together through the experts.
  package let blocksPerPass: Int
  package let tokens: Int
  package let longestSequence: Int
  /// Layers that the calibration tokens run through.
  package let calibratedLayers: Int
  /// Tensor bytes of the output.
  package let outputBytes: Int
  /// Hidden states on disk at the worst moment, before compression.
  package let scratchBytes: Int
  package let sourceBytes: Int

  package var peakBytes: Int { steps.map(\.bytes).max() ?? 0 }
  package var operations: Double { steps.reduce(0) { $0 + $1.operations } }
  /// The smallest budget that this work can be done in.
  package let smallestBudget: Int

  /// - Parameter budget: bytes of resident memory, everything included.
  /// - Throws: `PlanError` with the smallest budget that would do.
  package init(_ work: Workload, budget: Int) throws(PlanError) {
    let sizes = Sizes(work)
    let smallest = sizes.steps(unitsPerGroup: 1, blocksPerPass: 1)
    guard let largest = smallest.max(by: { $0.bytes < $1.bytes }), largest.bytes <= budget else {
      let worst = smallest.max { $0.bytes < $1.bytes } ?? smallest[0]
      throw .budgetTooSmall(
        budget: budget, smallest: worst.bytes, step: worst.name, consumer: worst.consumers[0].name)
    }
    smallestBudget = largest.bytes
    func fits(_ units: Int, _ blocks: Int) -> Bool {
      sizes.steps(unitsPerGroup: units, blocksPerPass: blocks).allSatisfy { $0.bytes <= budget }
    }
    // The largest group that fits and still commits about once a minute.
    unitsPerGroup = (1...sizes.units).last { fits($0, 1) && sizes.commitsOften(units: $0) } ?? 1
    let blockCount = max(1, work.blocks.count)
    blocksPerPass = (1...blockCount).last { fits(1, $0) } ?? 1
    steps = sizes.steps(unitsPerGroup: unitsPerGroup, blocksPerPass: blocksPerPass)
    self.budget = budget
    tokens = work.tokens
    longestSequence = work.longestSequence
    calibratedLayers = work.calibratedLayers
    outputBytes = work.output.tensors.reduce(0) { $0 + $1.byteCount }
    let width = work.checkpoint.spec.hiddenSize * work.stateType.byteWidth
    // Two generations and the states between attention and experts, while a layer ends.
    scratchBytes = calibratedLayers > 0 ? 3 * work.tokens * width : 0
    sourceBytes = work.checkpoint.model.totalBytes
  }
}

/// The sizes that memory and arithmetic follow from.
private struct Sizes {
  private let work: Workload
  private let hidden: Int
  private let attention: AttentionSpec
  private let largestMLP: Int
  private let largestInput: Int
  /// Tokens of the largest block.
  private let rows: Int
  /// Units of the layer that has most.
  let units: Int
  /// Of one of those.
  private let unitOperations: Double
  private let operations: (attend: Double, experts: Double, advance: Double)

  /// What the process holds before any work: code, Swift's runtime, OpenBLAS and its threads.
  private static let processBytes = 64 << 20
  /// What is kept of a source tensor and the output tensors it becomes: names, shapes, places. Measured on the 44,691
  /// tensors of GLM-4.7's shapes.
  private static let tensorBytes = 4 << 10
  /// OpenBLAS's packing buffers for each calling thread, as far as they are touched.
  private static let blasBytes = 12 << 20
  /// Arithmetic after which a commit is due: about a minute on a small machine.
  private static let operationsPerCommit = 4e12

  init(_ work: Workload) {
    self.work = work
    let layers = work.checkpoint.spec.layers
    hidden = work.checkpoint.spec.hiddenSize
    attention = layers[0].attention
    let mlps = layers.flatMap(\.mlp.units)
    largestMLP = mlps.map(\.gate.outputs).max() ?? 0
    largestInput = layers.flatMap(\.linears).map(\.inputs).max() ?? 0
    rows = work.blocks.max() ?? 0
    let widest = layers.max { $0.mlp.units.count < $1.mlp.units.count }
    units = widest?.mlp.units.count ?? 1
    unitOperations = widest?.mlp.units.last?.hiddenOperations ?? 0

    let tokens = Double(work.tokens)
    let context = Double(work.longestSequence) / 2
    let calibrated = layers.prefix(work.calibratedLayers)
    var experts = 0.0
    for (layer, smoothings) in zip(calibrated, work.output.smoothings) {
      let searched = Set(smoothings.map(\.tap))
      for (unit, mlp) in layer.mlp.units.enumerated() where searched.contains(.hidden(unit)) {
        experts += mlp.hiddenOperations
      }
    }
    operations = (
      attend: tokens * calibrated.reduce(0) { $0 + $1.attendOperations(context: context) },
      experts: tokens * experts,
      advance: tokens * calibrated.dropLast().reduce(0) { $0 + $1.feedForwardOperations }
    )
  }

  func commitsOften(units: Int) -> Bool {
    Double(units) * unitOperations * Double(work.tokens) <= Self.operationsPerCommit
  }

  /// Every step at its largest moment. Weights are decoded a tile at a time and let go of behind it, so none counts whole.
  func steps(unitsPerGroup: Int, blocksPerPass: Int) -> [StepPlan] {
    let float = 4
    let queries = attention.heads * attention.headDimension
    let keys = attention.keyValueHeads * attention.headDimension
    let threads = work.threads
    let isGram = work.loss == .gram
    let calibrates = work.calibratedLayers > 0
    let weightBytes = work.checkpoint.weights.tensor(attention.query.weight).dtype.byteWidth
    let common: [(String, Int)] = [
      ("the process and its libraries", Self.processBytes),
      ("names and headers", work.checkpoint.model.tensors.count * Self.tensorBytes),
      ("BLAS buffers", threads * Self.blasBytes),
    ]
    let tiles = (
      "weight tiles", threads * Gemm.largestTile * largestInput * (float + weightBytes)
    )
    // Values, byte planes and the compressed frame.
    let scratch = ("a block to or from scratch", 3 * rows * hidden * work.stateType.byteWidth)

    func search(_ statistics: [(String, Int)]) -> [(String, Int)] {
      common + statistics + [
        ("candidate scales", 2 * work.gridPoints * largestInput * float),
        ("rows under search", threads * 64 * largestInput * float * (isGram ? 3 : 2)),
        ("rows being packed", threads * 256 * largestInput * (2 * float + weightBytes)),
      ]
    }
    func largest(_ moments: [[(String, Int)]]) -> [(String, Int)] {
      moments.max { a, b in a.reduce(0) { $0 + $1.1 } < b.reduce(0) { $0 + $1.1 } } ?? []
    }

    let attentionStatistics = [
      ("statistics", (2 * hidden + queries) * 16),
      ("Gram matrices", isGram ? (2 * hidden * hidden + queries * queries) * float : 0),
    ]
    var result = [
      StepPlan("copy", common + [("a window of the source", Windows.bytes)], operations: 0),
      StepPlan(
        "attend",
        largest([
          search(attentionStatistics),
          calibrates
            ? common + attentionStatistics + [
              tiles, ("activations of a block", rows * 2 * (hidden + queries + keys) * float),
              ("attention scores", threads * 128 * work.longestSequence * float),
            ] : [],
          calibrates
            ? common + attentionStatistics
              + [scratch, ("activations of a block", rows * 4 * hidden * float)] : [],
        ]),
        operations: operations.attend),
    ]
    let unitStatistics = [
      (
        "statistics of the group",
        unitsPerGroup * (2 * largestMLP * 8 + (isGram ? largestMLP * largestMLP * float : 0))
      )
    ]
    result.append(
      StepPlan(
        "experts",
        largest([
          search(unitStatistics),
          calibrates
            ? common + unitStatistics + [
              tiles, ("activations of a block", rows * 2 * (hidden + largestMLP) * float),
            ] : [],
          calibrates
            ? common + unitStatistics
              + [scratch, ("activations of a block", rows * hidden * float)] : [],
        ]),
        operations: operations.experts))
    if calibrates {
      result.append(
        StepPlan(
          "advance",
          common
            + [
              tiles, scratch,
              ("tokens in flight", blocksPerPass * rows * 3 * hidden * float),
              ("activations of an expert", rows * 2 * (hidden + largestMLP) * float),
            ],
          operations: operations.advance))
    }
    return result
  }
}

/// How much of a mapped file is touched at a time.
package enum Windows {
  package static let bytes = 16 << 20
}
