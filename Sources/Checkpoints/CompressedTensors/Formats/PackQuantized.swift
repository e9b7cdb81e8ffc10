// The `pack-quantized` format: integer codes of few bits, one after the other in 32-bit words.

package import Quantization
package import Tensors
package import Transformer

/// Weights as integers with a scale for each row or each group of one, symmetric or with zero points.
///
/// - `weight_packed` I32 `[out, ceil(in * bits / 32)]`: code j of a row, plus 2^(bits-1), in bits `bits * j` and on.
/// - `weight_scale` in the weight's type, `[out, in / group]`.
/// - `weight_zero_point` I32 `[ceil(out * bits / 32), in / group]`, asymmetric schemes only: packed along rows.
/// - `weight_shape` I64 `[2]`.
///
/// Source: compressed-tensors 0.20 `PackedQuantizationCompressor`.
package struct PackQuantized: WrittenFormat {
  package init() {}

  package let names = [formatName]
  package let parts = [
    WeightPart(suffix: tensors.codes, isStreamed: true),
    WeightPart(suffix: tensors.scales, isStreamed: false),
    WeightPart(suffix: ".weight_zero_point", isStreamed: false),
  ]

  static let formatName = "pack-quantized"

  private static let tensors = CodedLinear.Names(
    codes: ".weight_packed", scales: ".weight_scale", zeroPoints: ".weight_zero_point",
    shape: ".weight_shape")

  private static let bits = 2...8
  /// The columns of a group.
  static let groupSizes = [32, 64, 128, 256]
  /// Sizes that are chosen where none is asked for.
  static let usualGroupSizes = [32, 64, 128]

  package func problem(writing scheme: QuantizationScheme) -> ArgumentProblem? {
    problem(reading: scheme) ?? SchemeChecks(scheme).activations()
  }

  package func problem(reading scheme: QuantizationScheme) -> ArgumentProblem? {
    let checks = SchemeChecks(scheme)
    return checks.weights { weights in
      if weights.type != .int { return checks.expected("type", "int") }
      if !Self.bits.contains(weights.bits) { return checks.expected("num_bits", "2 to 8") }
      if weights.scaleType != nil { return checks.expected("scale_dtype", "null") }
      if weights.zeroPointType != nil { return checks.expected("zp_dtype", "torch.int8") }
      return checks.strategy([.group, .channel])
        ?? checks.groupSize(Self.groupSizes)
        ?? checks.outputs()
    }
  }

  package func codec(
    _ linear: LinearSpec, _ scheme: QuantizationScheme, dtype: DType
  ) -> any WeightCodec {
    guard let weights = scheme.weights else { preconditionFailure("\(linear.name) is not packed") }
    return CodedLinear(
      linear, scheme, dtype: dtype, layout: .words(bits: weights.bits), names: Self.tensors)
  }
}
