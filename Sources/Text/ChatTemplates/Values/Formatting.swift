// Python's `%` and `str.format`.

/// How a number or string is laid out in its field.
private struct FieldLayout {
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

// MARK: The operator %

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

private func asciiOnly(_ text: String) -> String {
  String(
    text.unicodeScalars.flatMap { $0.isASCII ? String($0).unicodeScalars : backslashEscape($0) })
}

// MARK: str.format

func formatted(
  _ format: String, _ arguments: CallArguments, escaping: Bool
) throws(Fault) -> String {
  var formatter = BraceFormatter(arguments: arguments, escaping: escaping)
  return try formatter.run(Scalars(format.unicodeScalars)[...], depth: 2)
}

private struct BraceFormatter {
  let arguments: CallArguments
  let escaping: Bool
  private var next = 0
  private var isManual = false

  init(arguments: CallArguments, escaping: Bool) {
    self.arguments = arguments
    self.escaping = escaping
  }

  mutating func run(_ format: ArraySlice<Unicode.Scalar>, depth: Int) throws(Fault) -> String {
    guard depth >= 0 else { throw .failed("max string recursion exceeded") }
    var output = ""
    var rest = format
    while let scalar = rest.popFirst() {
      switch scalar {
      case "{":
        if rest.first == "{" {
          rest.removeFirst()
          output += "{"
        } else {
          output += try field(&rest, depth: depth)
          try checkText(output.utf8.count)
        }
      case "}":
        guard rest.popFirst() == "}" else {
          throw .failed("single '}' encountered in format string")
        }
        output += "}"
      default: output.unicodeScalars.append(scalar)
      }
    }
    return output
  }

  private mutating func field(
    _ rest: inout ArraySlice<Unicode.Scalar>, depth: Int
  ) throws(Fault) -> String {
    var name = Scalars()
    var conversion: Unicode.Scalar?
    var specification = Scalars()
    var isInBrackets = false
    while let scalar = rest.first, isInBrackets || !"!:}".unicodeScalars.contains(scalar) {
      if scalar == "{" { throw .failed("unexpected '{' in field name") }
      isInBrackets = scalar == "[" || (isInBrackets && scalar != "]")
      name.append(scalar)
      rest.removeFirst()
    }
    if rest.first == "!" {
      rest.removeFirst()
      conversion = rest.popFirst()
      guard rest.first == ":" || rest.first == "}" else {
        throw .failed("expected ':' after conversion specifier")
      }
    }
    if rest.first == ":" {
      rest.removeFirst()
      var open = 0
      while let scalar = rest.first, open > 0 || scalar != "}" {
        if scalar == "{" { open += 1 }
        if scalar == "}" { open -= 1 }
        specification.append(scalar)
        rest.removeFirst()
      }
    }
    guard rest.popFirst() == "}" else { throw .failed("expected '}' before end of string") }
    var value = try lookUp(name)
    switch conversion {
    case nil: break
    case "s": value = .string(try value.str())
    case "r": value = .string(try value.repr())
    case "a": value = .string(asciiOnly(try value.repr()))
    default: throw .failed("unknown conversion specifier \(conversion!)")
    }
    let layout = try run(specification[...], depth: depth - 1)
    let text = try formattedField(value, layout)
    return escaping && !value.isMarkup ? htmlEscaped(text) : text
  }

  /// `0`, `name`, or nothing for the next, then `.attribute` and `[key]`.
  private mutating func lookUp(_ field: Scalars) throws(Fault) -> Value {
    var rest = field[...]
    let first = Scalars(rest.prefix { $0 != "." && $0 != "[" })
    rest = rest.dropFirst(first.count)
    var value: Value
    if first.isEmpty || first.allSatisfy({ ("0"..."9").contains($0) }) {
      let index: Int
      if first.isEmpty {
        guard !isManual else { throw mixed }
        index = next
        next += 1
      } else {
        guard next == 0 else { throw mixed }
        isManual = true
        index = Int(String(first)) ?? .max
      }
      guard index < arguments.positional.count else {
        throw .failed("replacement index \(index) out of range")
      }
      value = arguments.positional[index]
    } else {
      let name = String(first)
      guard let found = arguments.keywords.first(where: { sameText($0.name, name) }) else {
        throw .failed("no argument named `\(name)` to format")
      }
      value = found.value
    }
    while let scalar = rest.popFirst() {
      if scalar == "." {
        let name = Scalars(rest.prefix { $0 != "." && $0 != "[" })
        rest = rest.dropFirst(name.count)
        guard !name.isEmpty else { throw .failed("empty attribute in format string") }
        value = try attribute(of: value, named: String(name))
      } else {
        let key = Scalars(rest.prefix { $0 != "]" })
        rest = rest.dropFirst(key.count)
        guard rest.popFirst() == "]", !key.isEmpty else {
          throw .failed("empty attribute in format string")
        }
        let index = key.allSatisfy { ("0"..."9").contains($0) } ? Int(String(key)) : nil
        value = try subscripted(value, index.map { .int($0) } ?? .string(String(key)))
      }
    }
    return value
  }

