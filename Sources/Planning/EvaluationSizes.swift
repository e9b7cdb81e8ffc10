// The sizes that the memory of an evaluation follows from. What is listed here mirrors, moment by moment, what
// Pipeline's EvaluateModel allocates; its budget stops a step that takes more, and a test compares the two.

internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Safetensors
internal import ScratchStore
internal import Tensors
internal import Transformer

struct EvaluationSizes {
  private let work: EvaluationWorkload
  private let passes: [ForwardSizes]

  /// What is kept of a tensor of an opened checkpoint, and what its header took while it was read. Measured on two
  /// checkpoints of 72,000 tensors together: 1.1 KiB.
  private static let tensorBytes = 1280
  /// Ids in blocks and the sequences they were cut from; what is kept of each position, and sorted once more.
  private static let tokenBytes = 16 + 112
  /// What is known of a position while the vocabulary goes by.
  private static let tallyBytes = 96

  init(_ work: EvaluationWorkload) {
    self.work = work
    passes = work.checkpoints.map { ForwardSizes($0, work) }
  }

  /// Two generations of one model's states in float32, beside the final ones of the other.
  var scratchBytes: Int {
    let states = passes.map { work.tokens * $0.hidden * 4 }
    return (states.max() ?? 0) * 2 + (states.count > 1 ? states[0] : 0)
  }

  var operations: Double {
    let context = Double(work.longestSequence) / 2
    return Double(work.tokens)
      * work.checkpoints.reduce(0) { $0 + $1.spec.operations(context: context) }
  }

  func steps(layerBlocks: Int, headBlocks: Int) -> [EvaluationStepPlan] {
    [load, layers(blocks: layerBlocks), head(blocks: headBlocks), text]
  }

  private var base: [MemoryUse] {
    let tensors = work.checkpoints.reduce(0) { $0 + $1.model.tensors.count }
    return [
      MemoryUse("the process and its libraries", RunSizes.processBytes),
      MemoryUse("names and headers", tensors * Self.tensorBytes),
      MemoryUse("tokens and what is known of each", work.tokens * Self.tokenBytes),
    ]
  }

  private var threads: MemoryUse {
    let largest = passes.map(\.largestWeight).max() ?? 0
    return MemoryUse(
      "threads and BLAS",
      work.threads * (RunSizes.threadBytes + min(RunSizes.packingBytes, largest * 4)))
  }

  private var load: EvaluationStepPlan {
    let known = base.reduce(0) { $0 + $1.bytes }
    let rest = MemoryUse(
      "tokenizer and data", RunSizes.loading(work.loadingBytes, beyond: known))
    return EvaluationStepPlan(.load, always: base, moments: [Moment(buffers: [], mapped: [rest])])
  }

  private var text: EvaluationStepPlan {
    let tokenizer = MemoryUse("the tokenizer", work.tokenizerBytes)
    return EvaluationStepPlan(
      .text, always: base + [threads], moments: [Moment(buffers: [], mapped: [tokenizer])])
  }

  func layers(blocks count: Int) -> EvaluationStepPlan {
    EvaluationStepPlan(
      .layers, always: base + [threads],
      moments: passes.flatMap { $0.moments(of: ranges(of: work.blocks.count, by: count)) })
  }

  func head(blocks count: Int) -> EvaluationStepPlan {
    let cuts = ranges(of: work.blocks.count, by: count)
    let moments = cuts.flatMap { pass -> [Moment] in
      let blocks = Array(work.blocks[pass])
      let states = passes.map {
        MemoryUse("positions of a pass", $0.footprint(blocks))
      }
      let rows = blocks.max() ?? 0
      let logits = passes.map {
        MemoryUse("logits", floats: min(rows, HeadTiles.positions) * $0.headTile.outputs)
      }
      let known = MemoryUse(
        "positions under way", blocks.reduce(0, +) * Self.tallyBytes)
      let mapped = passes.flatMap(\.headMapped) + [known]
      let products = passes.enumerated().map { index, pass in
        Moment(
          buffers: states + logits.prefix(index + 1) + pass.slice(rows: rows)
            + [pass.tiles(pass.headTile)], mapped: mapped)
      }
      let reading = passes.map {
        Moment(buffers: states + $0.scratch(rows: rows).read, mapped: mapped)
      }
      return products + reading
    }
    return EvaluationStepPlan(.head, always: base + [threads], moments: moments)
  }
}

