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
  func attend(_ layer: LayerSpec) throws {
    let smoothings = plan.output.smoothings[layer.index]
    var statistics: [Tap: ActivationStatistics] = [:]
    for smoothing in smoothings {
      if case .hidden = smoothing.tap { continue }
      statistics[smoothing.tap] = ActivationStatistics(
        channels: smoothing.channels, withGram: plan.options.loss == .gram)
    }
    var routed = [Int](repeating: 0, count: layer.mlp.routed.count)
    if layer.index < plan.run.calibratedLayers {
      let states = try readStates(.hidden, layer: layer.index)
      let results = try writeStates(.attended, layer: layer.index)
      var tokens = 0
      for (index, block) in plan.blocks.enumerated() {
        let x = try states.read(index)
        let attended = layer.attend(
          x, sequences: block.sequences, weights: weights, workers: workers
        ) { tap, activation in statistics[tap]?.add(activation, workers: workers) }
        try results.append(attended)
        if let mlpInput = statistics[.mlpInput] {
          let normed = layer.postAttentionNorm.apply(
            to: rounded(attended), weights: weights, workers: workers)
          mlpInput.add(normed, workers: workers)
          for routing in layer.mlp.route([normed], weights: weights, workers: workers) {
            for expert in routing.experts { routed[expert] += 1 }
          }
        }
        tokens += block.count
        let context = Double(plan.run.longestSequence) / 2
        noteWork(operations: Double(block.count) * layer.attendOperations(context: context))
        reportProgress(.attend, layer: layer.index, tokensDone: tokens)
      }
      try finishStates(results)
    }
    if statistics[.mlpInput] != nil { warnOfUnrouted(routed, layer: layer) }

    var applied: [AppliedSmoothing] = []
    for smoothing in smoothings {
      guard let statistics = statistics[smoothing.tap] else { continue }
      applied.append(try smooth(smoothing, statistics, of: layer, routedTokens: nil))
    }
    let smoothed = SmoothedWeights(weights, applied)
    let unitLinears = Set(layer.mlp.units.flatMap(\.linears).map(\.weight))
    for claim in layer.claims where !unitLinears.contains(claim.name) {
      try write(claim.name, linear: claim.linear, from: smoothed, layer: layer)
    }
    weights.release(layer.attention.linears)
  }

  private func warnOfUnrouted(_ routed: [Int], layer: LayerSpec) {
    let experts = routed.indices.filter { routed[$0] == 0 }
    if !experts.isEmpty { report(.warning(.unroutedExperts(layer: layer.index, experts: experts))) }
  }
}
