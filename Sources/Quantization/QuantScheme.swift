// Bits, group size, symmetry: how a weight is rounded.

internal import CKernels
internal import Tensors

/// A weight-only integer scheme, `[out, in]` weights with a scale for each group of input channels.
///
/// Source: compressed-tensors presets (`quant_scheme.py`).
package struct QuantScheme: Sendable, Equatable {
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

  /// As --scheme names it, where it can.
  package var name: String {
    Preset.allCases.first { QuantScheme($0, groupSize: groupSize) == self }?.rawValue
      ?? "\(bits) bits\(isSymmetric ? "" : " asymmetric")"
  }

  package static let groupSizes = [32, 64, 128]

  /// This scheme with groups of another size.
  package func grouped(by groupSize: Int) -> QuantScheme {
    QuantScheme(bits: bits, groupSize: groupSize, isSymmetric: isSymmetric)
  }

  /// Codes in one 32-bit word.
  package var codesPerWord: Int { 32 / bits }

  /// The kernels' view of this scheme for a weight of type `dtype`, whose type the scales share.
  func rounding(for dtype: DType) -> sluice_rounding {
    let type =
      switch dtype {
      case .bf16: SLUICE_SCALE_BF16
      case .f16: SLUICE_SCALE_F16
      default: SLUICE_SCALE_F32
      }
    return sluice_rounding(
      bits: Int32(bits), group: Int32(groupSize), symmetric: isSymmetric ? 1 : 0,
      scale_type: Int32(type))
  }
}
