// Schemes of integers in groups, short to spell.

package import CompressedTensors
package import LinearAlgebra
package import Quantization
package import Tensors
package import Transformer

/// Weights as integers in groups; of any size, also those that no format writes.
package struct IntegerScheme: Sendable, Equatable {
  package enum Preset: String, Sendable, CaseIterable {
    case w4a16 = "W4A16"
    case w4a16Asymmetric = "W4A16_ASYM"
    case w8a16 = "W8A16"
  }

  package let bits: Int
  package let groupSize: Int
  package let isSymmetric: Bool

  package init(bits: Int, groupSize: Int, isSymmetric: Bool) {
    self.bits = bits
    self.groupSize = groupSize
    self.isSymmetric = isSymmetric
  }

  package init(_ preset: Preset, groupSize: Int) {
    self.init(
      bits: preset == .w8a16 ? 8 : 4, groupSize: groupSize,
      isSymmetric: preset != .w4a16Asymmetric)
  }

  /// For every Linear.
  package var scheme: QuantizationScheme {
    QuantizationScheme(
      weights: .integers(bits: bits, groupSize: groupSize, isSymmetric: isSymmetric))
  }

  package func targeting(_ targets: String...) -> QuantizationScheme { scheme.targeting(targets) }

  package func quantizer(_ dtype: DType) -> WeightQuantizer {
    WeightQuantizer(
      .integer(bits: bits, hasZeroPoints: !isSymmetric), groupSize: groupSize, scaleType: dtype)
  }

  package func round(
    _ weight: any WeightRows, rows: Range<Int>, dtype: DType, by rounding: Rounding = .nearest
  ) throws(NonFiniteWeight) -> QuantizedRows {
    try quantizer(dtype).round(weight, rows: rows, by: rounding)
  }

  package func linear(_ linear: LinearSpec, dtype: DType) -> QuantizedLinear {
    QuantizedLinear(linear, scheme, dtype: dtype)
  }
}
