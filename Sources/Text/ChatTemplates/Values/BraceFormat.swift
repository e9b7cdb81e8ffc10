// Python's `str.format` and `format`.

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
