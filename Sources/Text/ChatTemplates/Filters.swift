// The filters behind `|`.

enum Filter: String {
  case abs, attr, batch, capitalize, center, count, d, `default`, dictsort, e, escape
  case filesizeformat, first, float, forceescape, format, groupby, indent, int, items, join, last
  case length, list, lower, map, max, min, pprint, random, reject, rejectattr, replace, reverse
  case round, safe, select, selectattr, slice, sort, string, striptags, sum, title, tojson, trim
  case truncate, unique, upper, urlencode, urlize, wordcount, wordwrap, xmlattr
}

extension Filter {
  /// Whether what it does may look at all that a value holds.
  fileprivate var looksInside: Bool {
    switch self {
    case .attr, .batch, .count, .d, .default, .first, .items, .last, .length, .list, .map, .reject,
      .rejectattr, .select, .selectattr, .slice:
      false
    default: true
    }
  }
}

extension Interpreter {
  func apply(
    _ filter: Filter, _ value: Value, _ arguments: CallArguments
  ) throws(Fault) -> Value {
    func bound(_ parameters: [String], required: Int = 0) throws(Fault) -> [Value?] {
      try arguments.bound(to: parameters, required: required, of: filter.rawValue)
    }
    if filter.looksInside { try countWork(value.weight) }
    switch filter {
    case .tojson: return .string(try JSONText.text(of: value, arguments))
    case .length, .count:
      _ = try bound([])
      guard let length = try value.length() else {
        throw .failed("object of type '\(value.typeName)' has no len()")
      }
      return .int(length)
    case .default, .d:
      let bound = try bound(["default_value", "boolean"])
      let replacesFalse = try bound[1]?.isTrue() ?? false
      let isMissing = replacesFalse ? try !value.isTrue() : value.isUndefined
      return isMissing ? bound[0] ?? .string("") : value
    case .trim:
      let bound = try bound(["chars"])
      var characters: String?
      if let given = bound[0], !given.isNone {
        guard let text = given.text else { throw .failed("`trim` takes a str") }
        characters = text
      }
      let isMarkup = value.isMarkup
      let text = stripped(try value.str(), .both, characters)
      return isMarkup ? .markup(text) : .string(text)
    case .string:
      _ = try bound([])
      return value.text == nil ? .string(try value.str()) : value
    case .safe:
      _ = try bound([])
      return .markup(try value.str())
    case .escape, .e:
      _ = try bound([])
      return value.isMarkup ? value : .markup(htmlEscaped(try value.str()))
    case .forceescape:
      _ = try bound([])
      return .markup(htmlEscaped(try value.str()))
    case .upper, .lower, .capitalize, .title:
      _ = try bound([])
      return try recased(filter, value)
    case .list:
      _ = try bound([])
      return .list(Elements(try elements(of: value)))
    case .items:
      _ = try bound([])
      return items(of: value)
    case .first, .last:
      _ = try bound([])
      return try end(filter, of: value)
    case .join:
      let bound = try bound(["d", "attribute"])
      return try joined(value, bound[0] ?? .string(""), attribute: bound[1] ?? .none)
    case .replace:
      let bound = try bound(["old", "new", "count"], required: 2)
      let count = bound[2].flatMap { $0.isNone ? nil : $0 }
      if let count, count.integer == nil { throw .failed("`replace` takes an int as count") }
      return .string(
        try replaced(
          try value.str(), try bound[0]!.str(), try bound[1]!.str(),
          limit: count?.integer?.int ?? -1))
    case .map: return try mapped(value, arguments)
    case .select, .reject, .selectattr, .rejectattr: return selected(filter, value, arguments)
    case .dictsort:
      return try sortedItems(
        of: value, try bound(["case_sensitive", "by", "reverse"]))
    case .sort:
      let bound = try bound(["reverse", "case_sensitive", "attribute"])
      let keys = try sortKeys(
        elements(of: value), caseSensitive: try bound[1]?.isTrue() ?? false,
        attribute: bound[2] ?? .none)
      return .list(
        Elements(
          try sorted(keys.elements, keys: keys.keys, descending: try bound[0]?.isTrue() ?? false)))
    case .unique: return try uniqued(value, try bound(["case_sensitive", "attribute"]))
    case .min, .max:
      return try extreme(filter, value, try bound(["case_sensitive", "attribute"]))
    case .sum: return try summed(value, try bound(["attribute", "start"]))
    case .reverse:
      _ = try bound([])
      return try reversed(value)
    case .batch: return try batched(value, try bound(["linecount", "fill_with"], required: 1))
    case .slice: return try columns(value, try bound(["slices", "fill_with"], required: 1))
    case .int: return try converted(toInteger: value, try bound(["default", "base"]))
    case .float: return try converted(toFloat: value, try bound(["default"]))
    case .abs:
      _ = try bound([])
      return try absolute(value)
    case .round: return try rounded(value, try bound(["precision", "method"]))
    case .indent: return try indented(value, try bound(["width", "first", "blank"]))
    case .format: return try formatted(value, arguments)
    case .center:
      let bound = try bound(["width"])
      guard let width = (bound[0] ?? .int(80)).integer?.int else {
        throw .failed("`center` takes an int")
      }
      let text = try justified(try value.str(), width: width, fill: " ", .both)
      return value.isMarkup ? .markup(text) : .string(text)
    case .truncate:
      return try truncated(value, try bound(["length", "killwords", "end", "leeway"]))
    case .wordcount:
      _ = try bound([])
      return .int(wordCount(try value.str()))
    case .attr:
      let bound = try bound(["name"], required: 1)
      guard let name = bound[0]!.text else { throw .failed("attribute name must be string") }
      return try attributeOnly(of: value, named: name)
    case .filesizeformat, .groupby, .pprint, .random, .striptags, .urlencode, .urlize, .wordwrap,
      .xmlattr:
      throw .failed("the filter `\(filter.rawValue)` is not supported")
    }
  }

