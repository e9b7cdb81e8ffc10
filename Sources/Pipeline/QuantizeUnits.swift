// The second half of a layer: statistics, scales and codes of a group of its units (experts, shared experts, dense MLP).

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Planning
internal import Quantization
internal import Tensors
internal import Transformer

extension QuantizeModel {
  /// Runs every calibration token, or what `--expert-tokens` leaves of them, through every unit of the group, whether the
  /// router chose it or not, and writes the units' tensors.
  ///
  /// - Parameters:
  ///   - group: units that are not written yet.
  ///   - block: the group's statistics rest on the blocks before it.
  func quantizeUnits(_ group: Range<Int>, of layer: LayerSpec, from block: Int) throws {
    let weights = plan.run.holdsExperts ? weights.held : weights
    let units = layer.mlp.units
    let taps = plan.output.taps[layer.index]
    let smoothings = plan.output.smoothings[layer.index]
    let operations = plan.run.layers[layer.index].units
    // Before there are statistics of units: for a moment it takes the room of two Gram matrices.
    let inputs = try recordedSmoothings(of: layer).filter { $0.smoothing.tap == .mlpInput }
    let inputRounding = try inputRounding(of: layer, under: inputs)
    var statistics = group.filter { taps.contains(.hidden($0)) }.map {
      (unit: $0, sums: newStatistics(.hidden($0), of: layer))
    }
    func position(_ unit: Int, block: Int) -> RunPosition {
      .experts(layer: layer.index, unit: unit, end: group.upperBound, block: block)
    }
    let shares = try statistics.isEmpty ? [] : expertShares(layer)
    if !statistics.isEmpty {
      if block > 0 {
        let written = (state.statisticsUnit..<max(state.statisticsUnit, group.lowerBound))
          .filter { taps.contains(.hidden($0)) }
        try restore(
          statistics.map(\.sums), passingOver: written.map { units[$0].down.inputs })
      }
      var tokens = try expertTokens(layer, shares, from: block)
      let states = try readStates(.attended, layer: layer.index)
      for index in block..<plan.blocks.count {
        let normed = try mlpInput(block: index, of: states, layer)
        let routed = try routedTokens(block: index, of: layer)
        for (unit, sums) in statistics {
          let expert = routed.isEmpty ? nil : self.expert(unit, of: layer)
          sums.add(
            expert.map { tokens.seen(by: $0, of: routed[$0], count: normed.rows) } ?? .all,
            of: normed, through: units[unit], weights: weights, workers: workers)
          weights.letGoOfScattered([units[unit].gate, units[unit].up])
        }
        tokens.pass(routed, count: normed.rows)
        noteBlock(
          index, .experts, layer,
          operations: statistics.reduce(0) { $0 + operations[$1.unit].perToken })
        let isLast = index + 1 == plan.blocks.count
        try commitIfDue(
          position(group.lowerBound, block: index + 1), statistics: statistics.map(\.sums),
          isDue: isLast && group.count > 1)
      }
    }
    let proofTokens = smoothings.isEmpty ? nil : try proofStates(.attended, layer)
    for unit in group {
      var applied = inputs
      let tap = Tap.hidden(unit)
      let sums = statistics.first?.unit == unit ? statistics.removeFirst().sums : nil
      if let sums, let smoothing = smoothings.first(where: { $0.tap == tap }) {
        applied.append(
          try smooth(
            smoothing, sums, of: layer, weights: weights,
            routedTokens: expert(unit, of: layer).map { shares[$0].tokens }))
      }
      let smoothed = SmoothedWeights(weights, applied)
      if let proofTokens {
        try prove(units[unit], of: layer, smoothed, against: weights, on: proofTokens)
      }
      let downRounding = try rounding(sums, at: tap, under: applied, of: layer)
      for linear in units[unit].linears {
        try write(
          linear.weight, linear: linear, from: smoothed, layer: layer,
          by: linear == units[unit].down ? downRounding : inputRounding)
        if linear.hasBias { try write(linear.bias, linear: nil, from: smoothed, layer: layer) }
      }
      weights.release(units[unit].linears)
      noteOnce(operations[unit])
      try recordChecksums()
      if unit + 1 < group.upperBound {
        try commitIfDue(
          position(unit + 1, block: statistics.isEmpty ? 0 : plan.blocks.count),
          keepsStatistics: !statistics.isEmpty)
      }
    }
  }

  // MARK: What counts for an expert

  /// The number of a routed expert among the units of a layer.
  private func expert(_ unit: Int, of layer: LayerSpec) -> Int? {
    unit >= layer.mlp.alwaysOn.count ? unit - layer.mlp.alwaysOn.count : nil
  }

  /// Tokens of a block by expert, where they are asked for.
  private func routedTokens(
    block: Int, of layer: LayerSpec
  ) throws -> [[(token: Int, weight: Float)]] {
    let isAsked = plan.options.weighting != .all || plan.options.expertTokens != nil
    if layer.mlp.router == nil || !isAsked { return [] }
    return Routing(try readStates(.routing, layer: layer.index).read(block))
      .byExpert(layer.mlp.routed.count)
  }

  private func expertTokens(
    _ layer: LayerSpec, _ shares: [ExpertShare], from block: Int
  ) throws -> ExpertTokens {
    ExpertTokens(
      plan.options, layer: layer.index, tokens: plan.run.tokens, shares: shares,
      passed: plan.blocks[..<block].reduce(0) { $0 + $1.count },
      routed: try expertShares(layer, before: block).map(\.tokens))
  }

  /// A function of its own, so that the states are gone before the units run.
  private func mlpInput(
    block: Int, of states: HiddenStates, _ layer: LayerSpec
  ) throws -> Matrix {
    layer.postAttentionNorm.apply(
      to: try states.read(block), weights: weights, workers: workers)
  }
}
