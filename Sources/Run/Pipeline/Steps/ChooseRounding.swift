// From the statistics of an activation to the way in which its readers are rounded.

internal import CompressedTensors
internal import LinearAlgebra
internal import Quantization
internal import Transformer

/// How the readers of one activation are rounded, and what it took.
struct ChosenRounding {
  var rounding: Rounding
  /// The largest magnitude of what they read, where a scale for it is stored.
  var largestInput: Float = 0
  /// What there is to tell of it before it is used.
  var warning: RunWarning?
  /// λ over the mean of the Gram matrix's diagonal, where there is one.
  var damping: Double? {
    if case .compensated(let factors) = rounding { factors.damping } else { nil }
  }

  static let nearest = ChosenRounding(rounding: .nearest)
}

extension StepInputs {
  /// - Parameters:
  ///   - statistics: of the activation as it was calibrated; their Gram matrices are used up.
  ///   - applied: the smoothings of the layer so far; the one at `tap` divides the activation.
  ///   - keeping: whether Gram matrices stay for another trial.
  func rounding(
    _ statistics: ActivationStatistics?, at tap: Tap, under applied: [AppliedSmoothing],
    of layer: LayerSpec, keeping: Bool = false
  ) throws -> ChosenRounding {
    guard let statistics, needsStatistics(at: tap, of: layer) else { return .nearest }
    if let channel = statistics.firstNonFiniteChannel {
      throw nonFiniteActivation(channel, read: layer.readers(at: tap)[0], of: layer)
    }
    let scale = applied.first { $0.smoothing.taps.contains(tap) }?.scale
    var result = ChosenRounding.nearest
    // Before rounding uses statistics up.
    result.largestInput = statistics.range(
      for: storedActivations(at: tap, of: layer), smoothedBy: scale)
    if !output.method.needsStatistics { return result }
    if output.method.needsGram {
      do {
        result.rounding = .compensated(
          try statistics.factors(
            smoothedBy: scale,
            refining: output.schemes.refinedColumns(of: layer.readers(at: tap)),
            damping: options.damping, keeping: keeping, backend: backend))
        return result
      } catch {
        result.warning = .notFactored(layer: layer.index, linear: layer.readers(at: tap)[0].name)
      }
    }
    let moments = statistics.meanSquare
    result.rounding = .clip(scale.map { zip(moments, $0).map { $0 / ($1 * $1) } } ?? moments)
    return result
  }

  func tell(_ rounding: inout ChosenRounding) {
    if let warning = rounding.warning { results.warn(warning) }
    rounding.warning = nil
  }

  /// For all Linears that read an input of the units of a part's branch on tokens: one for each of `rounds`.
  ///
  /// - Parameter applied: the smoothings of that input, for each round.
  func inputRoundings(
    of part: LayerPart, at tap: Tap, under applied: [[AppliedSmoothing]], of layer: LayerSpec
  ) throws -> [ChosenRounding] {
    var statistics: ActivationStatistics?
    if needsStatistics(at: tap, of: layer), output.taps[layer.index].contains(tap) {
      let sums = newStatistics(tap, of: layer)
      try states.restoreInput(sums, of: part, at: tap.place)
      statistics = sums
    }
    return try zip(rounds, applied).enumerated().map { number, each in
      let (round, applied) = each
      var result = try round.rounding(
        statistics, at: tap, under: applied, of: layer, keeping: number + 1 < rounds.count)
      // Once for all units.
      tell(&result)
      return result
    }
  }
}
