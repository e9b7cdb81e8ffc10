// The `nvfp4-pack-quantized` format: floats of 4 bits in groups of 16, with scales of two levels.

package import Quantization
package import Tensors
package import Transformer

/// E2M1 with a scale in E4M3 for 16 weights, and one above those for the whole weight.
///
/// - `weight_packed` U8 `[out, in / 2]`: the first of two codes in the low half of a byte.
/// - `weight_scale` F8_E4M3 `[out, in / 16]`, times the global scale.
/// - `weight_global_scale` F32 `[1]`, the same for all weights that are loaded as one: vLLM takes one of theirs.
///
/// Source: compressed-tensors 0.20 `NVFP4PackedCompressor`.
package struct TwoLevelQuantized: WrittenFormat {
  package init() {}

  package let names = ["nvfp4-pack-quantized"]
  package let parts = [
    WeightPart(suffix: tensors.codes, isStreamed: true),
    WeightPart(suffix: tensors.scales, isStreamed: false),
    WeightPart(suffix: ".weight_global_scale", isStreamed: false),
  ]

  private static let tensors = CodedLinear.Names(
    codes: ".weight_packed", scales: ".weight_scale", globalScale: ".weight_global_scale",
    inputScale: ".input_global_scale")

  package func problem(writing scheme: QuantizationScheme) -> ArgumentProblem? {
    problem(reading: scheme) ?? SchemeChecks(scheme).scaleType(.e4m3)
      ?? SchemeChecks(scheme).activations(stored: .local)
  }

  package func problem(reading scheme: QuantizationScheme) -> ArgumentProblem? {
    let checks = SchemeChecks(scheme)
    return checks.weights { weights in
      if weights.type != .float { return checks.expected("type", "float") }
      if weights.bits != 4 { return checks.expected("num_bits", "4") }
      if !weights.isSymmetric { return checks.expected("symmetric", "true") }
      if weights.scaleType != nil, let problem = checks.scaleType(.e4m3) { return problem }
      return checks.strategy([.tensorGroup]) ?? checks.groupSize([16]) ?? checks.outputs()
    }
  }

  package func codec(
    _ linear: LinearSpec, _ scheme: QuantizationScheme, dtype: DType
  ) -> any WeightCodec {
    CodedLinear(
      linear, scheme, dtype: dtype, layout: .packedBytes(bits: 4), names: Self.tensors)
  }
}
