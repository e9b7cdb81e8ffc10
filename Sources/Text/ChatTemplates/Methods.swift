// The methods of strings.

func stringMethod(_ name: String, _ text: String, isMarkup: Bool) -> Value? {
  guard let kind = StringMethod(rawValue: name) else { return nil }
  return method(name) { arguments throws(Fault) in
    try StringCall(text: text, isMarkup: isMarkup, method: kind, arguments: arguments).result()
  }
}

private enum StringMethod: String {
  case capitalize, casefold, center, count, encode, endswith, expandtabs, find, format, format_map
  case index, isalnum, isalpha, isascii, isdecimal, isdigit, isidentifier, islower, isnumeric
  case isprintable, isspace, istitle, isupper, join, ljust, lower, lstrip, maketrans, partition
  case removeprefix, removesuffix, replace, rfind, rindex, rjust, rpartition, rsplit, rstrip, split
  case splitlines, startswith, strip, swapcase, title, translate, upper, zfill
}

private struct StringCall {
  let text: String
  let isMarkup: Bool
  let method: StringMethod
  let arguments: CallArguments

  func result() throws(Fault) -> Value {
    switch method {
    case .capitalize: return try unary(capitalized)
    case .casefold: return try unary(casefolded)
    case .lower: return try unary(lowercased)
    case .upper: return try unary(uppercased)
    case .title: return try unary(titlecased)
    case .swapcase: return try unary(swappedCase)
    case .strip: return try strip(.both)
    case .lstrip: return try strip(.left)
    case .rstrip: return try strip(.right)
    case .split, .rsplit: return try splitCall()
    case .splitlines:
      let bound = try bound(["keepends"])
      let keeps = try bound[0]?.isTrue() ?? false
      return .list(Elements(splitLines(text, keepingEnds: keeps).map { same($0) }))
    case .partition, .rpartition: return try partition()
    case .replace: return try replace()
    case .join: return try join()
    case .startswith, .endswith: return try affix()
    case .removeprefix, .removesuffix: return try removeAffix()
    case .find, .rfind, .index, .rindex: return try find()
    case .count: return try count()
    case .center, .ljust, .rjust: return try justify()
    case .zfill: return try zeroFill()
    case .expandtabs: return try expandTabs()
    case .format: return same(try formatted(text, arguments, escaping: isMarkup))
    case .format_map:
      let bound = try bound(["mapping"], required: 1, positionalOnly: true)
      guard case .dict(let mapping) = bound[0]! else {
        throw .failed("`format_map` takes a mapping")
      }
      let keywords = zip(mapping.keys, mapping.values).compactMap { key, value in
        key.text.map { (name: $0, value: value) }
      }
      return same(
        try formatted(text, CallArguments(keywords: Array(keywords)), escaping: isMarkup))
    case .isalnum, .isalpha, .isascii, .isdecimal, .isdigit, .isidentifier, .islower, .isnumeric,
      .isprintable, .isspace, .istitle, .isupper:
      _ = try bound([])
      return .bool(predicate())
    case .encode, .maketrans, .translate:
      throw .failed("the method `\(method.rawValue)` of strings is not supported")
    }
  }

  /// A string of the same kind: methods of a safe string give safe strings.
  private func same(_ text: String) -> Value { isMarkup ? .markup(text) : .string(text) }

  private func bound(
    _ parameters: [String], required: Int = 0, positionalOnly: Bool = false
  ) throws(Fault) -> [Value?] {
    try arguments.bound(
      to: parameters, required: required, positionalOnly: positionalOnly, of: method.rawValue)
  }

  private func unary(_ function: (String) -> String) throws(Fault) -> Value {
    _ = try bound([])
    return same(function(text))
  }

  private func textArgument(_ value: Value?) throws(Fault) -> String {
    guard let text = value?.text else {
      throw .failed(
        "`\(method.rawValue)` takes a str, not \(value?.typeName ?? "nothing")")
    }
    return text
  }

  private func integerArgument(_ value: Value) throws(Fault) -> Int {
    guard let integer = value.integer else {
      throw .failed(
        "'\(value.typeName)' object cannot be interpreted as an integer")
    }
    return integer.int ?? (integer.isNegative ? .min : .max)
  }

  private func strip(_ side: StripSide) throws(Fault) -> Value {
    // Markup's own methods take names, those of str do not.
    let bound = try bound(["chars"], positionalOnly: true)
    guard let characters = bound[0], !characters.isNone else { return same(stripped(text, side)) }
    return same(stripped(text, side, try textArgument(characters)))
  }

  private func splitCall() throws(Fault) -> Value {
    let bound = try bound(["sep", "maxsplit"])
    let limit = try bound[1].map { value throws(Fault) in try integerArgument(value) } ?? -1
    let isFromEnd = method == .rsplit
    let fields: [String]
    if let separator = bound[0], !separator.isNone {
      let separator = try textArgument(separator)
      guard !separator.utf8.isEmpty else { throw .failed("empty separator") }
      fields =
        isFromEnd
        ? splitFromEnd(text, at: separator, limit: limit)
        : split(text, at: separator, limit: limit)
    } else {
      fields =
        isFromEnd ? splitAtSpaceFromEnd(text, limit: limit) : splitAtSpace(text, limit: limit)
    }
    return .list(Elements(fields.map { same($0) }))
  }

