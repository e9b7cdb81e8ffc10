// The numbers that codes stand for, before a scale multiplies them.

/// A kind of numbers to round to. Its arithmetic (the nearest number, its code, the scale and zero point of a range)
/// stands in the kernels, in `rounding.h`; here is what the rest of the program asks of it.
package enum NumberFormat: Sendable, Hashable {
  /// Two's complement; with zero points, a group's range lies anywhere about 0.
  case integer(bits: Int, hasZeroPoints: Bool)
  /// Floats by the bits of exponent and fraction; their codes are their bits.
  case e4m3
  case e2m1
  case e2m3

  /// - Returns: nil for numbers that nothing is rounded to yet.
  package init?(_ arguments: QuantizationArguments) {
    switch (arguments.type, arguments.bits) {
    case (.int, 2...8):
      self = .integer(bits: arguments.bits, hasZeroPoints: !arguments.isSymmetric)
    case (.float, 8) where arguments.isSymmetric: self = .e4m3
    case (.float, 6) where arguments.isSymmetric: self = .e2m3
    case (.float, 4) where arguments.isSymmetric: self = .e2m1
    default: return nil
    }
  }

  /// The smallest and the largest number that a code stands for.
  package var range: ClosedRange<Double> {
    switch self {
    case .integer(let bits, _):
      let end = Double(1 << (bits - 1))
      return -end...end - 1
    case .e4m3: return -448...448
    case .e2m1: return -6...6
    case .e2m3: return -7.5...7.5
    }
  }

  /// Whether a code stands for 0, whatever its sign; without zero points.
  func isZero(_ code: Int8) -> Bool {
    switch self {
    case .integer: code == 0
    case .e4m3: code & 0x7f == 0
    case .e2m1: code & 0x7 == 0
    case .e2m3: code & 0x1f == 0
    }
  }

  package var hasZeroPoints: Bool {
    if case .integer(_, let hasZeroPoints) = self { hasZeroPoints } else { false }
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
