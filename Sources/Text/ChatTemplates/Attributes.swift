// `value.name` and `value[key]` as the sandbox looks them up.

/// Python's attribute first, then the item.
func attribute(of value: Value, named name: String) throws(Fault) -> Value {
  if let found = try pythonAttribute(of: value, named: name) { return found }
  if let found = try item(value, .string(name)) { return found }
  return missing(value, attribute: name)
}

/// The item first, then Python's attribute.
func subscripted(_ value: Value, _ key: Value) throws(Fault) -> Value {
  if let found = try item(value, key) { return found }
  if let name = key.text {
    if let found = try pythonAttribute(of: value, named: name) { return found }
    return missing(value, attribute: name)
  }
  let shown = try key.repr()
  let owner = value.typeName
  return .undefined(Undefined("\(owner) object has no element \(shown)"))
}

/// Keeps the type's name only, not the value.
private func missing(_ value: Value, attribute name: String) -> Value {
  let owner = value.isNone ? "None" : value.typeName
  return .undefined(
    Undefined(
      "\(quoted(owner == "None" ? owner : owner + " object")) has no attribute \(quoted(name))"))
}

private func refused(_ value: Value, _ name: String) -> Value {
  let owner = value.typeName
  return .undefined(
    Undefined(
      isRefused: true,
      "access to attribute \(quoted(name)) of \(quoted(owner)) object is unsafe"))
}

/// What every object of Python has; private all.
private let commonAttributes: Set<String> = [
  "__class__", "__delattr__", "__dir__", "__doc__", "__eq__", "__format__", "__ge__",
  "__getattribute__", "__getstate__", "__gt__", "__hash__", "__init__", "__init_subclass__",
  "__le__", "__lt__", "__ne__", "__new__", "__reduce__", "__reduce_ex__", "__repr__",
  "__setattr__", "__sizeof__", "__str__", "__subclasshook__",
]

private func pythonAttribute(of value: Value, named name: String) throws(Fault) -> Value? {
  if name.utf8.first == UInt8(ascii: "_") {
    if case .namespace(let namespace) = value, name != "__class__" {
      guard let found = namespace.attributes.get(name) else { return nil }
      _ = found
      return refused(value, name)
    }
    if commonAttributes.contains(name) { return refused(value, name) }
  }
  switch value {
  case .undefined(let undefined):
    if name.hasPrefix("__"), name.hasSuffix("__") { return nil }
    throw undefined.fault
  case .string(let text): return stringMethod(name, text, isMarkup: false)
  case .markup(let text): return stringMethod(name, text, isMarkup: true)
  case .list(let elements):
    switch name {
    case "append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove":
      return refused(value, name)
    case "copy": return method(name, of: value) { _ throws(Fault) in value }
    default: return sequenceMethod(name, elements)
    }
  case .tuple(let elements): return sequenceMethod(name, elements)
  case .dict(let mapping):
    switch name {
    case "clear", "pop", "popitem", "setdefault", "update": return refused(value, name)
    default: return mappingMethod(name, mapping)
    }
  case .namespace(let namespace): return namespace.attributes.get(name)
  case .loop(let loop): return try loopAttribute(name, loop)
  case .macro(let macro):
    switch name {
    case "name": return macro.name.map { .string($0) } ?? .some(.none)
    case "arguments": return .tuple(Elements(macro.macro.parameters.map { .string($0.name) }))
    case "catch_kwargs": return .bool(macro.macro.readsExtraKeywords)
    case "catch_varargs": return .bool(macro.macro.readsExtraPositional)
    case "caller": return .bool(macro.macro.readsCaller)
    default: return nil
    }
  case .cycler(let cycler):
    switch name {
    case "current": return cycler.current
    case "next": return method(name, of: value) { _ throws(Fault) in cycler.next() }
    case "reset":
      return method(name, of: value) { _ throws(Fault) in
        cycler.position = 0
        return .none
      }
    case "items": return .tuple(cycler.items)
    case "pos": return .int(cycler.position)
    default: return nil
    }
  case .range(let range):
    switch name {
    case "start": return .int(range.start)
    case "stop": return .int(range.stop)
    case "step": return .int(range.step)
    case "count", "index":
      return method(name) { arguments throws(Fault) in
        let bound = try arguments.bound(to: ["value"], required: 1, positionalOnly: true, of: name)
        let found = range.index(of: bound[0]!)
        if name == "count" { return .int(found == nil ? 0 : 1) }
        guard let index = found else { throw .failed("\(try bound[0]!.repr()) is not in range") }
        return .int(index)
      }
    default: return nil
    }
  case .float(let number):
    switch name {
    case "real": return value
    case "imag": return .float(0)
    case "is_integer":
      return method(name) { _ throws(Fault) in .bool(number.isFinite && number == number.rounded())
      }
    default: return nil
    }
  case .bool, .integer:
    let integer = value.integer!
    switch name {
    case "real", "numerator": return .integer(integer)
    case "imag": return .int(0)
    case "denominator": return .int(1)
    case "bit_length": return method(name) { _ throws(Fault) in .int(integer.bitWidth) }
    default: return nil
    }
  case .none, .view, .iterator, .function: return nil
  }
}