  // MARK: Filters that call filters and tests

  private func mapped(_ value: Value, _ arguments: CallArguments) throws(Fault) -> Value {
    var step: ((Value) throws(Fault) -> Value)?
    var source: ValueIterator?
    return .iterator(
      ValueIterator(of: [value] + arguments.values) { [unowned self] () throws(Fault) -> Value? in
        if source == nil {
          guard try value.isTrue() else { return nil }
          step = try mapping(arguments)
          source = try requireIterator(over: value)
        }
        guard let element = try source!.next() else { return nil }
        try countStep()
        try countWork(element.width)
        let result = try step!(element)
        try countWork(result.width)
        return result
      })
  }

  private func mapping(
    _ arguments: CallArguments
  ) throws(Fault) -> (Value) throws(Fault) -> Value {
    if arguments.positional.isEmpty, arguments.keywords.contains(where: { $0.name == "attribute" })
    {
      let bound = try arguments.bound(to: ["attribute", "default"], of: "map")
      let getter = try AttributeGetter(bound[0]!)
      let fallback = bound[1] ?? .none
      return { element throws(Fault) in
        try getter.value(of: element, fallback: fallback.isNone ? nil : fallback)
      }
    }
    guard let first = arguments.positional.first else {
      throw .failed("`map` requires a filter argument")
    }
    guard let filter = first.text.flatMap({ Filter(rawValue: $0) }) else {
      throw .failed("no filter named \(try first.repr())")
    }
    let rest = CallArguments(
      positional: Array(arguments.positional.dropFirst()), keywords: arguments.keywords)
    return { [unowned self] element throws(Fault) in try apply(filter, element, rest) }
  }

  private func selected(
    _ filter: Filter, _ value: Value, _ arguments: CallArguments
  ) -> Value {
    var source: ValueIterator?
    var condition: ((Value) throws(Fault) -> Bool)?
    let keeps = filter == .select || filter == .selectattr
    return .iterator(
      ValueIterator(of: [value] + arguments.values) { [unowned self] () throws(Fault) -> Value? in
        if source == nil {
          guard try value.isTrue() else { return nil }
          condition = try self.condition(filter, arguments)
          source = try requireIterator(over: value)
        }
        while let element = try source!.next() {
          try countStep()
          try countWork(element.width)
          if try condition!(element) == keeps { return element }
        }
        return nil
      })
  }

