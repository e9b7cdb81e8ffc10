// Floats as Python writes, reads and divides them.

import Glibc

/// `repr(float)`: the shortest digits that read back, in exponent form below 1e-4 and from 1e16.
func floatText(_ value: Double) -> String {
  if value.isNaN { return "nan" }
  if value.isInfinite { return value < 0 ? "-inf" : "inf" }
  let sign = value.sign == .minus ? "-" : ""
  if value == 0 { return "\(sign)0.0" }
  // Swift finds the same digits; only the layout differs.
  let text = Substring("\(value.magnitude)")
  let parts = text.split(separator: "e")
  let mantissa = parts[0].split(separator: ".", omittingEmptySubsequences: false)
  let whole = mantissa[0]
  let fraction = mantissa.count > 1 ? mantissa[1] : ""
  var digits = Array((whole + fraction).utf8)
  var exponent = (parts.count > 1 ? Int(parts[1])! : 0) + whole.utf8.count - 1
  while digits.count > 1, digits[0] == UInt8(ascii: "0") {
    digits.removeFirst()
    exponent -= 1
  }
  while digits.count > 1, digits.last == UInt8(ascii: "0") { digits.removeLast() }
  func string(_ bytes: some Sequence<UInt8>) -> String {
    String(decoding: Array(bytes), as: UTF8.self)
  }
  if exponent < -4 || exponent >= 16 {
    let tail = digits.count > 1 ? "." + string(digits.dropFirst()) : ""
    let size = exponent.magnitude < 10 ? "0\(exponent.magnitude)" : "\(exponent.magnitude)"
    return "\(sign)\(string(digits.prefix(1)))\(tail)e\(exponent < 0 ? "-" : "+")\(size)"
  }
  if exponent < 0 {
    return "\(sign)0." + String(repeating: "0", count: -exponent - 1) + string(digits)
  }
  let padded =
    digits + Array(repeating: UInt8(ascii: "0"), count: max(0, exponent + 2 - digits.count))
  return sign + string(padded.prefix(exponent + 1)) + "." + string(padded.dropFirst(exponent + 1))
}

/// `float(str)`; nil where Python raises.
func parsedFloat(_ text: String) throws(Fault) -> Double? {
  guard text.utf8.count <= 100_000 else {
    throw Fault(.tooLarge, "a number of \(text.utf8.count) bytes")
  }
  var scalars = Scalars(stripped(text, .both).unicodeScalars)
  guard let digits = withoutUnderscores(&scalars) else { return nil }
  switch lowercased(digits) {
  case "inf", "+inf", "infinity", "+infinity": return .infinity
  case "-inf", "-infinity": return -.infinity
  case "nan", "+nan", "-nan": return .nan
  default: break
  }
  // Swift also reads hexadecimal floats, which Python does not.
  guard digits.utf8.allSatisfy({ "0123456789+-.eE".utf8.contains($0) }) else { return nil }
  let body = digits.utf8.first == UInt8(ascii: "+") ? String(digits.dropFirst()) : digits
  if body.utf8.first == UInt8(ascii: "+") { return nil }
  // `1.` and `.5` are good in Python.
  var normal = body
  if let dot = normal.firstIndex(of: ".") {
    let after = normal.index(after: dot)
    let hasBefore = dot > normal.startIndex && normal[normal.index(before: dot)].isNumber
    let hasAfter = after < normal.endIndex && normal[after].isNumber
    guard hasBefore || hasAfter else { return nil }
    if !hasAfter { normal.insert("0", at: after) }
    if !hasBefore { normal.insert("0", at: normal.firstIndex(of: ".")!) }
  }
  return Double(normal)
}

/// `int(str, base)`; nil where Python raises.
func parsedInteger(_ text: String, base: Int) -> BigInteger? {
  var scalars = Scalars(stripped(text, .both).unicodeScalars)
  var negative = false
  if let sign = scalars.first, sign == "-" || sign == "+" {
    negative = sign == "-"
    scalars.removeFirst()
  }
  var radix = base
  var hadPrefix = false
  if scalars.count > 2, scalars[0] == "0" {
    let prefix: [Unicode.Scalar: Int] = [
      "x": 16, "X": 16, "o": 8, "O": 8, "b": 2, "B": 2,
    ]
    if let named = prefix[scalars[1]], base == 0 || base == named {
      radix = named
      hadPrefix = true
      scalars.removeFirst(2)
      if scalars.first == "_" { scalars.removeFirst() }
    }
  }
  guard let digits = withoutUnderscores(&scalars), digits.utf8.count <= 4_300 else { return nil }
  if radix == 0 {
    radix = 10
    if !hadPrefix, digits.utf8.count > 1, digits.utf8.first == UInt8(ascii: "0"),
      digits.utf8.contains(where: { $0 != UInt8(ascii: "0") })
    {
      return nil
    }
  }
  guard (2...36).contains(radix) else { return nil }
  return BigInteger(digits: digits.unicodeScalars, radix: radix, negative: negative)
}

/// Digits of other scripts become ASCII; single underscores between digits go; nil for others.
private func withoutUnderscores(_ scalars: inout Scalars) -> String? {
  var result = Scalars()
  for (index, scalar) in scalars.enumerated() {
    if scalar == "_" {
      guard index > 0, index + 1 < scalars.count,
        pythonDigitValue(scalars[index - 1]) != nil, pythonDigitValue(scalars[index + 1]) != nil
      else { return nil }
    } else if !scalar.isASCII {
      guard isPythonDecimal(scalar), let digit = pythonDigitValue(scalar) else { return nil }
      result.append(Unicode.Scalar(UInt8(48 + digit)))
    } else {
      result.append(scalar)
    }
  }
  return String(result)
}

/// `//` and `%` of floats. Source: CPython `float_divmod`.
///
/// - Parameter divisor: not zero.
func floatDivision(_ value: Double, _ divisor: Double) -> (quotient: Double, remainder: Double) {
  var remainder = fmod(value, divisor)
  var quotient = (value - remainder) / divisor
  if remainder != 0 {
    if (divisor < 0) != (remainder < 0) {
      remainder += divisor
      quotient -= 1
    }
  } else {
    remainder = Double(signOf: divisor, magnitudeOf: 0)
  }
  if quotient != 0 {
    let floor = quotient.rounded(.down)
    quotient = quotient - floor > 0.5 ? floor + 1 : floor
  } else {
    quotient = Double(signOf: value / divisor, magnitudeOf: 0)
  }
  return (quotient, remainder)
}

/// `printf` with one double; the only formatter that rounds every digit right.
func formattedDouble(_ value: Double, style: Character, precision: Int, alternate: Bool) -> String {
  let format = "%\(alternate ? "#" : "").\(precision)\(style)"
  // The largest double has 309 digits before the point.
  var buffer = [CChar](repeating: 0, count: precision + 330)
  let count = unsafe buffer.withUnsafeMutableBufferPointer { buffer in
    unsafe withVaList([value]) { arguments in
      unsafe vsnprintf(buffer.baseAddress!, buffer.count, format, arguments)
    }
  }
  return String(decoding: buffer.prefix(Int(count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
