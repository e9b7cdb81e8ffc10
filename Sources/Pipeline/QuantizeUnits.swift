// The second half of a layer: statistics, scales and codes of a group of its units (experts, shared experts, dense MLP).

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Planning
internal import Quantization
internal import Tensors
internal import Transformer

extension QuantizeModel {
  /// Runs every calibration token through every unit of the group, whether the router chose it or not, and writes the
  /// units' tensors.
  ///
  /// - Parameters:
  ///   - group: units that are not written yet.
  ///   - block: the group's statistics rest on the blocks before it.
  func quantizeUnits(_ group: Range<Int>, of layer: LayerSpec, from block: Int) throws {
    let weights = plan.run.holdsExperts ? weights.held : weights
    let units = layer.mlp.units
    let smoothings = plan.output.smoothings[layer.index]
    var statistics: [(unit: Int, sums: ActivationStatistics)] = []
    for unit in group {
      guard let smoothing = smoothings.first(where: { $0.tap == .hidden(unit) }) else { continue }
      statistics.append(
        (
          unit,
          ActivationStatistics(
            channels: smoothing.channels, withGram: plan.options.loss == .gram,
            from: workers.memory)
        ))
    }
    func position(_ unit: Int, block: Int) -> RunPosition {
      .experts(layer: layer.index, unit: unit, end: group.upperBound, block: block)
    }
    if !statistics.isEmpty {
      if block > 0 { try restore(statistics.map(\.sums)) }
      let states = try readStates(.attended, layer: layer.index)
      for index in block..<plan.blocks.count {
        let normed = try mlpInput(block: index, of: states, layer)
        for (unit, sums) in statistics {
          sums.add(
            units[unit].hidden(normed, weights: weights, workers: workers), workers: workers)
        }
        noteBlock(
          index, .experts, layer,
          operations: statistics.reduce(0) { $0 + units[$1.unit].hiddenOperations })
        if index + 1 < plan.blocks.count {
          try commitIfDue(
            position(group.lowerBound, block: index + 1), statistics: statistics.map(\.sums))
        }
      }
    }
    let routed = try statistics.isEmpty ? [] : routedTokens(layer)
    let inputs = try recordedSmoothings(of: layer).filter { $0.smoothing.tap == .mlpInput }
    let proofTokens = smoothings.isEmpty ? nil : try proofStates(.attended, layer)
    for unit in group {
      var applied = inputs
      if statistics.first?.unit == unit,
        let smoothing = smoothings.first(where: { $0.tap == .hidden(unit) })
      {
        let expert = unit - layer.mlp.alwaysOn.count
        applied.append(
          try smooth(
            smoothing, statistics.removeFirst().sums, of: layer, weights: weights,
            routedTokens: expert >= 0 ? routed[expert] : nil))
      }
      let smoothed = SmoothedWeights(weights, applied)
      if let proofTokens {
        try prove(units[unit], of: layer, smoothed, against: weights, on: proofTokens)
      }
      for linear in units[unit].linears {
        try write(linear.weight, linear: linear, from: smoothed, layer: layer)
        if linear.hasBias { try write(linear.bias, linear: nil, from: smoothed, layer: layer) }
      }
      weights.release(units[unit].linears)
      noteMemory()
      try recordChecksums()
      if unit + 1 < group.upperBound {
        try commitIfDue(
          position(unit + 1, block: statistics.isEmpty ? 0 : plan.blocks.count),
          statistics: statistics.map(\.sums))
      }
    }
  }

  /// A function of its own, so that the states are gone before the units run.
  private func mlpInput(
    block: Int, of states: HiddenStates, _ layer: LayerSpec
  ) throws -> Matrix {
    layer.postAttentionNorm.apply(
      to: try states.read(block), weights: weights, workers: workers)
  }
}
