// What rounding knows of a weight: the numbers it becomes, the columns that share a scale, and the type of scales.

internal import CKernels
package import Tensors

/// The way from a Linear's weight to codes and scales. Searches, clipping, compensation and the evidence of rounding are
/// written against it; how codes are stored is a format's.
package struct WeightQuantizer: Sendable, Hashable {
  package let numbers: NumberFormat
  /// Columns of a row that share a scale.
  package let groupSize: Int
  /// What scales are stored in, and rounded to before use.
  package let scaleType: DType

  package init(_ numbers: NumberFormat, groupSize: Int, scaleType: DType) {
    self.numbers = numbers
    self.groupSize = groupSize
    self.scaleType = scaleType
  }

  /// - Parameters:
  ///   - arguments: of weights that a format writes.
  ///   - columns: of the weight.
  ///   - dtype: the type of the weight, which its scales share.
  package init(_ arguments: QuantizationArguments, columns: Int, dtype: DType) {
    guard let numbers = NumberFormat(arguments) else {
      preconditionFailure("nothing is rounded to \(arguments.words)")
    }
    self.init(numbers, groupSize: arguments.columnsPerScale(columns), scaleType: dtype)
  }

  /// As the kernels take it.
  var kernel: sluice_rounding {
    let type =
      switch scaleType {
      case .bf16: SLUICE_SCALE_BF16
      case .f16: SLUICE_SCALE_F16
      default: SLUICE_SCALE_F32
      }
    switch numbers {
    case .integer(let bits, let hasZeroPoints):
      return sluice_rounding(
        bits: Int32(bits), group: Int32(groupSize), symmetric: hasZeroPoints ? 0 : 1,
        scale_type: Int32(type))
    }
  }
}