  private func condition(
    _ filter: Filter, _ arguments: CallArguments
  ) throws(Fault) -> (Value) throws(Fault) -> Bool {
    var positional = arguments.positional[...]
    var getter: AttributeGetter?
    if filter == .selectattr || filter == .rejectattr {
      guard let name = positional.popFirst() else {
        throw .failed("missing parameter for attribute name")
      }
      getter = try AttributeGetter(name)
    }
    let read = getter
    guard let name = positional.popFirst() else {
      return { element throws(Fault) in try (try read?.value(of: element) ?? element).isTrue() }
    }
    guard let test = name.text.flatMap({ Test(rawValue: $0) }) else {
      throw .failed("no test named \(try name.repr())")
    }
    let rest = CallArguments(positional: Array(positional), keywords: arguments.keywords)
    return { [unowned self] element throws(Fault) in
      try passes(test, try read?.value(of: element) ?? element, rest)
    }
  }
}

/// `attribute="a.b.0"`: the way from an element to the value a filter looks at.
private struct AttributeGetter {
  private let parts: [Value]

  init(_ attribute: Value) throws(Fault) {
    switch attribute {
    case .none: parts = []
    case .string(let text), .markup(let text):
      parts = split(text, at: ".", limit: -1).map { part in
        let isNumber = !part.utf8.isEmpty && part.unicodeScalars.allSatisfy(isPythonDigit)
        let index = isNumber ? parsedInteger(part, base: 10) : nil
        return index.map { .integer($0) } ?? .string(part)
      }
    default: parts = [attribute]
    }
  }

  func value(of element: Value, fallback: Value? = nil) throws(Fault) -> Value {
    var value = element
    for part in parts {
      value = try subscripted(value, part)
      if let fallback, value.isUndefined { value = fallback }
    }
    return value
  }
}

private func ignoringCase(_ value: Value) -> Value {
  value.text.map { .string(lowercased($0)) } ?? value
}

// MARK: Strings

private func recased(_ filter: Filter, _ value: Value) throws(Fault) -> Value {
  let text = try value.str()
  let result =
    switch filter {
    case .upper: uppercased(text)
    case .lower: lowercased(text)
    case .capitalize: capitalized(text)
    default: titledWords(text)
    }
  // `title` joins its words anew, which loses the mark of a safe string.
  return value.isMarkup && filter != .title ? .markup(result) : .string(result)
}

/// Jinja2's own `title`: words begin after white space, hyphens and opening brackets.
private func titledWords(_ text: String) -> String {
  func isSeparator(_ scalar: Unicode.Scalar) -> Bool {
    "-({[<".unicodeScalars.contains(scalar) || isPythonSpace(scalar)
  }
  var result = ""
  var rest = Scalars(text.unicodeScalars)[...]
  while let first = rest.first {
    let isSeparated = isSeparator(first)
    let run = rest.prefix { isSeparator($0) == isSeparated }
    result += uppercased(String(first)) + lowercased(String(run.dropFirst()))
    rest = rest.dropFirst(run.count)
  }
  return result
}

private func joined(
  _ value: Value, _ separator: Value, attribute: Value
) throws(Fault) -> Value {
  let getter = try AttributeGetter(attribute)
  let separator = try separator.str()
  let source = try requireIterator(over: value)
  var result = ""
  var isFirst = true
  while let element = try source.next() {
    if !isFirst { result += separator }
    isFirst = false
    result += try getter.value(of: element).str()
    try checkText(result.utf8.count)
  }
  return .string(result)
}

private func indented(_ value: Value, _ bound: [Value?]) throws(Fault) -> Value {
  let width = bound[0] ?? .int(4)
  guard let text = value.text else {
    if case .undefined(let undefined) = value { throw undefined.fault }
    throw .failed("`indent` takes a str, not \(value.typeName)")
  }
  var indentation = ""
  if let given = width.text {
    indentation = value.isMarkup && !width.isMarkup ? htmlEscaped(given) : given
  } else {
    guard let count = width.integer?.int, count <= 10_000 else {
      throw .failed("`indent` takes an int or str as width")
    }
    indentation = String(repeating: " ", count: max(0, count))
  }
  let lines = splitLines(text + "\n", keepingEnds: false)
  try checkText(text.utf8.count + lines.count * indentation.utf8.count)
  let isBlankIndented = try bound[2]?.isTrue() ?? false
  var result = lines[0]
  for line in lines.dropFirst() {
    result += "\n"
    if isBlankIndented || !line.utf8.isEmpty { result += indentation }
    result += line
  }
  if try bound[1]?.isTrue() ?? false { result = indentation + result }
  return value.isMarkup ? .markup(result) : .string(result)
}

