// The numbers that codes stand for, before a scale multiplies them.

internal import CKernels

/// A kind of numbers to round to. Its arithmetic (the nearest code, the value of a code, the scale and zero point of a
/// range) stands in the kernels, in `rounding.h`; here is what the rest of the program asks of it.
package enum NumberFormat: Sendable, Hashable {
  /// Two's complement; with zero points, a group's range lies anywhere about 0.
  case integer(bits: Int, hasZeroPoints: Bool)

  /// - Returns: nil for numbers that nothing is rounded to yet.
  package init?(_ arguments: QuantizationArguments) {
    guard arguments.type == .int, 2...8 ~= arguments.bits else { return nil }
    self = .integer(bits: arguments.bits, hasZeroPoints: !arguments.isSymmetric)
  }

  /// The smallest and the largest number that a code stands for.
  package var range: ClosedRange<Double> {
    switch self {
    case .integer(let bits, _):
      let end = Double(1 << (bits - 1))
      return -end...end - 1
    }
  }

  package var hasZeroPoints: Bool {
    switch self {
    case .integer(_, let hasZeroPoints): hasZeroPoints
    }
  }

  /// What rounding to nearest takes for a step, in weights between `lowest` and `highest`, before the scale is rounded to
  /// its own type.
  package func scale(lowest: Double, highest: Double) -> Double {
    let width = hasZeroPoints ? highest - lowest : 2 * max(-lowest, highest)
    return width / (range.upperBound - range.lowerBound)
  }

  /// The number that stands for 0 in weights from `lowest` on in steps of `scale`, not yet rounded; 0 without zero points.
  package func zeroPoint(lowest: Double, scale: Double) -> Double {
    if !hasZeroPoints { return 0 }
    return min(max(range.lowerBound - lowest / scale, range.lowerBound), range.upperBound)
  }
}
