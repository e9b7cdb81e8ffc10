// The `float-quantized` format: FP8 weights and their scales.

package import Quantization
package import Tensors
package import Transformer

/// FP8 with a scale for each weight, row or block. `naive-quantized` is the same where activations stay as they are.
///
/// - `weight` F8_E4M3 `[out, in]`.
/// - `weight_scale` in the type that the weight had, `[1]`, `[out, 1]` or `[ceil(out / rows), ceil(in / columns)]`.
///
/// In a source, which weights are FP8 is told by the types of their tensors.
/// Source: compressed-tensors 0.20 `FloatQuantizationCompressor`.
package struct FloatQuantized: WrittenFormat {
  package init() {}

  package let names = ["float-quantized", "naive-quantized"]
  package let parts = [scalePart, inversePart].map {
    WeightPart(suffix: "." + $0, isStreamed: false)
  }

  private static let tensors = CodedLinear.Names(
    codes: ".weight", scales: "." + scalePart, inputScale: "." + inputPart)

  static let scalePart = "weight_scale"
  static let inputPart = "input_scale"
  /// As DeepSeek-V3 named it.
  static let inversePart = "weight_scale_inv"

  package func problem(reading scheme: QuantizationScheme) -> ArgumentProblem? {
    func problem(_ key: String, _ expected: String) -> ArgumentProblem {
      ArgumentProblem(["weights", key], expected: expected)
    }
    guard let weights = scheme.weights else {
      return ArgumentProblem(["weights"], expected: "a mapping")
    }
    if weights.bits != 8 { return problem("num_bits", "8") }
    if weights.type != .float { return problem("type", "\"float\"") }
    if !weights.isSymmetric { return problem("symmetric", "true") }
    if weights.dynamic != .never { return problem("dynamic", "false") }
    if ![.tensor, .channel, .block].contains(weights.strategy) {
      return problem("strategy", "\"tensor\", \"channel\" or \"block\"")
    }
    if scheme.outputActivations != nil {
      return ArgumentProblem(["output_activations"], expected: "null")
    }
    return nil
  }

  package func problem(writing scheme: QuantizationScheme) -> ArgumentProblem? {
    if let problem = problem(reading: scheme) { return problem }
    let checks = SchemeChecks(scheme)
    if scheme.weights?.scaleType != nil { return checks.expected("scale_dtype", "null") }
    return checks.activations(stored: .never)
  }

  package func codec(
    _ linear: LinearSpec, _ scheme: QuantizationScheme, dtype: DType
  ) -> any WeightCodec {
    CodedLinear(
      linear, scheme, dtype: dtype, layout: .bytes(.f8E4M3), names: Self.tensors)
  }
}
