// From the statistics of an activation to the way in which its readers are rounded.

internal import CompressedTensors
internal import LinearAlgebra
internal import Quantization
internal import Transformer

/// How the readers of one activation are rounded, and what it took.
struct ChosenRounding {
  let rounding: Rounding
  /// λ over the mean of the Gram matrix's diagonal, where there is one.
  var dampening: Double? {
    if case .compensated(let factors) = rounding { factors.dampening } else { nil }
  }

  static let nearest = ChosenRounding(rounding: .nearest)
}

extension QuantizeModel {
  /// - Parameters:
  ///   - statistics: of the activation as it was calibrated; their Gram matrices are used up.
  ///   - applied: the smoothings of the layer so far; the one at `tap` divides the activation.
  func rounding(
    _ statistics: ActivationStatistics?, at tap: Tap, under applied: [AppliedSmoothing],
    of layer: LayerSpec
  ) throws -> ChosenRounding {
    guard let statistics, plan.output.method.needsStatistics else { return .nearest }
    if let channel = statistics.firstNonFiniteChannel {
      throw nonFiniteActivation(channel, read: layer.readers(at: tap)[0], of: layer)
    }
    let scale = applied.first { $0.smoothing.tap == tap }?.scale
    if plan.output.method == .compensated {
      do {
        return ChosenRounding(
          rounding: .compensated(
            try statistics.factors(
              smoothedBy: scale,
              groupSizes: plan.output.schemes.groupSizes(of: layer.readers(at: tap)),
              dampening: plan.options.dampening, workers: workers)))
      } catch {
        report(.warning(.notFactored(layer: layer.index, linear: layer.readers(at: tap)[0].name)))
      }
    }
    let moments = statistics.meanSquare
    return ChosenRounding(
      rounding: .clip(
        scale.map { zip(moments, $0).map { $0 / ($1 * $1) } } ?? moments))
  }

  /// The rounding of the gate and up projections of all units, chosen once for all groups of a layer.
  func inputRounding(of layer: LayerSpec, under applied: [AppliedSmoothing]) throws
    -> ChosenRounding
  {
    if let made = madeInputRounding, made.layer == layer.index { return made.rounding }
    let needed =
      plan.output.method.needsStatistics && plan.output.taps[layer.index].contains(.mlpInput)
    let rounding = try rounding(
      needed ? restoreInput(of: layer) : nil, at: .mlpInput, under: applied, of: layer)
    madeInputRounding = (layer.index, rounding)
    return rounding
  }
}