  private var mixed: Fault {
    .failed("cannot switch between automatic and manual field numbering")
  }
}

/// `format(value, specification)`
private func formattedField(_ value: Value, _ specification: String) throws(Fault) -> String {
  if specification.utf8.isEmpty { return try value.str() }
  let layout = try fieldLayout(specification, typeName: value.typeName)
  switch value {
  case .string(let text), .markup(let text):
    guard layout.type == nil || layout.type == "s", layout.sign == "-", layout.alignment != "=",
      layout.grouping == nil, !layout.isAlternate
    else { throw .failed("invalid format specifier '\(specification)' for a string") }
    let cut = layout.precision.map { String(text.unicodeScalars.prefix($0)) } ?? text
    return try layout.padded(cut, standard: "<")
  case .float(let number):
    return try formattedFloat(number, layout)
  case .bool, .integer:
    return try formattedInteger(value.integer!, layout)
  case .undefined, .none, .list, .tuple, .dict, .range, .view, .iterator, .namespace, .function,
    .macro, .loop, .cycler:
    throw .failed("unsupported format string passed to \(value.typeName).__format__")
  }
}

private func fieldLayout(_ text: String, typeName: String) throws(Fault) -> FieldLayout {
  var layout = FieldLayout()
  var rest = Scalars(text.unicodeScalars)[...]
  func isAlignment(_ scalar: Unicode.Scalar) -> Bool { "<>=^".unicodeScalars.contains(scalar) }
  let hasFill = rest.count > 1 && isAlignment(rest[rest.startIndex + 1])
  if hasFill {
    layout.fill = rest.removeFirst()
    layout.alignment = rest.removeFirst()
  } else if let first = rest.first, isAlignment(first) {
    layout.alignment = rest.removeFirst()
  }
  if let sign = rest.first, "+- ".unicodeScalars.contains(sign) { layout.sign = rest.removeFirst() }
  if rest.first == "#" {
    layout.isAlternate = true
    rest.removeFirst()
  }
  if !hasFill, rest.first == "0" {
    rest.removeFirst()
    layout.fill = "0"
    if layout.alignment == nil, typeName != "str", typeName != "Markup" { layout.alignment = "=" }
  }
  func number() throws(Fault) -> Int? {
    let digits = rest.prefix { ("0"..."9").contains($0) }
    rest = rest.dropFirst(digits.count)
    if digits.isEmpty { return nil }
    guard digits.count < 10, let value = Int(String(digits)), value <= Limits.textBytes else {
      throw .failed("too many decimal digits in format string")
    }
    return value
  }
  layout.width = try number() ?? 0
  if let grouping = rest.first, grouping == "," || grouping == "_" {
    layout.grouping = rest.removeFirst()
  }
  if rest.first == "." {
    rest.removeFirst()
    guard let precision = try number() else { throw .failed("format specifier missing precision") }
    layout.precision = precision
  }
  layout.type = rest.popFirst()
  if let grouping = layout.grouping, let type = layout.type {
    guard
      "deEfFgG%".unicodeScalars.contains(type)
        || (grouping == "_" && "boxX".unicodeScalars.contains(type))
    else { throw .failed("cannot specify '\(grouping)' with '\(type)'") }
  }
  guard rest.isEmpty else {
    throw .failed("invalid format specifier '\(text)' for object of type '\(typeName)'")
  }
  return layout
}

private func formattedInteger(
  _ value: BigInteger, _ layout: FieldLayout
) throws(Fault) -> String {
  let magnitude = value.isNegative ? value.negated : value
  var prefix = ""
  let digits: String
  switch layout.type {
  case nil, "d", "n": digits = magnitude.description
  case "b", "o", "x", "X":
    let radix = layout.type == "b" ? 2 : layout.type == "o" ? 8 : 16
    let text = magnitude.text(radix: radix)
    digits = layout.type == "X" ? uppercased(text) : text
    if layout.isAlternate { prefix = "0" + String(layout.type!) }
  case "c":
    guard let code = value.int, let scalar = UInt32(exactly: code).flatMap(Unicode.Scalar.init)
    else {
      throw .failed("%c arg not in range(0x110000)")
    }
    return try layout.padded(String(scalar), standard: "<")
  case "e", "E", "f", "F", "g", "G", "%":
    return try formattedFloat(try doubleValue(value), layout)
  default: throw .failed("unknown format code '\(layout.type!)' for object of type 'int'")
  }
  guard layout.precision == nil else {
    throw .failed("precision not allowed in integer format specifier")
  }
  return try layout.number(digits, prefix: prefix, isNegative: value.isNegative)
}

private func formattedFloat(_ value: Double, _ layout: FieldLayout) throws(Fault) -> String {
  let isNegative = value.sign == .minus && !value.isNaN
  let digits: String
  switch layout.type {
  case nil:
    if let precision = layout.precision {
      var general = layout
      general.precision = max(1, precision)
      let text = try general.floatDigits(value, "g")
      // Like `g`, but with a digit after the point where there is no exponent.
      let isWhole = value.isFinite && !text.utf8.contains { ".e".utf8.contains($0) }
      digits = isWhole ? text + ".0" : text
    } else {
      digits = floatText(value.magnitude)
    }
  case "%": digits = try layout.floatDigits(value * 100, "f") + "%"
  case "n": digits = try layout.floatDigits(value, "g")
  case "e", "E", "f", "F", "g", "G":
    var adjusted = layout
    if layout.precision == 0, layout.type == "g" || layout.type == "G" { adjusted.precision = 1 }
    digits = try adjusted.floatDigits(value, layout.type!)
  default: throw .failed("unknown format code '\(layout.type!)' for object of type 'float'")
  }
  return try layout.number(digits, isNegative: isNegative)
}
