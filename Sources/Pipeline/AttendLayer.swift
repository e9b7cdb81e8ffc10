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
    let smoothings = plan.output.smoothings[layer.index].filter {
      if case .hidden = $0.tap { false } else { true }
    }
    let statistics = smoothings.map {
      ActivationStatistics(
        channels: $0.channels, withGram: plan.options.loss == .gram, from: workers.memory)
    }
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
          if let place = smoothings.firstIndex(where: { $0.tap == tap }) {
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
          operations: layer.attendOperations(context: Double(plan.run.longestSequence) / 2))
        if index + 1 < plan.blocks.count {
          try commitIfDue(
            .attend(layer: layer.index, block: index + 1), writers, statistics: statistics)
        }
      }
      for writer in writers { try finishStates(writer) }
      try noteRouting(layer, warns: smoothings.contains { $0.tap == .mlpInput })
    }

    var applied: [AppliedSmoothing] = []
    for (smoothing, statistics) in zip(smoothings, statistics) {
      // What reads the MLP's input is read once more for itself, unit by unit, and too much to stay mapped.
      let weights = smoothing.tap == .mlpInput ? self.weights : weights
      applied.append(
        try smooth(smoothing, statistics, of: layer, weights: weights, routedTokens: nil))
      noteMemory()
    }
    let smoothed = SmoothedWeights(weights, applied)
    let unitLinears = Set(layer.mlp.units.flatMap(\.linears).map(\.weight))
    for claim in layer.claims where !unitLinears.contains(claim.name) {
      try write(claim.name, linear: claim.linear, from: smoothed, layer: layer)
    }
    if !smoothings.isEmpty { try proveAttention(of: layer) }
    self.weights.release(layer.attention.linears)
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
    let routed = try routedTokens(layer)
    try choices.add(routing: routed, layer: layer.index)
    let experts = routed.indices.filter { routed[$0] == 0 }
    if warns, !experts.isEmpty {
      report(.warning(.unroutedExperts(layer: layer.index, experts: experts)))
    }
  }
}