  private func partition() throws(Fault) -> Value {
    let separator = try textArgument(try bound(["sep"], required: 1, positionalOnly: true)[0])
    guard !separator.utf8.isEmpty else { throw .failed("empty separator") }
    let fields =
      method == .partition
      ? split(text, at: separator, limit: 1) : splitFromEnd(text, at: separator, limit: 1)
    let parts =
      fields.count == 2
      ? [fields[0], separator, fields[1]]
      : method == .partition ? [text, "", ""] : ["", "", text]
    return .tuple(Elements(parts.map { same($0) }))
  }

  private func replace() throws(Fault) -> Value {
    let bound = try bound(["old", "new", "count"], required: 2, positionalOnly: true)
    let limit = try bound[2].map { value throws(Fault) in try integerArgument(value) } ?? -1
    var new = try textArgument(bound[1])
    if isMarkup, !bound[1]!.isMarkup { new = htmlEscaped(new) }
    return same(try replaced(text, try textArgument(bound[0]), new, limit: limit))
  }

  private func join() throws(Fault) -> Value {
    let parts = try elements(of: try bound(["iterable"], required: 1, positionalOnly: true)[0]!)
    var result = ""
    for (index, part) in parts.enumerated() {
      if index > 0 { result += text }
      if isMarkup {
        result += part.isMarkup ? try part.str() : htmlEscaped(try part.str())
      } else if let text = part.text {
        result += text
      } else {
        throw .failed(
          "sequence item \(index): expected str instance, \(part.typeName) found")
      }
      try checkText(result.utf8.count)
    }
    return same(result)
  }

  /// The scalars between the optional `start` and `end`, and where they begin; nil where `start`
  /// is past the end.
  private func range(_ start: Value?, _ end: Value?) throws(Fault) -> (Scalars, Int)? {
    let scalars = Scalars(text.unicodeScalars)
    func position(_ value: Value?, _ fallback: Int) throws(Fault) -> Int {
      guard let value, !value.isNone else { return fallback }
      let given = try integerArgument(value)
      return given < 0 ? max(0, given + scalars.count) : given
    }
    let first = try position(start, 0)
    let last = min(try position(end, scalars.count), scalars.count)
    guard first <= scalars.count, first <= last else { return nil }
    return (Scalars(scalars[first..<last]), first)
  }

  private func affix() throws(Fault) -> Value {
    let bound = try bound(["prefix", "start", "end"], required: 1, positionalOnly: true)
    var affixes: [String] = []
    if case .tuple(let elements) = bound[0]! {
      for element in elements { affixes.append(try textArgument(element)) }
    } else {
      affixes = [try textArgument(bound[0])]
    }
    guard let (scalars, _) = try range(bound[1], bound[2]) else { return .bool(false) }
    let isStart = method == .startswith
    return .bool(
      affixes.contains {
        isStart
          ? scalars.starts(with: $0.unicodeScalars)
          : scalars.reversed().starts(with: $0.unicodeScalars.reversed())
      })
  }

  private func removeAffix() throws(Fault) -> Value {
    let affix = try textArgument(try bound(["affix"], required: 1, positionalOnly: true)[0])
    let bytes = Array(text.utf8)
    let wanted = Array(affix.utf8)
    if method == .removeprefix, bytes.starts(with: wanted) {
      return same(String(decoding: bytes.dropFirst(wanted.count), as: UTF8.self))
    }
    if method == .removesuffix, bytes.reversed().starts(with: wanted.reversed()) {
      return same(String(decoding: bytes.dropLast(wanted.count), as: UTF8.self))
    }
    return same(text)
  }

  private func find() throws(Fault) -> Value {
    let bound = try bound(["sub", "start", "end"], required: 1, positionalOnly: true)
    let wanted = Array(try textArgument(bound[0]).utf8)
    let isLast = method == .rfind || method == .rindex
    if let (scalars, offset) = try range(bound[1], bound[2]) {
      if wanted.isEmpty { return .int(offset + (isLast ? scalars.count : 0)) }
      let bytes = Array(String(scalars).utf8)
      let found =
        isLast
        ? matchesFromEnd(of: wanted, in: bytes, limit: 1)
        : matches(of: wanted, in: bytes, limit: 1)
      if let found = found.first {
        return .int(offset + String(decoding: bytes[..<found], as: UTF8.self).unicodeScalars.count)
      }
    }
    if method == .index || method == .rindex { throw .failed("substring not found") }
    return .int(-1)
  }

  private func count() throws(Fault) -> Value {
    let bound = try bound(["sub", "start", "end"], required: 1, positionalOnly: true)
    let wanted = try textArgument(bound[0])
    guard let (scalars, _) = try range(bound[1], bound[2]) else { return .int(0) }
    if wanted.utf8.isEmpty { return .int(scalars.count + 1) }
    return .int(matches(of: Array(wanted.utf8), in: Array(String(scalars).utf8)).count)
  }