private func formatted(_ value: Value, _ arguments: CallArguments) throws(Fault) -> Value {
  guard arguments.positional.isEmpty || arguments.keywords.isEmpty else {
    throw .failed("cannot handle positional and keyword arguments at the same time")
  }
  let values: Value
  if arguments.keywords.isEmpty {
    values = .tuple(Elements(arguments.positional))
  } else {
    values = .dict(try mapping(from: arguments, of: "format"))
  }
  let text = try formattedByPercent(try value.str(), values, escaping: value.isMarkup)
  return value.isMarkup ? .markup(text) : .string(text)
}

private func truncated(_ value: Value, _ bound: [Value?]) throws(Fault) -> Value {
  guard let length = (bound[0] ?? .int(255)).integer?.int,
    let leeway = (bound[3].flatMap { $0.isNone ? nil : $0 } ?? .int(5)).integer?.int,
    let end = (bound[2] ?? .string("...")).text
  else { throw .failed("`truncate` takes an int, a bool, a str and an int") }
  let endLength = end.unicodeScalars.count
  guard length >= endLength, leeway >= 0 else {
    throw .failed("`truncate` to \(length) characters has no room for `\(end)`")
  }
  guard let count = try value.length() else {
    throw .failed("object of type '\(value.typeName)' has no len()")
  }
  // What is short enough is returned as it is, string or not.
  if count <= length || count - length <= leeway { return value }
  guard let text = value.text else {
    throw .failed("`truncate` takes a str, not \(value.typeName)")
  }
  let scalars = text.unicodeScalars
  var kept = String(scalars.prefix(length - endLength))
  if try !(bound[1]?.isTrue() ?? false) { kept = splitFromEnd(kept, at: " ", limit: 1)[0] }
  return value.isMarkup ? .markup(kept + htmlEscaped(end)) : .string(kept + end)
}

private func wordCount(_ text: String) -> Int {
  var count = 0
  var isInWord = false
  for scalar in text.unicodeScalars {
    let isWord = scalar == "_" || isPythonAlphabetic(scalar) || isPythonNumeric(scalar)
    if isWord, !isInWord { count += 1 }
    isInWord = isWord
  }
  return count
}

// MARK: Lists and dicts

/// A generator: what is no mapping fails only when it is walked.
private func items(of value: Value) -> Value {
  var index = 0
  return .iterator(
    ValueIterator(of: [value]) { () throws(Fault) -> Value? in
      if value.isUndefined { return nil }
      guard case .dict(let mapping) = value else {
        throw .failed("can only get item pairs from a mapping")
      }
      guard index < mapping.count else { return nil }
      defer { index += 1 }
      return .tuple([mapping.keys[index], mapping.values[index]])
    })
}

private func end(_ filter: Filter, of value: Value) throws(Fault) -> Value {
  if filter == .first {
    let source = try requireIterator(over: value)
    return try source.next() ?? .undefined(Undefined("no first item, sequence was empty"))
  }
  switch value {
  case .iterator, .loop: throw .failed("'\(value.typeName)' object is not reversible")
  default:
    return try elements(of: value).last ?? .undefined(Undefined("no last item, sequence was empty"))
  }
}

private func sortedItems(of value: Value, _ bound: [Value?]) throws(Fault) -> Value {
  let isCaseSensitive = try bound[0]?.isTrue() ?? false
  let by = try (bound[1] ?? .string("key")).str()
  guard by == "key" || by == "value" else {
    throw .failed("`dictsort` sorts by either \"key\" or \"value\"")
  }
  guard case .dict(let mapping) = value else {
    if case .undefined(let undefined) = value { throw undefined.fault }
    throw .failed("'\(value.typeName)' object has no attribute 'items'")
  }
  let keys = by == "key" ? mapping.keys : mapping.values
  let pairs = zip(mapping.keys, mapping.values).map { Value.tuple([$0, $1]) }
  return .list(
    Elements(
      try sorted(
        pairs, keys: isCaseSensitive ? keys : keys.map(ignoringCase),
        descending: try bound[2]?.isTrue() ?? false)))
}

