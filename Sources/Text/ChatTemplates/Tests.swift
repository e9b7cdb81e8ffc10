// The tests behind `is`.

enum Test: String {
  case odd, even, divisibleby, defined, undefined, filter, test, none, boolean, `false`, `true`
  case integer, float, lower, upper, string, mapping, number, sequence, iterable, callable, sameas
  case escaped, `in`, eq, equalto, ne, gt, greaterthan, ge, lt, lessthan, le
  case equalSign = "=="
  case notEqualSign = "!="
  case greaterSign = ">"
  case greaterOrEqualSign = ">="
  case lessSign = "<"
  case lessOrEqualSign = "<="

  fileprivate var comparison: ComparisonOperator? {
    switch self {
    case .eq, .equalto, .equalSign: .equal
    case .ne, .notEqualSign: .notEqual
    case .gt, .greaterthan, .greaterSign: .greater
    case .ge, .greaterOrEqualSign: .greaterOrEqual
    case .lt, .lessthan, .lessSign: .less
    case .le, .lessOrEqualSign: .lessOrEqual
    case .in: .isIn
    default: nil
    }
  }

  /// Whether it may look at all that a value holds.
  fileprivate var looksInside: Bool {
    comparison != nil || self == .sameas || self == .lower || self == .upper
  }
}

extension Interpreter {
  func passes(
    _ test: Test, _ value: Value, _ arguments: CallArguments
  ) throws(Fault) -> Bool {
    if test.looksInside {
      for value in [value] + arguments.values { try countWork(value.weight) }
    }
    return try holds(test, value, arguments)
  }
}

private func holds(
  _ test: Test, _ value: Value, _ arguments: CallArguments
) throws(Fault) -> Bool {
  if let comparison = test.comparison {
    let bound = try arguments.bound(to: ["other"], required: 1, of: test.rawValue)
    return try compare(comparison, value, bound[0]!)
  }
  switch test {
  case .divisibleby:
    let bound = try arguments.bound(to: ["num"], required: 1, of: test.rawValue)
    return try isEqual(try arithmetic(.remainder, value, bound[0]!), .int(0))
  case .sameas:
    let bound = try arguments.bound(to: ["other"], required: 1, of: test.rawValue)
    return try isSame(value, bound[0]!)
  default:
    _ = try arguments.bound(to: [], of: test.rawValue)
    return try holds(test, value)
  }
}

private func holds(_ test: Test, _ value: Value) throws(Fault) -> Bool {
  switch test {
  case .odd: return try isEqual(try arithmetic(.remainder, value, .int(2)), .int(1))
  case .even: return try isEqual(try arithmetic(.remainder, value, .int(2)), .int(0))
  case .defined: return !value.isUndefined
  case .undefined: return value.isUndefined
  case .none: return value.isNone
  case .filter: return value.text.flatMap { Filter(rawValue: $0) } != nil
  case .test: return value.text.flatMap { Test(rawValue: $0) } != nil
  case .lower: return isPythonLower(try value.str())
  case .upper: return isPythonUpper(try value.str())
  case .string: return value.text != nil
  case .escaped: return value.isMarkup
  case .sequence: return isSequence(value)
  case .iterable: return isIterable(value)
  case .callable: return isCallable(value)
  default: break
  }
  switch (test, value) {
  case (.boolean, .bool), (.false, .bool(false)), (.true, .bool(true)), (.integer, .integer),
    (.float, .float), (.mapping, .dict), (.number, .bool), (.number, .integer), (.number, .float):
    return true
  default: return false
  }
}

private func isSequence(_ value: Value) -> Bool {
  switch value {
  // An undefined value has a length and can be subscripted, if only to fail.
  case .undefined, .string, .markup, .list, .tuple, .dict, .range: true
  default: false
  }
}

private func isIterable(_ value: Value) -> Bool {
  switch value {
  case .none, .bool, .integer, .float, .namespace, .function, .macro, .cycler: false
  default: true
  }
}

private func isCallable(_ value: Value) -> Bool {
  switch value {
  case .undefined, .function, .macro, .loop: true
  default: false
  }
}

/// Python's `is`, with equality for values whose identity is a matter of Python's caches.
private func isSame(_ left: Value, _ right: Value) throws(Fault) -> Bool {
  switch (left, right) {
  case (.dict(let a), .dict(let b)): a === b
  case (.undefined(let a), .undefined(let b)): a === b
  case (.bool, .integer), (.integer, .bool), (.integer, .float), (.float, .integer),
    (.bool, .float), (.float, .bool), (.string, .markup), (.markup, .string):
    false
  default: try isEqual(left, right)
  }
}