  private func justify() throws(Fault) -> Value {
    let bound = try bound(["width", "fillchar"], required: 1, positionalOnly: true)
    let width = try integerArgument(bound[0]!)
    let fill = try bound[1].map { value throws(Fault) in try textArgument(value) } ?? " "
    guard fill.unicodeScalars.count == 1 else {
      throw .failed("the fill character must be exactly one character long")
    }
    return same(
      try justified(
        text, width: width, fill: isMarkup ? htmlEscaped(fill) : fill,
        method == .center ? .both : method == .ljust ? .right : .left))
  }

  private func zeroFill() throws(Fault) -> Value {
    let width = try integerArgument(try bound(["width"], required: 1, positionalOnly: true)[0]!)
    let missing = max(0, width) - text.unicodeScalars.count
    guard missing > 0 else { return same(text) }
    try checkText(missing)
    let zeros = String(repeating: "0", count: missing)
    if let sign = text.unicodeScalars.first, sign == "+" || sign == "-" {
      return same(String(sign) + zeros + String(text.unicodeScalars.dropFirst()))
    }
    return same(zeros + text)
  }

  private func expandTabs() throws(Fault) -> Value {
    let bound = try bound(["tabsize"])
    let size = try bound[0].map { value throws(Fault) in try integerArgument(value) } ?? 8
    guard size <= 1_000 else { throw Fault(.tooLarge, "a tab size of \(size)") }
    var result = String.UnicodeScalarView()
    var (column, bytes) = (0, text.utf8.count)
    for scalar in text.unicodeScalars {
      if scalar == "\t" {
        let count = size > 0 ? size - column % size : 0
        column += count
        bytes += count
        try checkText(bytes)
        // One by one: appending a sequence copies all that is there.
        for _ in 0..<count { result.append(" ") }
      } else {
        result.append(scalar)
        column = scalar == "\n" || scalar == "\r" ? 0 : column + 1
      }
    }
    return same(String(result))
  }

  private func predicate() -> Bool {
    let scalars = text.unicodeScalars
    func all(_ test: (Unicode.Scalar) -> Bool) -> Bool {
      !scalars.isEmpty && scalars.allSatisfy(test)
    }
    switch method {
    case .isalnum: return all { isPythonAlphabetic($0) || isPythonNumeric($0) }
    case .isalpha: return all(isPythonAlphabetic)
    case .isascii: return scalars.allSatisfy { $0.isASCII }
    case .isdecimal: return all(isPythonDecimal)
    case .isdigit: return all(isPythonDigit)
    case .isnumeric: return all(isPythonNumeric)
    case .isspace: return all(isPythonSpace)
    case .isprintable: return scalars.allSatisfy(isPythonPrintable)
    case .islower: return isPythonLower(text)
    case .isupper: return isPythonUpper(text)
    case .istitle: return isPythonTitle(text)
    default:
      guard let first = scalars.first, first == "_" || first.properties.isXIDStart else {
        return false
      }
      return scalars.allSatisfy { $0.properties.isXIDContinue }
    }
  }
}

func isPythonLower(_ text: String) -> Bool {
  let properties = text.unicodeScalars.lazy.map { $0.properties }
  return properties.contains { $0.isLowercase }
    && !properties.contains { $0.isUppercase || $0.generalCategory == .titlecaseLetter }
}

func isPythonUpper(_ text: String) -> Bool {
  let properties = text.unicodeScalars.lazy.map { $0.properties }
  return properties.contains { $0.isUppercase }
    && !properties.contains { $0.isLowercase || $0.generalCategory == .titlecaseLetter }
}

private func isPythonTitle(_ text: String) -> Bool {
  var afterCased = false
  var found = false
  for scalar in text.unicodeScalars {
    let properties = scalar.properties
    if properties.isUppercase || properties.generalCategory == .titlecaseLetter {
      if afterCased { return false }
      (afterCased, found) = (true, true)
    } else if properties.isLowercase {
      if !afterCased { return false }
      found = true
    } else {
      afterCased = false
    }
  }
  return found
}

/// Swift has no case folding of its own; lower case differs from it for a handful of letters.
private func casefolded(_ text: String) -> String {
  String(
    text.unicodeScalars.flatMap { scalar -> String.UnicodeScalarView in
      switch scalar {
      case "ß", "ẞ": return "ss".unicodeScalars
      case "ς": return "σ".unicodeScalars
      case "ſ": return "s".unicodeScalars
      default: return scalar.properties.lowercaseMapping.unicodeScalars
      }
    })
}

/// Fills on the sides named. Python's `center` puts the odd one left where width and text are odd.
func justified(
  _ text: String, width: Int, fill: String, _ side: StripSide
) throws(Fault) -> String {
  let missing = max(0, width) - text.unicodeScalars.count
  guard missing > 0 else { return text }
  try checkText(missing * fill.utf8.count)
  let left: Int
  switch side {
  case .left: left = missing
  case .right: left = 0
  case .both: left = missing / 2 + (missing & width & 1)
  }
  return String(repeating: fill, count: left) + text
    + String(repeating: fill, count: missing - left)
}