/// Keys for `sort`: several attributes with commas make a list.
private func sortKeys(
  _ elements: [Value], caseSensitive: Bool, attribute: Value
) throws(Fault) -> (elements: [Value], keys: [Value]) {
  var getters: [AttributeGetter] = []
  if let names = attribute.text {
    for name in split(names, at: ",", limit: -1) {
      getters.append(try AttributeGetter(.string(name)))
    }
  } else {
    getters = [try AttributeGetter(attribute)]
  }
  var keys: [Value] = []
  for element in elements {
    var parts: [Value] = []
    for getter in getters {
      let part = try getter.value(of: element)
      parts.append(caseSensitive ? part : ignoringCase(part))
    }
    keys.append(.list(Elements(parts)))
  }
  return (elements, keys)
}

private func uniqued(_ value: Value, _ bound: [Value?]) throws(Fault) -> Value {
  let isCaseSensitive = try bound[0]?.isTrue() ?? false
  let getter = try AttributeGetter(bound[1] ?? .none)
  var source: ValueIterator?
  let seen = Mapping()
  return .iterator(
    ValueIterator(of: [value] + bound.compactMap { $0 }) { () throws(Fault) -> Value? in
      if source == nil { source = try requireIterator(over: value) }
      while let element = try source!.next() {
        let found = try getter.value(of: element)
        let key = isCaseSensitive ? found : ignoringCase(found)
        if try seen.get(key) == nil {
          try seen.set(key, .none)
          return element
        }
      }
      return nil
    })
}

private func extreme(_ filter: Filter, _ value: Value, _ bound: [Value?]) throws(Fault) -> Value {
  let isCaseSensitive = try bound[0]?.isTrue() ?? false
  let getter = try AttributeGetter(bound[1] ?? .none)
  let source = try requireIterator(over: value)
  var best: (element: Value, key: Value)?
  while let element = try source.next() {
    let found = try getter.value(of: element)
    let key = isCaseSensitive ? found : ignoringCase(found)
    guard let current = best else {
      best = (element, key)
      continue
    }
    if try order(key, current.key) == (filter == .min ? .less : .greater) { best = (element, key) }
  }
  return best?.element ?? .undefined(Undefined("no aggregated item, sequence was empty"))
}

private func summed(_ value: Value, _ bound: [Value?]) throws(Fault) -> Value {
  let getter = try AttributeGetter(bound[0] ?? .none)
  var sum = bound[1] ?? .int(0)
  if sum.text != nil { throw .failed("sum() can't sum strings [use ''.join(seq) instead]") }
  let source = try requireIterator(over: value)
  while let element = try source.next() {
    sum = try arithmetic(.add, sum, try getter.value(of: element))
  }
  return sum
}

private func reversed(_ value: Value) throws(Fault) -> Value {
  switch value {
  case .string(let text): return .string(String(text.unicodeScalars.reversed()))
  case .markup(let text): return .markup(String(text.unicodeScalars.reversed()))
  case .iterator, .loop: return .list(Elements(try elements(of: value).reversed()))
  default:
    guard try iterator(over: value) != nil else { throw .failed("argument must be iterable") }
    return .iterator(ValueIterator(try elements(of: value).reversed()))
  }
}

private func batched(_ value: Value, _ bound: [Value?]) throws(Fault) -> Value {
  guard let size = bound[0]!.integer?.int else { throw .failed("`batch` takes an int") }
  let fill = bound[1] ?? .none
  var batches: [[Value]] = []
  for element in try elements(of: value) {
    if batches.isEmpty || batches[batches.count - 1].count == size { batches.append([]) }
    batches[batches.count - 1].append(element)
  }
  if !fill.isNone, let last = batches.last, last.count < size {
    try checkLength(size)
    batches[batches.count - 1] += Array(repeating: fill, count: size - last.count)
  }
  return .iterator(ValueIterator(batches.map { .list(Elements($0)) }))
}