extension ModelSpec {
  /// A forward pass up to the logits, for one token that sees `context` tokens on average.
  fileprivate func operations(context: Double) -> Double {
    layers.reduce(head.operations) {
      $0 + $1.attendOperations(context: context) + $1.feedForwardOperations
    }
  }
}

/// The forward pass of one checkpoint.
private struct ForwardSizes {
  let hidden: Int
  let headTile: LinearSpec
  let headMapped: [MemoryUse]
  let largestWeight: Int
  private let work: EvaluationWorkload
  /// Layers of different shapes, one of each.
  private let layers: [LayerSpec]
  /// What a layer maps at a time, at most.
  private let mapped: [MemoryUse]

  /// A head is let go of after every tile of the vocabulary.
  private static let headNeighbourBytes = 4 << 20

  init(_ checkpoint: Checkpoint, _ work: EvaluationWorkload) {
    let spec = checkpoint.spec
    self.work = work
    hidden = spec.hiddenSize
    headTile = LinearSpec(
      spec.head.name, inputs: spec.hiddenSize,
      outputs: min(HeadTiles.vocabulary, spec.vocabularySize))
    var seen: Set<String> = []
    layers = spec.layers.filter { layer in
      seen.insert(layer.shape).inserted
    }
    largestWeight = layers.flatMap(\.linears).map { $0.inputs * $0.outputs }.max() ?? 0
    let around = MemoryUse(
      "pages around them", min(RunSizes.neighbourBytes, checkpoint.model.totalBytes / 8))
    let pages = MappedSizes(checkpoint, threads: work.threads)
    let weights = spec.layers.map { layer -> Int in
      let units = layer.mlp.units.map { pages.bytes(layer.mlp.deciding + $0.linears) }
      return max(pages.bytes(layer.attention.linears), units.max() ?? 0)
    }
    mapped = [MemoryUse("mapped weights", weights.max() ?? 0), around]
    headMapped = [
      MemoryUse("mapped head", pages.headBytes(headTile, weight: spec.head.weight)),
      MemoryUse("pages around it", min(Self.headNeighbourBytes, checkpoint.model.totalBytes / 8)),
    ]
  }

  // MARK: Buffers

  private func floats(_ name: String, _ rows: Int, _ columns: Int, count: Int = 1) -> MemoryUse {
    MemoryUse(name, count: count, floats: rows * columns)
  }

  private func block(_ rows: Int) -> MemoryUse { floats("hidden states of a block", rows, hidden) }

  /// The states of some blocks.
  func footprint(_ blocks: some Sequence<Int>) -> Int {
    blocks.reduce(0) { $0 + MemoryBudget.footprint($1 * hidden * 4) }
  }

  /// A product with a Linear's weight, tile by tile on every thread.
  func tiles(_ linear: LinearSpec) -> MemoryUse {
    let tile = Gemm.tileRows(linear.outputs, columns: linear.inputs)
    let count = min(work.threads, (linear.outputs + tile - 1) / tile)
    return floats("weight tiles", min(tile, linear.outputs), linear.inputs, count: count)
  }

  /// Positions of a block that is too long to meet the vocabulary whole.
  func slice(rows: Int) -> [MemoryUse] {
    rows > HeadTiles.positions
      ? [floats("positions of a product", HeadTiles.positions, hidden)] : []
  }

  func scratch(rows: Int) -> (read: [MemoryUse], write: [MemoryUse]) {
    let use = ScratchSizes(elements: rows * hidden, width: 4)
    let threads = min(work.threads, use.strips)
    return (
      [MemoryUse("strips of scratch", threads * MemoryBudget.footprint(use.readStripBytes))],
      [
        MemoryUse("strips of scratch", threads * MemoryBudget.footprint(use.writeStripBytes)),
        MemoryUse("a block to scratch", MemoryBudget.footprint(use.frameBytes)),
      ]
    )
  }

  // MARK: Moments

  func moments(of passes: [Range<Int>]) -> [Moment] {
    let moments = layers.flatMap { layer in passes.flatMap { buffers(of: layer, in: $0) } }
    let embedding = work.blocks.map { [block($0)] + scratch(rows: $0).write }
    // Each token's experts and weights, and the same by expert; cosines and sines, and what they are made of.
    let tokens = passes.map { work.blocks[$0].reduce(0, +) }.max() ?? 0
    let chosen = layers.compactMap(\.mlp.router?.expertsPerToken).max() ?? 0
    let rotated = layers.map(\.attention.rotary.dimensions).max() ?? 0
    let heap = [
      MemoryUse("routing", tokens * chosen * 48),
      MemoryUse("rotations", work.longestSequence * rotated * 8),
    ]
    return (moments + embedding).map { Moment(buffers: $0, mapped: mapped + heap) }
  }

