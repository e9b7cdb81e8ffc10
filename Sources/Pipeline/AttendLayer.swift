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

extension QuantizeModel {
  /// Reads the layer's hidden states, writes the ones after attention, and writes every tensor of the layer that
  /// belongs to no unit of the MLP.
  ///
  /// - Parameter block: blocks before it are done.
  func attend(_ layer: LayerSpec, from block: Int) throws {
    let weights = plan.run.holdsAttention ? weights.held : weights
    let taps = plan.output.taps[layer.index].filter {
      if case .hidden = $0 { false } else { true }
    }
    let statistics = taps.map { newStatistics($0, of: layer) }
    if layer.index < plan.run.calibratedLayers {
      if block > 0 { try restore(statistics) }
      let states = try readStates(.hidden, layer: layer.index)
      let results = try writeStates(.attended, layer: layer.index, from: block)
      let routings =
        layer.mlp.router == nil
        ? nil : try writeStates(.routing, layer: layer.index, from: block)
      let writers = [results] + (routings.map { [$0] } ?? [])
      for index in block..<plan.blocks.count {
        func gather(_ tap: Tap, _ activation: Matrix) {
          if let place = taps.firstIndex(of: tap) {
            statistics[place].add(activation, workers: workers)
          }
        }
        let attended = try attend(
          block: index, of: states, layer, weights: weights, tap: gather)
        try results.file.append(attended, workers: workers)
        round(attended)
        let normed = layer.postAttentionNorm.apply(
          to: attended, weights: weights, workers: workers)
        gather(.mlpInput, normed)
        for routing in layer.mlp.route([normed], weights: weights, workers: workers) {
          try routings?.file.append(routing.matrix(workers: workers), workers: workers)
        }
        noteBlock(
          index, .attend, layer,
          operations: plan.run.layers[layer.index].attend.perToken)
        if index + 1 < plan.blocks.count {
          try commitIfDue(
            .attend(layer: layer.index, block: index + 1), writers, statistics: statistics)
        }
      }
      for writer in writers { try finishStates(writer) }
      try noteRouting(layer, warns: taps.contains(.mlpInput))
    }

    var applied: [AppliedSmoothing] = []
    for (tap, statistics) in zip(taps, statistics) {
      // What reads the MLP's input is read once more for itself, unit by unit, and too much to stay mapped.
      let weights = tap == .mlpInput ? self.weights : weights
      // Search and rounding use Gram matrices up.
      if tap == .mlpInput, plan.output.method.needsStatistics {
        try saveInput(statistics, of: layer)
      }
      if let smoothing = plan.output.smoothings[layer.index].first(where: { $0.tap == tap }) {
        applied.append(
          try smooth(smoothing, statistics, of: layer, weights: weights, routedTokens: nil))
      }
      noteMemory()
    }
    try writeAttention(of: layer, SmoothedWeights(weights, applied), applied, taps, statistics)
    noteOnce(plan.run.layers[layer.index].attend)
    if !applied.isEmpty { try proveAttention(of: layer) }
    self.weights.release(layer.attention.linears)
  }

  /// Every tensor of the layer that belongs to no unit of the MLP.
  private func writeAttention(
    of layer: LayerSpec, _ weights: SmoothedWeights, _ applied: [AppliedSmoothing], _ taps: [Tap],
    _ statistics: [ActivationStatistics]
  ) throws {
    var written = Set(layer.mlp.units.flatMap(\.linears).flatMap { [$0.weight, $0.bias] })
    for tap in layer.attention.taps {
      let rounding = try rounding(
        taps.firstIndex(of: tap).map { statistics[$0] }, at: tap, under: applied, of: layer)
      for linear in layer.readers(at: tap) {
        try write(linear.weight, linear: linear, from: weights, layer: layer, by: rounding)
        written.insert(linear.weight)
      }
      noteMemory()
    }
    for claim in layer.claims where !written.contains(claim.name) {
      try write(claim.name, linear: claim.linear, from: weights, layer: layer)
    }
  }

  /// A function of its own, so that a block's input is gone before its result is written.
  private func attend(
    block: Int, of states: HiddenStates, _ layer: LayerSpec, weights: CheckpointWeights,
    tap: (Tap, Matrix) -> Void
  ) throws -> Matrix {
    layer.attend(
      try states.read(block), sequences: plan.blocks[block].sequences, weights: weights,
      workers: workers, tap: tap)
  }

  /// No commit lies between the last block of a layer and the end of this step: the line is written once.
  private func noteRouting(_ layer: LayerSpec, warns: Bool) throws {
    if layer.mlp.router == nil { return }
    let routed = try expertShares(layer).map(\.tokens)
    try choices.add(routing: routed, layer: layer.index)
    let experts = routed.indices.filter { routed[$0] == 0 }
    if warns, !experts.isEmpty {
      report(.warning(.unroutedExperts(layer: layer.index, experts: experts)))
    }
  }
}
