// The second half of a layer: statistics, scales and codes of a group of its units (experts, shared experts, dense MLP).

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Quantization
internal import Tensors
internal import Transformer

extension QuantizeModel {
  /// Runs every calibration token through every unit of the group, whether the router chose it or not, and writes the
  /// units' tensors.
  func quantizeUnits(_ group: Range<Int>, of layer: LayerSpec) throws {
    let units = layer.mlp.units
    let smoothings = plan.output.smoothings[layer.index]
    var statistics: [Int: ActivationStatistics] = [:]
    for unit in group {
      guard let smoothing = smoothings.first(where: { $0.tap == .hidden(unit) }) else { continue }
      statistics[unit] = ActivationStatistics(
        channels: smoothing.channels, withGram: plan.options.loss == .gram)
    }
    var routed = [Int](repeating: 0, count: layer.mlp.routed.count)
    if !statistics.isEmpty {
      let states = try readStates(.attended, layer: layer.index)
      var tokens = 0
      for (index, block) in plan.blocks.enumerated() {
        let normed = layer.postAttentionNorm.apply(
          to: try states.read(index), weights: weights, workers: workers)
        for routing in layer.mlp.route([normed], weights: weights, workers: workers) {
          for expert in routing.experts { routed[expert] += 1 }
        }
        for unit in group {
          guard let statistics = statistics[unit] else { continue }
          statistics.add(
            units[unit].hidden(normed, weights: weights, workers: workers), workers: workers)
          noteWork(operations: Double(block.count) * units[unit].hiddenOperations)
        }
        tokens += block.count
        reportProgress(.experts, layer: layer.index, tokensDone: tokens)
      }
    }
    let inputs = try recordedSmoothings(of: layer).filter { $0.smoothing.tap == .mlpInput }
    let proofTokens = smoothings.isEmpty ? nil : try proofStates(.attended, layer)
    for unit in group {
      var applied = inputs
      if let statistics = statistics[unit],
        let smoothing = smoothings.first(where: { $0.tap == .hidden(unit) })
      {
        let expert = unit - layer.mlp.alwaysOn.count
        applied.append(
          try smooth(
            smoothing, statistics, of: layer, routedTokens: expert >= 0 ? routed[expert] : nil))
      }
      let smoothed = SmoothedWeights(weights, applied)
      if let proofTokens { try prove(units[unit], of: layer, smoothed, on: proofTokens) }
      for linear in units[unit].linears {
        try write(linear.weight, linear: linear, from: smoothed, layer: layer)
        if linear.hasBias { try write(linear.bias, linear: nil, from: smoothed, layer: layer) }
      }
      weights.release(units[unit].linears)
    }
  }
}