func method(
  _ name: String, of owner: Value? = nil, _ body: @escaping (CallArguments) throws(Fault) -> Value
) -> Value {
  .function(Function(name, of: owner, body))
}

private func sequenceMethod(_ name: String, _ elements: Elements) -> Value? {
  switch name {
  case "count":
    return method(name, of: .list(elements)) { arguments throws(Fault) in
      let wanted = try arguments.bound(to: ["value"], required: 1, positionalOnly: true, of: name)
      var count = 0
      for element in elements where try isEqual(element, wanted[0]!) { count += 1 }
      return .int(count)
    }
  case "index":
    return method(name, of: .list(elements)) { arguments throws(Fault) in
      let bound = try arguments.bound(
        to: ["value", "start", "stop"], required: 1, positionalOnly: true, of: name)
      func position(_ value: Value?, _ fallback: Int) -> Int {
        guard let given = value?.integer?.int else { return fallback }
        return min(max(given < 0 ? given + elements.count : given, 0), elements.count)
      }
      let start = position(bound[1], 0)
      for index in start..<max(start, position(bound[2], elements.count))
      where try isEqual(elements[index], bound[0]!) { return .int(index) }
      throw .failed("\(try bound[0]!.repr()) is not in list")
    }
  default: return nil
  }
}

private func mappingMethod(_ name: String, _ mapping: Mapping) -> Value? {
  switch name {
  case "get":
    return method(name, of: .dict(mapping)) { arguments throws(Fault) in
      let bound = try arguments.bound(
        to: ["key", "default"], required: 1, positionalOnly: true, of: name)
      return try mapping.get(bound[0]!) ?? bound[1] ?? .none
    }
  case "keys", "values", "items":
    return method(name, of: .dict(mapping)) { arguments throws(Fault) in
      _ = try arguments.bound(to: [], of: name)
      return .view(MappingView(mapping: mapping, part: MappingView.Part(rawValue: name)!))
    }
  case "copy": return method(name, of: .dict(mapping)) { _ throws(Fault) in .dict(mapping) }
  case "fromkeys":
    return method(name) { arguments throws(Fault) in
      let bound = try arguments.bound(
        to: ["iterable", "value"], required: 1, positionalOnly: true, of: name)
      let result = Mapping()
      for key in try elements(of: bound[0]!) { try result.set(key, bound[1] ?? .none) }
      return .dict(result)
    }
  default: return nil
  }
}

private func loopAttribute(_ name: String, _ loop: LoopState) throws(Fault) -> Value? {
  switch name {
  case "index": return .int(loop.index0 + 1)
  case "index0": return .int(loop.index0)
  case "revindex": return .int(try loop.length() - loop.index0)
  case "revindex0": return .int(try loop.length() - loop.index0 - 1)
  case "first": return .bool(loop.index0 == 0)
  case "last": return .bool(try loop.next() == nil)
  case "length": return .int(try loop.length())
  case "depth": return .int(loop.depth0 + 1)
  case "depth0": return .int(loop.depth0)
  case "previtem":
    return loop.previous ?? .undefined(Undefined("there is no previous item"))
  case "nextitem":
    return try loop.next() ?? .undefined(Undefined("there is no next item"))
  case "cycle":
    return method(name, of: .loop(loop)) { arguments throws(Fault) in
      let items = arguments.positional
      guard !items.isEmpty, arguments.keywords.isEmpty else {
        throw .failed("no items for cycling given")
      }
      return items[loop.index0 % items.count]
    }
  case "changed":
    return method(name, of: .loop(loop)) { arguments throws(Fault) in
      .bool(try loop.changed(arguments.positional))
    }
  default: return nil
  }
}

/// The filter `attr`: Python's attributes only, never items.
func attributeOnly(of value: Value, named name: String) throws(Fault) -> Value {
  if let found = try pythonAttribute(of: value, named: name) { return found }
  return missing(value, attribute: name)
}