private func columns(_ value: Value, _ bound: [Value?]) throws(Fault) -> Value {
  guard let count = bound[0]!.integer?.int else { throw .failed("`slice` takes an int") }
  guard count != 0 else { throw .failed("integer division or modulo by zero") }
  try checkLength(count)
  let fill = bound[1] ?? .none
  let all = try elements(of: value)
  let size = all.count / max(count, 1)
  let longer = all.count % max(count, 1)
  var start = 0
  var columns: [Value] = []
  for index in 0..<max(count, 0) {
    let end = start + size + (index < longer ? 1 : 0)
    var column = Array(all[start..<end])
    if !fill.isNone, index >= longer { column.append(fill) }
    columns.append(.list(Elements(column)))
    start = end
  }
  return .iterator(ValueIterator(columns))
}

// MARK: Numbers

private func converted(toInteger value: Value, _ bound: [Value?]) throws(Fault) -> Value {
  let fallback = bound[0] ?? .int(0)
  let base = bound[1]?.integer?.int ?? 10
  if let integer = value.integer { return .integer(integer) }
  if case .undefined(let undefined) = value { throw undefined.fault }
  if let text = value.text {
    if let integer = parsedInteger(text, base: base) { return .integer(integer) }
    // "42.23" is 42.
    return try parsedFloat(text).flatMap { BigInteger(truncating: $0) }.map { .integer($0) }
      ?? fallback
  }
  guard case .float(let number) = value else { return fallback }
  if number.isInfinite { throw .failed("cannot convert float infinity to integer") }
  return BigInteger(truncating: number).map { .integer($0) } ?? fallback
}

private func converted(toFloat value: Value, _ bound: [Value?]) throws(Fault) -> Value {
  if case .float = value { return value }
  if case .undefined(let undefined) = value { throw undefined.fault }
  if let integer = value.integer { return .float(try doubleValue(integer)) }
  guard let text = value.text, let number = try parsedFloat(text) else {
    return bound[0] ?? .float(0)
  }
  return .float(number)
}

private func absolute(_ value: Value) throws(Fault) -> Value {
  if case .float(let number) = value { return .float(number.magnitude) }
  guard let integer = value.integer else {
    throw .failed("bad operand type for abs(): '\(value.typeName)'")
  }
  return .integer(integer.isNegative ? integer.negated : integer)
}

private func rounded(_ value: Value, _ bound: [Value?]) throws(Fault) -> Value {
  let method = try (bound[1] ?? .string("common")).str()
  guard ["common", "ceil", "floor"].contains(method) else {
    throw .failed("method must be common, ceil or floor")
  }
  guard let precision = (bound[0] ?? .int(0)).integer?.int, precision.magnitude <= 400 else {
    throw .failed("`round` takes an int as precision")
  }
  if method == "common" { return try rounded(value, precision: precision) }
  let unit =
    precision >= 0
    ? Value.integer(try BigInteger.small(10).power(precision))
    : .float(try doubleValue(try BigInteger.small(10).power(-precision)).inverse)
  let scaled = try arithmetic(.multiply, value, unit)
  var whole = scaled
  if case .float(let number) = scaled {
    guard let integer = BigInteger(truncating: number.rounded(method == "ceil" ? .up : .down))
    else {
      throw .failed("cannot convert float to integer")
    }
    whole = .integer(integer)
  }
  guard whole.integer != nil else { throw .failed("must be real number, not \(value.typeName)") }
  return try arithmetic(.divide, whole, unit)
}

extension Double {
  fileprivate var inverse: Double { 1 / self }
}

/// Python's `round(value, precision)`: ties to even.
private func rounded(_ value: Value, precision: Int) throws(Fault) -> Value {
  if let integer = value.integer {
    guard precision < 0 else { return .integer(integer) }
    let unit = try BigInteger.small(10).power(-precision)
    let (quotient, remainder) = integer.dividedDown(by: unit)
    let double = remainder + remainder
    let isOdd = quotient.dividedDown(by: .small(2)).remainder == .small(1)
    let goesUp = double > unit || (double == unit && isOdd)
    return .integer((goesUp ? quotient + .small(1) : quotient) * unit)
  }
  guard case .float(let number) = value else {
    throw .failed("type \(value.typeName) doesn't define __round__ method")
  }
  guard number.isFinite else { return value }
  if precision >= 0 {
    let text = formattedDouble(number, style: "f", precision: precision, alternate: false)
    return .float(Double(text) ?? number)
  }
  let unit = try doubleValue(try BigInteger.small(10).power(-precision))
  return .float((number / unit).rounded(.toNearestOrEven) * unit)
}
