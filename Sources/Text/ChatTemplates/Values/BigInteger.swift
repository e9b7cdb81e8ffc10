// Integers without a bound, as Python has them; templates rarely leave 64 bits.

/// Sign and magnitude in 32-bit digits; small values, nearly all, stay in one machine word.
enum BigInteger: Sendable, Hashable {
  case small(Int)
  /// Beyond `Int`; no leading zero digit, least significant first.
  case large(negative: Bool, [UInt32])

  private init(negative: Bool, magnitude: [UInt32]) {
    var digits = magnitude
    while digits.last == 0 { digits.removeLast() }
    if digits.count <= 2 {
      var word: UInt64 = 0
      for digit in digits.reversed() { word = word << 32 | UInt64(digit) }
      if !negative, let value = Int(exactly: word) {
        self = .small(value)
        return
      }
      if negative, word <= UInt64(1) << 63 {
        self = .small(Int(truncatingIfNeeded: 0 &- word))
        return
      }
    }
    self = .large(negative: negative, digits)
  }

  private var parts: (negative: Bool, magnitude: [UInt32]) {
    switch self {
    case .large(let negative, let digits): return (negative, digits)
    case .small(let value):
      let word = value.magnitude
      let digits = [UInt32(truncatingIfNeeded: word), UInt32(truncatingIfNeeded: word >> 32)]
      return (value < 0, word == 0 ? [] : word >> 32 == 0 ? [digits[0]] : digits)
    }
  }

  /// - Parameter digits: nil is returned for none, or one that is not of the radix.
  init?(digits: some Sequence<Unicode.Scalar>, radix: Int, negative: Bool = false) {
    var magnitude: [UInt32] = []
    var isEmpty = true
    for scalar in digits {
      guard scalar.isASCII, let digit = pythonDigitValue(scalar), digit < radix else { return nil }
      isEmpty = false
      var carry = UInt64(digit)
      for index in magnitude.indices {
        let sum = UInt64(magnitude[index]) * UInt64(radix) + carry
        magnitude[index] = UInt32(truncatingIfNeeded: sum)
        carry = sum >> 32
      }
      if carry > 0 { magnitude.append(UInt32(carry)) }
    }
    if isEmpty { return nil }
    self.init(negative: negative, magnitude: magnitude)
  }

  /// The integer part; nil for infinities and what is not a number.
  init?(truncating value: Double) {
    guard value.isFinite else { return nil }
    if let small = Int(exactly: value.rounded(.towardZero)) {
      self = .small(small)
      return
    }
    // Beyond 2^63 a double is an integer already: its significand, shifted.
    let shift = Int(value.exponent) - 52
    let significand = value.significandBitPattern | 1 << 52
    let base = BigInteger.small(Int(significand)).shiftedLeft(shift)
    self = value < 0 ? base.negated : base
  }

  var int: Int? {
    if case .small(let value) = self { return value }
    return nil
  }

  var isNegative: Bool {
    switch self {
    case .small(let value): value < 0
    case .large(let negative, _): negative
    }
  }

  var isZero: Bool { self == .small(0) }

  var bitWidth: Int {
    let magnitude = parts.magnitude
    guard let last = magnitude.last else { return 0 }
    return magnitude.count * 32 - last.leadingZeroBitCount
  }

  var negated: BigInteger {
    let (negative, magnitude) = parts
    return BigInteger(negative: !negative, magnitude: magnitude)
  }

  /// The nearest double, ties to even; infinite where there is none.
  var double: Double {
    switch self {
    case .small(let value): return Double(value)
    case .large(let negative, let digits):
      // 64 leading bits, the lowest sticky, round as the whole would.
      let width = bitWidth
      let shift = width - 64
      var top: UInt64 = 0
      for bit in 0..<64 {
        let index = shift + bit
        if digits[index / 32] >> UInt32(index % 32) & 1 == 1 { top |= 1 << UInt64(bit) }
      }
      let lost = (0..<shift).contains { digits[$0 / 32] >> UInt32($0 % 32) & 1 == 1 }
      if lost { top |= 1 }
      let value = Double(sign: .plus, exponent: shift, significand: Double(top))
      return negative ? -value : value
    }
  }

  // MARK: Arithmetic

  static func + (left: BigInteger, right: BigInteger) -> BigInteger {
    if case .small(let a) = left, case .small(let b) = right {
      let (sum, overflow) = a.addingReportingOverflow(b)
      if !overflow { return .small(sum) }
    }
    let (a, b) = (left.parts, right.parts)
    if a.negative == b.negative {
      return BigInteger(negative: a.negative, magnitude: add(a.magnitude, b.magnitude))
    }
    if precedes(a.magnitude, b.magnitude) {
      return BigInteger(negative: b.negative, magnitude: subtract(b.magnitude, a.magnitude))
    }
    return BigInteger(negative: a.negative, magnitude: subtract(a.magnitude, b.magnitude))
  }

  static func - (left: BigInteger, right: BigInteger) -> BigInteger { left + right.negated }

