// What formats ask of a scheme, in the words of its fields.

internal import Quantization

/// Questions that several formats have. Each answers with the first field that is wrong.
struct SchemeChecks {
  private let scheme: QuantizationScheme

  init(_ scheme: QuantizationScheme) { self.scheme = scheme }

  /// What `body` finds wrong with weights that are made before the model is saved.
  func weights(_ body: (QuantizationArguments) -> ArgumentProblem?) -> ArgumentProblem? {
    guard let weights = scheme.weights else {
      return ArgumentProblem(["weights"], expected: "a mapping")
    }
    return weights.dynamic == .never ? body(weights) : expected("dynamic", "false")
  }

  func expected(_ key: String, _ value: String) -> ArgumentProblem {
    ArgumentProblem(["weights", key], expected: value)
  }

  func strategy(_ known: [QuantizationArguments.Strategy]) -> ArgumentProblem? {
    if let strategy = scheme.weights?.strategy, known.contains(strategy) { return nil }
    return expected("strategy", CompressionFormats.alternatives(known.map(\.rawValue)))
  }

  func scaleType(_ type: QuantizationArguments.ScaleType) -> ArgumentProblem? {
    scheme.weights?.scaleType == type ? nil : expected("scale_dtype", type.rawValue)
  }

  /// Where there are groups.
  func groupSize(_ known: [Int]) -> ArgumentProblem? {
    guard let size = scheme.weights?.groupSize, !known.contains(size) else { return nil }
    return expected("group_size", CompressionFormats.alternatives(known.map { "\($0)" }))
  }

  /// Those that an engine scales as it goes leave nothing in the file; others have a number there.
  ///
  /// - Parameter stored: the way of static activations that a format has a tensor for.
  func activations(stored: QuantizationArguments.Dynamic? = nil) -> ArgumentProblem? {
    if let inputs = scheme.inputActivations {
      func problem(_ key: String, _ expected: String) -> ArgumentProblem {
        ArgumentProblem(["input_activations", key], expected: expected)
      }
      if inputs.dynamic != .always, inputs.dynamic != stored {
        return problem(
          "dynamic",
          stored == .never ? "true or false" : stored == .local ? "true or \"local\"" : "true")
      }
      let strategies = ActivationQuantizer.strategies(inputs.dynamic)
      if !strategies.contains(inputs.strategy) {
        return problem("strategy", CompressionFormats.alternatives(strategies.map(\.rawValue)))
      }
      if !ActivationQuantizer.isServed(inputs) {
        return problem("num_bits", inputs.type == .int ? "2 to 8" : "4, 6 or 8")
      }
    }
    return outputs()
  }

  func outputs() -> ArgumentProblem? {
    scheme.outputActivations == nil
      ? nil : ArgumentProblem(["output_activations"], expected: "null")
  }
}
