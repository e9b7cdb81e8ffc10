// Python's operator `%` on strings.

func formattedByPercent(
  _ format: String, _ arguments: Value, escaping: Bool
) throws(Fault) -> String {
  var formatter = PercentFormatter(format, arguments, escaping: escaping)
  return try formatter.run()
}

private struct PercentFormatter {
  private var format: ArraySlice<Unicode.Scalar>
  private let arguments: Value
  private let escaping: Bool
  private var next = 0
  private var output = ""

  init(_ format: String, _ arguments: Value, escaping: Bool) {
    self.format = Scalars(format.unicodeScalars)[...]
    self.arguments = arguments
    self.escaping = escaping
  }

  mutating func run() throws(Fault) -> String {
    while let scalar = format.popFirst() {
      if scalar == "%" {
        try conversion()
      } else {
        output.unicodeScalars.append(scalar)
      }
    }
    let given: Int
    switch arguments {
    case .tuple(let elements): given = elements.count
    // Anything that can be subscripted might have been meant for `%(name)s`.
    case .dict, .list, .range, .undefined: given = 0
    default: given = 1
    }
    guard next >= given else {
      throw .failed("not all arguments converted during string formatting")
    }
    return output
  }

  private mutating func argument() throws(Fault) -> Value {
    defer { next += 1 }
    if case .tuple(let elements) = arguments {
      guard next < elements.count else { throw tooFew }
      return elements[next]
    }
    guard next == 0 else { throw tooFew }
    return arguments
  }

  private var tooFew: Fault { .failed("not enough arguments for format string") }

  private mutating func conversion() throws(Fault) {
    var layout = FieldLayout()
    var named: Value?
    if format.first == "(" {
      guard let end = format.firstIndex(of: ")") else { throw .failed("incomplete format key") }
      let key = String(format[(format.startIndex + 1)..<end])
      format = format[(end + 1)...]
      guard !escaping || arguments.elements == nil, case .dict(let mapping) = arguments else {
        throw .failed("format requires a mapping")
      }
      guard let value = mapping.get(key) else { throw .failed("no key `\(key)` to format") }
      named = value
    }
    var fillsZero = false
    while let flag = format.first, "-+ #0".unicodeScalars.contains(flag) {
      format.removeFirst()
      switch flag {
      case "-": layout.alignment = "<"
      case "+": layout.sign = "+"
      case " ": if layout.sign != "+" { layout.sign = " " }
      case "#": layout.isAlternate = true
      default: fillsZero = true
      }
    }
    if let width = try number() {
      layout.width = width
      if width < 0 {
        layout.width = -width
        layout.alignment = "<"
      }
    }
    if format.first == "." {
      format.removeFirst()
      layout.precision = max(0, try number() ?? 0)
    }
    while let modifier = format.first, "hlL".unicodeScalars.contains(modifier) {
      format.removeFirst()
    }
    guard let type = format.popFirst() else { throw .failed("incomplete format") }
    if type == "%" {
      output += "%"
      return
    }
    if fillsZero, layout.alignment == nil, !"src".unicodeScalars.contains(type) {
      layout.fill = "0"
      layout.alignment = "="
    }
    layout.type = type
    let value: Value
    if let named { value = named } else { value = try argument() }
    output += try text(of: value, layout)
    try checkText(output.utf8.count)
  }

  private mutating func number() throws(Fault) -> Int? {
    if format.first == "*" {
      format.removeFirst()
      guard let width = try argument().integer?.int, width.magnitude <= Limits.textBytes else {
        throw .failed("* wants int")
      }
      return width
    }
    var value: Int?
    while let digit = format.first, ("0"..."9").contains(digit) {
      format.removeFirst()
      value = (value ?? 0) * 10 + Int(digit.value - 48)
      guard value! <= Limits.textBytes else { throw .failed("width too big") }
    }
    return value
  }

  private func text(of value: Value, _ layout: FieldLayout) throws(Fault) -> String {
    let type = layout.type!
    switch type {
    case "s", "r", "a":
      var text = type == "s" ? try value.str() : try value.repr()
      if type == "a" { text = asciiOnly(text) }
      if escaping, type != "s" || !value.isMarkup { text = htmlEscaped(text) }
      if let precision = layout.precision { text = String(text.unicodeScalars.prefix(precision)) }
      return try layout.padded(text, standard: ">")
    case "c":
      let text: String
      if let integer = value.integer {
        guard let code = integer.int,
          let scalar = UInt32(exactly: code).flatMap(Unicode.Scalar.init)
        else { throw .failed("%c arg not in range(0x110000)") }
        text = String(scalar)
      } else if let given = value.text, given.unicodeScalars.count == 1 {
        text = given
      } else {
        throw .failed("%c requires int or char")
      }
      return try layout.padded(text, standard: ">")
    case "d", "i", "u", "x", "X", "o":
      return try integerText(value, layout)
    case "e", "E", "f", "F", "g", "G":
      let number = try floatArgument(value)
      return try layout.number(
        try layout.floatDigits(number, type), isNegative: number.sign == .minus && !number.isNaN)
    default:
      throw .failed("unsupported format character `\(type)`")
    }
  }

  private func integerText(_ value: Value, _ layout: FieldLayout) throws(Fault) -> String {
    let type = layout.type!
    var integer = value.integer
    if "diu".unicodeScalars.contains(type), case .float(let number) = value {
      integer = BigInteger(truncating: number)
      if integer == nil { throw .failed("cannot convert float \(floatText(number)) to integer") }
    }
    guard let integer else {
      if case .undefined(let undefined) = value, "diu".unicodeScalars.contains(type) {
        throw undefined.fault
      }
      throw .failed("%\(type) format: a number is required, not \(value.typeName)")
    }
    let magnitude = integer.isNegative ? integer.negated : integer
    var digits: String
    var prefix = ""
    switch type {
    case "x", "X":
      digits = magnitude.text(radix: 16)
      prefix = layout.isAlternate ? "0x" : ""
      if type == "X" {
        digits = uppercased(digits)
        prefix = uppercased(prefix)
      }
    case "o":
      digits = magnitude.text(radix: 8)
      prefix = layout.isAlternate ? "0o" : ""
    default: digits = magnitude.description
    }
    if let precision = layout.precision {
      try checkText(precision)
      digits = String(repeating: "0", count: max(0, precision - digits.utf8.count)) + digits
    }
    return try layout.number(digits, prefix: prefix, isNegative: integer.isNegative)
  }

  private func floatArgument(_ value: Value) throws(Fault) -> Double {
    if case .float(let number) = value { return number }
    if let integer = value.integer { return try doubleValue(integer) }
    if case .undefined(let undefined) = value { throw undefined.fault }
    throw .failed("must be real number, not \(value.typeName)")
  }
}