  static func * (left: BigInteger, right: BigInteger) -> BigInteger {
    if case .small(let a) = left, case .small(let b) = right {
      let (product, overflow) = a.multipliedReportingOverflow(by: b)
      if !overflow { return .small(product) }
    }
    let (a, b) = (left.parts, right.parts)
    var result = [UInt32](repeating: 0, count: a.magnitude.count + b.magnitude.count)
    for (i, x) in a.magnitude.enumerated() {
      var carry: UInt64 = 0
      for (j, y) in b.magnitude.enumerated() {
        let sum = UInt64(x) * UInt64(y) + UInt64(result[i + j]) + carry
        result[i + j] = UInt32(truncatingIfNeeded: sum)
        carry = sum >> 32
      }
      result[i + b.magnitude.count] = UInt32(carry)
    }
    return BigInteger(negative: a.negative != b.negative, magnitude: result)
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
    let (a, b) = (parts, divisor.parts)
    let (q, r) = Self.divide(a.magnitude, b.magnitude)
    var quotient = BigInteger(negative: a.negative != b.negative, magnitude: q)
    var remainder = BigInteger(negative: a.negative, magnitude: r)
    if !remainder.isZero, a.negative != b.negative {
      quotient = quotient - .small(1)
      remainder = remainder + divisor
    }
    return (quotient, remainder)
  }

  func shiftedLeft(_ bits: Int) -> BigInteger {
    let (negative, magnitude) = parts
    let words = [UInt32](repeating: 0, count: bits / 32)
    let shift = UInt64(bits % 32)
    var result = words
    var carry: UInt64 = 0
    for digit in magnitude {
      let value = UInt64(digit) << shift | carry
      result.append(UInt32(truncatingIfNeeded: value))
      carry = value >> 32
    }
    result.append(UInt32(carry))
    return BigInteger(negative: negative, magnitude: result)
  }

  /// - Parameter exponent: not negative.
  func power(_ exponent: Int) throws(Fault) -> BigInteger {
    if self == .small(1) || exponent == 0 { return .small(1) }
    guard
      self == .small(0) || self == .small(-1)
        || exponent <= Limits.integerBits / max(1, bitWidth - 1)
    else { throw Fault(.tooLarge, "an integer of more than \(Limits.integerBits) bits") }
    var result = BigInteger.small(1)
    var base = self
    var left = exponent
    while left > 0 {
      if left & 1 == 1 { result = result * base }
      left >>= 1
      if left > 0 { base = base * base }
    }
    return result
  }

  // MARK: Magnitudes

  private static func precedes(_ a: [UInt32], _ b: [UInt32]) -> Bool {
    a.count != b.count ? a.count < b.count : a.reversed().lexicographicallyPrecedes(b.reversed())
  }

  private static func add(_ a: [UInt32], _ b: [UInt32]) -> [UInt32] {
    var result: [UInt32] = []
    var carry: UInt64 = 0
    for index in 0..<max(a.count, b.count) {
      let sum =
        UInt64(index < a.count ? a[index] : 0) + UInt64(index < b.count ? b[index] : 0) + carry
      result.append(UInt32(truncatingIfNeeded: sum))
      carry = sum >> 32
    }
    result.append(UInt32(carry))
    return result
  }

  /// - Parameter b: not greater than `a`.
  private static func subtract(_ a: [UInt32], _ b: [UInt32]) -> [UInt32] {
    var result: [UInt32] = []
    var borrow: Int64 = 0
    for index in a.indices {
      var difference = Int64(a[index]) - Int64(index < b.count ? b[index] : 0) - borrow
      borrow = difference < 0 ? 1 : 0
      if difference < 0 { difference += 1 << 32 }
      result.append(UInt32(difference))
    }
    return result
  }

  /// Bit by bit: slow and plain, for numbers of a few words.
  private static func divide(_ a: [UInt32], _ b: [UInt32]) -> ([UInt32], [UInt32]) {
    var quotient = [UInt32](repeating: 0, count: a.count)
    var remainder: [UInt32] = []
    for index in a.indices.reversed() {
      if b.count == 1 {
        let value = UInt64(remainder.first ?? 0) << 32 | UInt64(a[index])
        quotient[index] = UInt32(value / UInt64(b[0]))
        remainder = [UInt32(value % UInt64(b[0]))]
        continue
      }
      for bit in (0..<32).reversed() {
        var carry = a[index] >> UInt32(bit) & 1
        for place in remainder.indices {
          let next = remainder[place] >> 31
          remainder[place] = remainder[place] << 1 | carry
          carry = next
        }
        if carry > 0 { remainder.append(carry) }
        if !precedes(remainder, b) {
          remainder = subtract(remainder, b)
          while remainder.last == 0 { remainder.removeLast() }
          quotient[index] |= 1 << UInt32(bit)
        }
      }
    }
    return (quotient, remainder)
  }
}

extension BigInteger: Comparable {
  static func < (left: BigInteger, right: BigInteger) -> Bool {
    if case .small(let a) = left, case .small(let b) = right { return a < b }
    let (a, b) = (left.parts, right.parts)
    if a.negative != b.negative { return a.negative }
    return a.negative ? precedes(b.magnitude, a.magnitude) : precedes(a.magnitude, b.magnitude)
  }
}

extension BigInteger: CustomStringConvertible {
  var description: String { text(radix: 10) }

  func text(radix: Int) -> String {
    if case .small(let value) = self { return String(value, radix: radix) }
    let (negative, magnitude) = parts
    let chunk = radix == 10 ? 1_000_000_000 : UInt32(radix * radix * radix * radix)
    let width = radix == 10 ? 9 : 4
    var rest = magnitude
    var pieces: [String] = []
    while !rest.isEmpty {
      let (quotient, remainder) = Self.divide(rest, [chunk])
      rest = quotient
      while rest.last == 0 { rest.removeLast() }
      let digits = String(remainder.first ?? 0, radix: radix)
      pieces.append(
        rest.isEmpty ? digits : String(repeating: "0", count: width - digits.utf8.count) + digits)
    }
    return (negative ? "-" : "") + pieces.reversed().joined()
  }
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
