// Walking over values: what `for`, filters and unpacking share.

/// Python's `iter`; nil for what cannot be walked.
func iterator(over value: Value) throws(Fault) -> ValueIterator? {
  switch value {
  case .undefined: return ValueIterator([])
  case .list(let elements), .tuple(let elements): return ValueIterator(elements.values)
  case .iterator(let iterator): return iterator
  case .string(let text):
    return ValueIterator(text.unicodeScalars.map { .string(String($0)) })
  case .markup(let text):
    // Iterating goes past Markup's own methods: plain strings.
    return ValueIterator(text.unicodeScalars.map { .string(String($0)) })
  case .dict(let mapping): return ValueIterator(mapping.keys)
  case .range(let range):
    var index = 0
    return ValueIterator { () throws(Fault) -> Value? in
      guard index < range.count else { return nil }
      defer { index += 1 }
      return .int(range[index])
    }
  case .view(let view):
    var index = 0
    return ValueIterator { () throws(Fault) -> Value? in
      guard index < view.mapping.count else { return nil }
      defer { index += 1 }
      return view.element(index)
    }
  case .loop(let loop):
    return ValueIterator { () throws(Fault) -> Value? in
      guard let value = try loop.advance() else { return nil }
      return .tuple([value, .loop(loop)])
    }
  case .none, .bool, .integer, .float, .namespace, .function, .macro, .cycler: return nil
  }
}

func requireIterator(over value: Value) throws(Fault) -> ValueIterator {
  guard let iterator = try iterator(over: value) else {
    throw .failed("'\(value.typeName)' object is not iterable")
  }
  return iterator
}

/// Python's `list(value)`.
func elements(of value: Value) throws(Fault) -> [Value] {
  if let elements = value.elements { return elements }
  let iterator = try requireIterator(over: value)
  var result: [Value] = []
  while let element = try iterator.next() {
    result.append(element)
    try checkLength(result.count)
  }
  return result
}

func checkLength(_ count: Int) throws(Fault) {
  guard count <= Limits.listLength else {
    throw Fault(.tooLarge, "a list of more than \(Limits.listLength) elements")
  }
}

/// Exactly `count` values, for `a, b = value`.
func unpacked(_ value: Value, count: Int) throws(Fault) -> [Value] {
  guard let iterator = try iterator(over: value) else {
    throw .failed("cannot unpack non-iterable \(value.typeName) object")
  }
  var result: [Value] = []
  while let element = try iterator.next() {
    guard result.count < count else {
      throw .failed("too many values to unpack (expected \(count))")
    }
    result.append(element)
  }
  guard result.count == count else {
    throw .failed("not enough values to unpack (expected \(count), got \(result.count))")
  }
  return result
}

/// The pairs of `dict(value)`: a dict's own, or those of a list of pairs.
func mapping(from arguments: CallArguments, of function: String) throws(Fault) -> Mapping {
  guard arguments.positional.count <= 1 else {
    throw .failed("`\(function)` takes at most 1 argument (\(arguments.positional.count) given)")
  }
  let result = Mapping()
  if let source = arguments.positional.first {
    switch source {
    case .dict(let mapping):
      for (key, value) in zip(mapping.keys, mapping.values) { result.append(key, value) }
    case .undefined: break
    default:
      for pair in try elements(of: source) {
        let pair = try unpacked(pair, count: 2)
        try result.set(pair[0], pair[1])
      }
    }
  }
  for (name, value) in arguments.keywords { try result.set(.string(name), value) }
  return result
}

/// `loop` in the body of a `for`: looks one value ahead where the template asks.
final class LoopState {
  private var iterator: (() throws(Fault) -> Value?)?
  private var known: Int?
  private var ahead: Value?
  private var drained: [Value]?
  private var drainedIndex = 0
  private var lastChanged: [Value]?
  let depth0: Int
  private(set) var index0 = -1
  private(set) var current: Value?
  private(set) var previous: Value?
  /// Renders the body for `loop(…)` of a recursive loop.
  var recurse: ((Value) throws(Fault) -> Value)?

  /// - Parameter count: nil where only walking tells it.
  init(_ iterator: ValueIterator, count: Int?, depth0: Int) {
    self.iterator = { () throws(Fault) -> Value? in try iterator.next() }
    known = count
    self.depth0 = depth0
  }

  func advance() throws(Fault) -> Value? {
    let value: Value?
    if let ahead {
      value = ahead
      self.ahead = nil
    } else {
      value = try pull()
    }
    guard let value else { return nil }
    index0 += 1
    previous = current
    current = value
    return value
  }

  func next() throws(Fault) -> Value? {
    if ahead == nil { ahead = try pull() }
    return ahead
  }

  func length() throws(Fault) -> Int {
    if let known { return known }
    var rest: [Value] = []
    while let value = try pull() { rest.append(value) }
    drained = rest
    drainedIndex = 0
    let count = rest.count + index0 + 1 + (ahead == nil ? 0 : 1)
    known = count
    return count
  }

  func changed(_ values: [Value]) throws(Fault) -> Bool {
    if let lastChanged, try isEqual(.tuple(Elements(lastChanged)), .tuple(Elements(values))) {
      return false
    }
    lastChanged = values
    return true
  }

  /// Lets go of all that the loop holds. A template may keep `loop` where the next loop finds it, and that one's where
  /// the third does: releasing a long chain of them would take all of the stack.
  func end() {
    iterator = nil
    recurse = nil
    ahead = nil
    drained = nil
    lastChanged = nil
    current = nil
    previous = nil
  }

  private func pull() throws(Fault) -> Value? {
    guard let drained else {
      guard let iterator else { return nil }
      return try iterator()
    }
    guard drainedIndex < drained.count else { return nil }
    defer { drainedIndex += 1 }
    return drained[drainedIndex]
  }
}
