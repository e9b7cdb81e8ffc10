// The first half of a layer: its attention over all calibration tokens, and the smoothings around it.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import ScratchStore
internal import Tensors
internal import Transformer

struct Attend {
  let inputs: StepInputs
  let layer: LayerSpec

  private var weights: any SourceWeights {
    inputs.passes.holdsAttention ? inputs.weights.held : inputs.weights
  }

  private var workers: Workers { inputs.workers }

  /// Reads the layer's hidden states, writes the ones after attention, and writes every tensor of the layer that
  /// belongs to no unit of the MLP.
  ///
  /// - Parameter block: blocks before it are done.
  func run(from block: Int) throws {
    let weights = weights
    let taps = inputs.output.taps[layer.index].filter {
      if case .hidden = $0 { false } else { true }
    }
    let statistics = taps.map { inputs.newStatistics($0, of: layer) }
    if layer.index < inputs.calibratedLayers {
      inputs.states.noteRoom(for: statistics)
      if block > 0 { try inputs.states.restore(statistics) }
      let states = try inputs.states.read(.hidden, layer: layer.index)
      let results = try inputs.states.write(.attended, layer: layer.index, from: block)
      let routings =
        layer.mlp.router == nil
        ? nil : try inputs.states.write(.routing, layer: layer.index, from: block)
      let writers = [results] + (routings.map { [$0] } ?? [])
      try inputs.forEachBlock(from: block) { index in
        func gather(_ tap: Tap, _ activation: Matrix) {
          if let place = taps.firstIndex(of: tap) {
            statistics[place].add(activation, workers: workers)
          }
        }
        let attended = try attend(block: index, of: states, weights: weights, tap: gather)
        try results.file.append(attended, workers: workers)
        inputs.states.round(attended)
        let normed = layer.postAttentionNorm.apply(
          to: attended, weights: weights, workers: workers)
        gather(.mlpInput, normed)
        for routing in layer.mlp.route([normed], weights: weights, workers: workers) {
          try routings?.file.append(routing.matrix(workers: workers), workers: workers)
        }
        inputs.results.noteBlock(index, .attend, layer: layer.index)
        if index + 1 < inputs.blocks.count {
          try inputs.results.commitIfDue(
            .attend(layer: layer.index, block: index + 1), writers, statistics: statistics,
            keepsStatistics: false, isDue: false)
        }
      }
      for writer in writers { try inputs.states.finish(writer) }
      try noteRouting(warns: taps.contains(.mlpInput))
    }

    var applied: [AppliedSmoothing] = []
    for (tap, statistics) in zip(taps, statistics) {
      // What reads the MLP's input is read once more for itself, unit by unit, and too much to stay mapped.
      let weights = tap == .mlpInput ? inputs.weights : weights
      // Search and rounding use Gram matrices up.
      if tap == .mlpInput, inputs.output.method.needsStatistics {
        try inputs.states.saveInput(statistics, of: layer)
      }
      if let smoothing = inputs.output.smoothings[layer.index].first(where: { $0.tap == tap }) {
        applied.append(
          try inputs.smooth(smoothing, statistics, of: layer, weights: weights, routedTokens: nil))
      }
      inputs.results.noteMemory()
    }
    try writeTensors(SmoothedWeights(weights, applied), applied, taps, statistics)
    inputs.results.noteMemory()
    if !applied.isEmpty { try Proof(inputs, layer).proveAttention() }
    inputs.weights.release(layer.attention.linears)
  }

  /// Every tensor of the layer that belongs to no unit of the MLP.
  private func writeTensors(
    _ weights: SmoothedWeights, _ applied: [AppliedSmoothing], _ taps: [Tap],
    _ statistics: [ActivationStatistics]
  ) throws {
    let own = Set(layer.attention.linears.map(\.name))
    let fused = layer.fusedGroups.filter { $0.allSatisfy { own.contains($0.name) } }
    let alone = own.subtracting(fused.joined().map(\.name))
    let largest = try inputs.largestWeights(
      of: fused + layer.attention.linears.filter { alone.contains($0.name) }.map { [$0] },
      from: weights)
    var written = Set(layer.mlp.units.flatMap(\.linears).flatMap { [$0.weight, $0.bias] })
    for tap in layer.attention.taps {
      let rounding = try inputs.rounding(
        taps.firstIndex(of: tap).map { statistics[$0] }, at: tap, under: applied, of: layer)
      for linear in layer.readers(at: tap) {
        try inputs.write(
          linear.weight, linear: linear, from: weights, layer: layer, by: rounding, largest: largest
        )
        written.insert(linear.weight)
      }
      inputs.results.noteMemory()
    }
    for claim in layer.claims where !written.contains(claim.name) {
      try inputs.write(claim.name, linear: claim.linear, from: weights, layer: layer)
    }
  }

  /// A function of its own, so that a block's input is gone before its result is written.
  private func attend(
    block: Int, of states: HiddenStates, weights: any SourceWeights,
    tap: (Tap, Matrix) -> Void
  ) throws -> Matrix {
    layer.attend(
      try states.read(block), sequences: inputs.blocks[block].sequences, weights: weights,
      workers: workers, tap: tap)
  }

  /// No commit lies between the last block of a layer and the end of this step: the line is written once.
  private func noteRouting(warns: Bool) throws {
    if layer.mlp.router == nil { return }
    let routed = try inputs.states.expertShares(layer).map(\.tokens)
    try inputs.results.note(routing: routed, layer: layer.index)
    let experts = routed.indices.filter { routed[$0] == 0 }
    if warns, !experts.isEmpty {
      inputs.results.warn(.unroutedExperts(layer: layer.index, experts: experts))
    }
  }
}
