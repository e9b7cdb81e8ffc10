// How much arithmetic a layer of a run is: floating-point operations of its matrix products, from shapes alone.

internal import CompressedTensors
internal import Quantization
internal import Transformer

/// Operations of one kind of work: for each token, and once for all of them.
package struct Operations: Sendable, Equatable {
  package let perToken: Double
  package let once: Double
  /// Operations for each token that are float32 in every engine.
  var exactPerToken = 0.0

  static let none = Operations(perToken: 0, once: 0)

  package func total(tokens: Int) -> Double { perToken * Double(tokens) + once }

  func exact(tokens: Int) -> Double { exactPerToken * Double(tokens) }
}

/// The arithmetic of one layer by step.
package struct LayerOperations: Sendable, Equatable {
  package let attend: Operations
  /// For each unit: what its down projection reads, statistics, and rounding.
  package let units: [Operations]
  package let advance: Operations
  /// The part of all tokens that each routed expert sees for its statistics, on average.
  package let seenShare: Double

  /// - Parameters:
  ///   - context: tokens that a token sees on average.
  ///   - seenShare: the part of all tokens that each routed expert sees, on average.
  ///   - isLast: whether no layer after this one is calibrated.
  init(
    _ layer: LayerSpec, _ output: OutputPlan, gathersGrams: Bool, context: Double,
    seenShare: Double, isCalibrated: Bool, isLast: Bool
  ) {
    self.seenShare = seenShare
    let taps = Set(output.taps[layer.index])
    func gram(_ tap: Tap) -> Double {
      gathersGrams && taps.contains(tap)
        ? ActivationStatistics.gramOperations(channels: layer.readers(at: tap)[0].inputs) : 0
    }
    func rounding(_ linears: [LinearSpec]) -> Double {
      if output.method != .compensated { return 0 }
      return linears.filter { output.fates[$0.weight] == .packed }.reduce(0) {
        $0 + Rounding.compensationOperations(rows: $1.outputs, channels: $1.inputs)
      }
    }
    attend = Operations(
      perToken: isCalibrated
        ? layer.attendOperations(context: context) + gram(.attentionInput) + gram(.attentionOutput)
          + gram(.mlpInput) : 0,
      once: rounding(layer.attention.linears),
      exactPerToken: isCalibrated ? layer.scoreOperations(context: context) : 0)
    units = layer.mlp.units.enumerated().map { index, unit in
      Operations(
        perToken: taps.contains(.hidden(index))
          ? (unit.hiddenOperations + gram(.hidden(index)))
            * (index < layer.mlp.alwaysOn.count ? 1 : seenShare) : 0,
        once: rounding(unit.linears))
    }
    advance = Operations(
      perToken: isCalibrated && !isLast ? layer.feedForwardOperations : 0, once: 0)
  }

  /// All operations of the layer.
  package func total(tokens: Int) -> Double {
    ([attend, advance] + units).reduce(0) { $0 + $1.total(tokens: tokens) }
  }
}
