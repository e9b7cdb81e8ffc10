// A number or string in its field, as Python's `%` and `str.format` lay it out.

/// How a number or string is laid out in its field.
struct FieldLayout {
  var fill: Unicode.Scalar = " "
  /// `<`, `>`, `^` or `=` (after the sign); nil for the type's own.
  var alignment: Unicode.Scalar?
  /// `+`, a space, or `-` for negative numbers only.
  var sign: Unicode.Scalar = "-"
  var isAlternate = false
  var width = 0
  var precision: Int?
  /// `,` or `_` between groups of digits.
  var grouping: Unicode.Scalar?
  var type: Unicode.Scalar?

  func padded(_ text: String, sign: String = "", standard: Unicode.Scalar) throws(Fault) -> String {
    let missing = width - text.unicodeScalars.count - sign.unicodeScalars.count
    guard missing > 0 else { return sign + text }
    try checkText(missing)
    func filling(_ count: Int) -> String { String(repeating: String(fill), count: count) }
    switch alignment ?? standard {
    case "<": return sign + text + filling(missing)
    case "^": return filling(missing / 2) + sign + text + filling(missing - missing / 2)
    case "=": return sign + filling(missing) + text
    default: return filling(missing) + sign + text
    }
  }

  func signText(isNegative: Bool) -> String {
    isNegative ? "-" : sign == "-" ? "" : String(sign)
  }

  /// A number's digits with separators, padded; zeros that fill after the sign are grouped too.
  func number(_ digits: String, prefix: String = "", isNegative: Bool) throws(Fault) -> String {
    let sign = signText(isNegative: isNegative) + prefix
    guard let grouping else { return try padded(digits, sign: sign, standard: ">") }
    let whole = digits.prefix { $0.isHexDigit }
    let tail = digits.dropFirst(whole.count)
    var body = String(whole)
    let size = type.map { "xXob".unicodeScalars.contains($0) } == true ? 4 : 3
    var count = body.utf8.count
    if fill == "0", alignment == "=" {
      let around = tail.utf8.count + sign.utf8.count
      while count + (count - 1) / size + around < width { count += 1 }
      try checkText(count)
      body = String(repeating: "0", count: count - body.utf8.count) + body
    }
    var grouped = String.UnicodeScalarView()
    for (index, digit) in body.unicodeScalars.enumerated() {
      if index > 0, (count - index) % size == 0 { grouped.append(grouping) }
      grouped.append(digit)
    }
    return try padded(String(grouped) + tail, sign: sign, standard: ">")
  }

  /// `e`, `f`, `g` and their large forms; digits without the sign.
  func floatDigits(_ value: Double, _ type: Unicode.Scalar) throws(Fault) -> String {
    guard value.isFinite else {
      let name = value.isNaN ? "nan" : "inf"
      return "EFG".unicodeScalars.contains(type) ? uppercased(name) : name
    }
    let precision = precision ?? 6
    guard precision <= 1_000_000 else { throw Fault(.tooLarge, "a precision of \(precision)") }
    return formattedDouble(
      value.magnitude, style: Character(type), precision: precision, alternate: isAlternate)
  }
}