  private func buffers(of layer: LayerSpec, in pass: Range<Int>) -> [[MemoryUse]] {
    let blocks = Array(work.blocks[pass])
    var moments: [[MemoryUse]] = []
    var before = 0
    for rows in blocks {
      let held = MemoryUse("tokens in flight", before)
      moments += attend(layer.attention, rows: rows).map { [held] + $0 }
      before += footprint([rows])
    }
    let rows = blocks.max() ?? 0
    let flight = MemoryUse("tokens in flight", 2 * before)
    moments += feedForward(layer.mlp, rows: rows).map { [flight] + $0 }
    // Written one by one, the last layer's after the norm.
    moments.append(
      [
        MemoryUse("tokens in flight", before), floats("normed input", rows, hidden),
      ] + scratch(rows: rows).write)
    return moments
  }

  private func attend(_ attention: AttentionSpec, rows: Int) -> [[MemoryUse]] {
    let longest = min(rows, work.longestSequence)
    let moments = attention.moments.map { moment -> [MemoryUse] in
      let held = moment.buffers.map { floats($0.name, rows, $0.width) }
      return switch moment.work {
      case .product(let linear): held + [tiles(linear)]
      case .tap: held
      case .scores:
        held + [
          floats(
            "attention scores", min(CausalAttention.queryRows, longest), longest,
            count: work.threads)
        ]
      }
    }
    return moments.map { [block(rows)] + $0 } + [[block(rows)] + scratch(rows: rows).read]
  }

  private func feedForward(_ mlp: MLPSpec, rows: Int) -> [[MemoryUse]] {
    var moments: [[MemoryUse]] = []
    if let router = mlp.router {
      moments.append([
        floats("router scores", rows, router.linear.outputs), tiles(router.linear),
      ])
    }
    if let unit = mlp.alwaysOn.max(by: { $0.gate.outputs < $1.gate.outputs }) {
      moments += apply(unit, rows: rows, gathered: 0)
    }
    if let unit = mlp.routed.first {
      let gathered = min(rows, MLPSpec.gatheredRows)
      moments += apply(unit, rows: gathered, gathered: gathered)
    }
    return moments
  }

  private func apply(_ unit: GatedMLPSpec, rows: Int, gathered: Int) -> [[MemoryUse]] {
    let input = floats("tokens of an expert", gathered, hidden)
    let inner = unit.gate.outputs
    return [
      [input, floats("activations of an expert", rows, inner, count: 2), tiles(unit.gate)],
      [
        input, floats("activations of an expert", rows, inner),
        floats("outputs of an expert", rows, hidden), tiles(unit.down),
      ],
    ]
      + (unit.outputGate.map { gate in
        [
          [
            floats("outputs of an expert", rows, hidden), floats("gates of outputs", rows, 1),
            tiles(gate),
          ]
        ]
      } ?? [])
  }
}

/// What is mapped of Linears that are read in tiles, plain or packed, and released when all of them were read.
private struct MappedSizes {
  let checkpoint: Checkpoint
  let threads: Int

  init(_ checkpoint: Checkpoint, threads: Int) {
    self.checkpoint = checkpoint
    self.threads = threads
  }

  func bytes(_ linears: [LinearSpec]) -> Int {
    var (kept, streamed) = (0, 0)
    for linear in linears {
      for part in CompressionFormats.weightParts {
        guard let tensor = checkpoint.model[linear.name + part.suffix] else { continue }
        let rows = Gemm.tileRows(linear.outputs, columns: linear.inputs)
        let tile = rows * (tensor.byteCount / max(1, tensor.shape[0]))
        // Scales and zero points are read row by row.
        if !part.isStreamed || tile < CheckpointWeights.releasedTile {
          kept += tensor.byteCount
        } else {
          streamed = max(streamed, min(tensor.byteCount, threads * tile))
        }
      }
    }
    return kept + streamed
  }

  /// What one tile of the vocabulary takes.
  func headBytes(_ tile: LinearSpec, weight: String) -> Int {
    let row = tile.inputs * checkpoint.weights.tensor(weight).dtype.byteWidth
    let part = Gemm.tileRows(tile.outputs, columns: tile.inputs) * row
    let whole = tile.outputs * row
    return part < CheckpointWeights.releasedTile ? whole : min(whole, threads * part)
  }
}
