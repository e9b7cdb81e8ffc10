// Python's equality, hashing and order.

/// A value that can be a key, with Python's equality: 1, 1.0 and true are the same key.
struct HashedKey: Hashable {
  let value: Value

  static func == (left: HashedKey, right: HashedKey) -> Bool {
    // Keys are strings, numbers and tuples of them; only depth could fail.
    (try? isEqual(left.value, right.value)) ?? false
  }

  func hash(into hasher: inout Hasher) {
    switch value {
    case .string(let text), .markup(let text): text.hash(into: &hasher)
    case .bool(let flag): (flag ? 1.0 : 0.0).hash(into: &hasher)
    case .integer(let integer): integer.double.hash(into: &hasher)
    case .float(let number): number.hash(into: &hasher)
    case .tuple(let elements):
      hasher.combine(elements.count)
      // Not into tuples in the tuple: that could go on for long.
      if let first = elements.first, first.elements == nil {
        HashedKey(value: first).hash(into: &hasher)
      }
    default: break
    }
  }
}

func requireHashable(_ value: Value) throws(Fault) {
  var effort = Effort()
  try requireHashable(value, &effort)
}

/// Bounds what walks values inside values: a list that holds the same list twice, that one again,
/// and so on, is small to make and endless to walk.
private struct Effort {
  private var left = Limits.steps
  private var depth = 0

  mutating func nested<R>(_ body: (inout Effort) throws(Fault) -> R) throws(Fault) -> R {
    left -= 1
    guard depth < Limits.valueDepth, left > 0 else {
      throw Fault(.tooLarge, "values nested too deep")
    }
    depth += 1
    defer { depth -= 1 }
    return try body(&self)
  }
}

private func requireHashable(_ value: Value, _ effort: inout Effort) throws(Fault) {
  switch value {
  case .list, .dict: throw .failed("unhashable type: '\(value.typeName)'")
  case .view(let view) where view.part != .values:
    throw .failed("unhashable type: '\(value.typeName)'")
  case .tuple(let elements):
    try effort.nested { effort throws(Fault) in
      for element in elements { try requireHashable(element, &effort) }
    }
  default: break
  }
}

func isEqual(_ left: Value, _ right: Value) throws(Fault) -> Bool {
  var effort = Effort()
  return try isEqual(left, right, &effort)
}

private func isEqual(
  _ left: Value, _ right: Value, _ effort: inout Effort
) throws(Fault) -> Bool {
  switch (left, right) {
  case (.string(let a), .string(let b)), (.string(let a), .markup(let b)),
    (.markup(let a), .string(let b)), (.markup(let a), .markup(let b)):
    return sameText(a, b)
  case (.undefined, .undefined), (.none, .none): return true
  case (.list(let a), .list(let b)), (.tuple(let a), .tuple(let b)):
    guard a.count == b.count else { return false }
    return try effort.nested { effort throws(Fault) in
      for (x, y) in zip(a, b) where try !isEqual(x, y, &effort) { return false }
      return true
    }
  case (.dict(let a), .dict(let b)):
    if a === b { return true }
    guard a.count == b.count else { return false }
    return try effort.nested { effort throws(Fault) in
      for (key, value) in zip(a.keys, a.values) {
        guard let other = try b.get(key), try isEqual(value, other, &effort) else { return false }
      }
      return true
    }
  case (.range(let a), .range(let b)):
    guard a.count == b.count else { return false }
    return a.count == 0 || (a.start == b.start && (a.count == 1 || a.step == b.step))
  case (.namespace(let a), .namespace(let b)): return a === b
  case (.function(let a), .function(let b)): return a === b
  case (.macro(let a), .macro(let b)): return a === b
  case (.loop(let a), .loop(let b)): return a === b
  case (.cycler(let a), .cycler(let b)): return a === b
  case (.iterator(let a), .iterator(let b)): return a === b
  case (.view(let a), .view(let b)):
    guard a.part == b.part, a.part != .values else { return false }
    guard a.mapping.count == b.mapping.count else { return false }
    for index in 0..<a.mapping.count where try !contains(b, a.element(index)) { return false }
    return true
  default:
    return numericOrder(left, right) == .equal
  }
}

/// `in` for the views of a dict.
func contains(_ view: MappingView, _ value: Value) throws(Fault) -> Bool {
  switch view.part {
  case .keys: return try view.mapping.get(value) != nil
  case .items:
    guard case .tuple(let pair) = value, pair.count == 2,
      let other = try view.mapping.get(pair[0])
    else { return false }
    return try isEqual(other, pair[1])
  case .values:
    for other in view.mapping.values where try isEqual(other, value) { return true }
    return false
  }
}

enum Order {
  case less, equal, greater, unordered

  var flipped: Order {
    switch self {
    case .less: .greater
    case .greater: .less
    case .equal, .unordered: self
    }
  }
}

/// Exact also between an integer and a float too large for each other; nil for non-numbers.
func numericOrder(_ left: Value, _ right: Value) -> Order? {
  if let a = left.integer, let b = right.integer {
    return a < b ? .less : a == b ? .equal : .greater
  }
  if case .float(let a) = left, case .float(let b) = right {
    return a < b ? .less : a == b ? .equal : a > b ? .greater : .unordered
  }
  if let a = left.integer, case .float(let b) = right { return order(a, b) }
  if case .float(let a) = left, let b = right.integer { return order(b, a).flipped }
  return nil
}

