// Integers without a bound, as Python has them; templates rarely leave 64 bits.

internal import BigInt

/// Nearly all values are small; these stay in one machine word.
enum BigInteger: Sendable, Hashable {
  case small(Int)
  /// Beyond `Int`.
  indirect case large(BigInt)

  private init(_ value: BigInt) { self = Int(exactly: value).map { .small($0) } ?? .large(value) }

  private var value: BigInt {
    switch self {
    case .small(let value): BigInt(value)
    case .large(let value): value
    }
  }

  /// - Parameter digits: nil is returned for none, or one that is not of the radix.
  init?(digits: some Sequence<Unicode.Scalar>, radix: Int, negative: Bool = false) {
    var value = BigInt(0)
    // Some digits at a time, as a word holds them: a word is cheap to add to, and a large value is not.
    var (word, unit) = (0, 1)
    var isEmpty = true
    for scalar in digits {
      guard scalar.isASCII, let digit = pythonDigitValue(scalar), digit < radix else { return nil }
      isEmpty = false
      word = word * radix + digit
      unit *= radix
      if unit > 1 << 56 {
        value = value * BigInt(unit) + BigInt(word)
        (word, unit) = (0, 1)
      }
    }
    if isEmpty { return nil }
    value = value * BigInt(unit) + BigInt(word)
    self.init(negative ? -value : value)
  }

  /// The integer part; nil for infinities and what is not a number.
  init?(truncating value: Double) {
    guard value.isFinite else { return nil }
    self.init(BigInt(value))
  }

  var int: Int? {
    if case .small(let value) = self { return value }
    return nil
  }

  var isNegative: Bool {
    switch self {
    case .small(let value): value < 0
    case .large(let value): value.sign == .minus
    }
  }

  var isZero: Bool { self == .small(0) }

  /// Bits of the magnitude.
  var bitWidth: Int {
    switch self {
    case .small(let value): Int.bitWidth - value.magnitude.leadingZeroBitCount
    case .large(let value): value.magnitude.bitWidth
    }
  }

  var negated: BigInteger {
    if case .small(let value) = self, value != .min { return .small(-value) }
    return BigInteger(-value)
  }

  /// The nearest double, ties to even; infinite where there is none.
  var double: Double {
    switch self {
    case .small(let value): return Double(value)
    case .large(let value):
      // By hand, since BigInt rounds down what lies above the middle: 64 leading bits, the lowest of them set where
      // anything is lost, round as the whole would.
      let magnitude = value.magnitude
      let shift = magnitude.bitWidth - 64
      var top = UInt64(magnitude >> shift)
      if magnitude.trailingZeroBitCount < shift { top |= 1 }
      let result = Double(sign: .plus, exponent: shift, significand: Double(top))
      return isNegative ? -result : result
    }
  }

  // MARK: Arithmetic

  static func + (left: BigInteger, right: BigInteger) -> BigInteger {
    if case .small(let a) = left, case .small(let b) = right {
      let (sum, overflow) = a.addingReportingOverflow(b)
      if !overflow { return .small(sum) }
    }
    return BigInteger(left.value + right.value)
  }

  static func - (left: BigInteger, right: BigInteger) -> BigInteger { left + right.negated }

  static func * (left: BigInteger, right: BigInteger) -> BigInteger {
    if case .small(let a) = left, case .small(let b) = right {
      let (product, overflow) = a.multipliedReportingOverflow(by: b)
      if !overflow { return .small(product) }
    }
    return BigInteger(left.value * right.value)
  }

  /// Quotient rounded down and the remainder, which has the divisor's sign.
  ///
  /// - Parameter divisor: not zero.
  func dividedDown(by divisor: BigInteger) -> (quotient: BigInteger, remainder: BigInteger) {
    if case .small(let a) = self, case .small(let b) = divisor, !(a == .min && b == -1) {
      let (quotient, remainder) = a.quotientAndRemainder(dividingBy: b)
      let down = remainder != 0 && (remainder < 0) != (b < 0)
      return (.small(down ? quotient - 1 : quotient), .small(down ? remainder + b : remainder))
    }
    let (quotient, remainder) = value.quotientAndRemainder(dividingBy: divisor.value)
    let down = !remainder.isZero && isNegative != divisor.isNegative
    return (
      BigInteger(down ? quotient - 1 : quotient),
      BigInteger(down ? remainder + divisor.value : remainder)
    )
  }

  func shiftedLeft(_ bits: Int) -> BigInteger { BigInteger(value << bits) }

  /// - Parameter exponent: not negative.
  func power(_ exponent: Int) throws(Fault) -> BigInteger {
    if self == .small(1) || exponent == 0 { return .small(1) }
    guard
      self == .small(0) || self == .small(-1)
        || exponent <= Limits.integerBits / max(1, bitWidth - 1)
    else { throw Fault(.tooLarge, "an integer of more than \(Limits.integerBits) bits") }
    // By hand, since BigInt squares once more than it needs to.
    var (result, base, left) = (BigInt(1), value, exponent)
    while true {
      if left & 1 == 1 { result *= base }
      left >>= 1
      if left == 0 { return BigInteger(result) }
      base *= base
    }
  }
}

extension BigInteger: Comparable {
  static func < (left: BigInteger, right: BigInteger) -> Bool {
    if case .small(let a) = left, case .small(let b) = right { return a < b }
    return left.value < right.value
  }
}

extension BigInteger: CustomStringConvertible {
  var description: String { text(radix: 10) }

  func text(radix: Int) -> String { String(value, radix: radix) }
}

/// The value of `0`…`9`, `a`…`z`, and of decimal digits in any script.
func pythonDigitValue(_ scalar: Unicode.Scalar) -> Int? {
  switch scalar {
  case "0"..."9": Int(scalar.value) - 48
  case "a"..."z": Int(scalar.value) - 87
  case "A"..."Z": Int(scalar.value) - 55
  default:
    isPythonDecimal(scalar) ? scalar.properties.numericValue.map { Int($0) } : nil
  }
}
