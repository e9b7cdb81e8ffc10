// The `int-quantized` format: an integer in each byte, whatever its bits.

package import Quantization
package import Tensors
package import Transformer

/// Weights as integers beside activations in integers, symmetric, with a scale for each row or each group of one.
///
/// - `weight` I8 `[out, in]`.
/// - `weight_scale` in the weight's type, `[out, 1]` or `[out, in / group]`.
///
/// Source: compressed-tensors 0.20 `IntQuantizationCompressor`.
package struct IntQuantized: WrittenFormat {
  package init() {}

  package let names = ["int-quantized"]
  package let parts = [
    WeightPart(suffix: tensors.codes, isStreamed: true),
    WeightPart(suffix: tensors.scales, isStreamed: false),
  ]

  private static let tensors = CodedLinear.Names(
    codes: ".weight", scales: ".weight_scale", inputScale: ".input_scale")

  package func problem(writing scheme: QuantizationScheme) -> ArgumentProblem? {
    problem(reading: scheme) ?? SchemeChecks(scheme).activations(stored: .never)
  }

  package func problem(reading scheme: QuantizationScheme) -> ArgumentProblem? {
    let checks = SchemeChecks(scheme)
    return checks.weights { weights in
      if weights.type != .int { return checks.expected("type", "int") }
      if !(2...8).contains(weights.bits) { return checks.expected("num_bits", "2 to 8") }
      if !weights.isSymmetric { return checks.expected("symmetric", "true") }
      if weights.scaleType != nil { return checks.expected("scale_dtype", "null") }
      return checks.strategy([.channel, .group])
        ?? checks.groupSize(PackQuantized.groupSizes)
        ?? checks.outputs()
    }
  }

  package func codec(
    _ linear: LinearSpec, _ scheme: QuantizationScheme, dtype: DType
  ) -> any WeightCodec {
    CodedLinear(
      linear, scheme, dtype: dtype, layout: .bytes(.i8), names: Self.tensors)
  }
}