private func order(_ integer: BigInteger, _ number: Double) -> Order {
  if number.isNaN { return .unordered }
  guard let whole = BigInteger(truncating: number) else { return number > 0 ? .less : .greater }
  if integer != whole { return integer < whole ? .less : .greater }
  let fraction = number - number.rounded(.towardZero)
  return fraction > 0 ? .less : fraction < 0 ? .greater : .equal
}

func compare(
  _ comparison: ComparisonOperator, _ left: Value, _ right: Value
) throws(Fault) -> Bool {
  switch comparison {
  case .equal: return try isEqual(left, right)
  case .notEqual: return try !isEqual(left, right)
  case .isIn: return try isMember(left, of: right)
  case .notIn: return try !isMember(left, of: right)
  case .less, .lessOrEqual, .greater, .greaterOrEqual: break
  }
  if case .view(let a) = left, case .view(let b) = right, a.part != .values, b.part != .values {
    return try compareSets(comparison, a, b)
  }
  let order = try order(left, right, sign: comparison.rawValue)
  return switch comparison {
  case .less: order == .less
  case .lessOrEqual: order == .less || order == .equal
  case .greater: order == .greater
  default: order == .greater || order == .equal
  }
}

/// Python's `<` for sorting and comparing; an error where the types have no order.
func order(_ left: Value, _ right: Value, sign: String = "<") throws(Fault) -> Order {
  var effort = Effort()
  return try order(left, right, sign: sign, &effort)
}

private func order(
  _ left: Value, _ right: Value, sign: String, _ effort: inout Effort
) throws(Fault) -> Order {
  if let order = numericOrder(left, right) { return order }
  if let a = left.text, let b = right.text {
    return sameText(a, b) ? .equal : textPrecedes(a, b) ? .less : .greater
  }
  switch (left, right) {
  case (.list(let a), .list(let b)), (.tuple(let a), .tuple(let b)):
    for (x, y) in zip(a, b) where try !isEqual(x, y, &effort) {
      return try effort.nested { effort throws(Fault) in try order(x, y, sign: sign, &effort) }
    }
    return a.count < b.count ? .less : a.count == b.count ? .equal : .greater
  case (.undefined(let undefined), _), (_, .undefined(let undefined)):
    throw undefined.fault
  default:
    throw .failed(
      "'\(sign)' is not supported between '\(left.typeName)' and '\(right.typeName)'")
  }
}

private func compareSets(
  _ comparison: ComparisonOperator, _ left: MappingView, _ right: MappingView
) throws(Fault) -> Bool {
  func isSubset(_ a: MappingView, _ b: MappingView) throws(Fault) -> Bool {
    for index in 0..<a.mapping.count where try !contains(b, a.element(index)) { return false }
    return true
  }
  let (a, b) = (left.mapping.count, right.mapping.count)
  switch comparison {
  case .less: return a < b ? try isSubset(left, right) : false
  case .lessOrEqual: return a <= b ? try isSubset(left, right) : false
  case .greater: return a > b ? try isSubset(right, left) : false
  default: return a >= b ? try isSubset(right, left) : false
  }
}

/// Python's `in`.
func isMember(_ value: Value, of container: Value) throws(Fault) -> Bool {
  switch container {
  case .string(let text), .markup(let text):
    guard let part = value.text else {
      if case .undefined(let undefined) = value, undefined.isRefused { throw undefined.fault }
      throw .failed("'in <string>' requires string as left operand, not \(value.typeName)")
    }
    return contains(text, part)
  case .dict(let mapping): return try mapping.get(value) != nil
  case .view(let view): return try contains(view, value)
  case .range(let range): return range.index(of: value) != nil
  default:
    guard let iterator = try iterator(over: container) else {
      throw .failed("argument of type '\(container.typeName)' is not iterable")
    }
    while let element = try iterator.next() {
      if try isEqual(element, value) { return true }
    }
    return false
  }
}

/// Python's stable sort by `<`.
func sorted(_ elements: [Value], keys: [Value], descending: Bool) throws(Fault) -> [Value] {
  // Merge sort by hand: a comparison may throw. Descending keeps equal elements in order too.
  var indices = Array(elements.indices)
  var width = 1
  while width < indices.count {
    var merged: [Int] = []
    merged.reserveCapacity(indices.count)
    var start = 0
    while start < indices.count {
      let middle = min(start + width, indices.count)
      let end = min(start + 2 * width, indices.count)
      var (left, right) = (start, middle)
      while left < middle, right < end {
        let (a, b) = (keys[indices[left]], keys[indices[right]])
        let takesRight = try descending ? order(a, b) == .less : order(b, a) == .less
        merged.append(indices[takesRight ? right : left])
        if takesRight { right += 1 } else { left += 1 }
      }
      merged += indices[left..<middle] + indices[right..<end]
      start = end
    }
    indices = merged
    width *= 2
  }
  return indices.map { elements[$0] }
}
