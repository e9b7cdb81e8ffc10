// Arithmetic, joining, subscripts and slices.

import Glibc

func arithmetic(
  _ op: ArithmeticOperator, _ left: Value, _ right: Value
) throws(Fault) -> Value {
  if let a = left.integer, let b = right.integer { return try integerArithmetic(op, a, b) }
  if let a = try double(left), let b = try double(right) { return try floatArithmetic(op, a, b) }
  switch op {
  case .add:
    if let sum = try joined(left, right) { return sum }
  case .multiply:
    if let count = right.integer, let product = try repeated(left, count) { return product }
    if let count = left.integer, let product = try repeated(right, count) { return product }
    // Markup does not leave this to the other operand.
    if left.isMarkup {
      throw .failed("can't multiply sequence by non-int of type '\(right.typeName)'")
    }
  case .remainder:
    if let format = left.text {
      let result = try formattedByPercent(format, right, escaping: left.isMarkup)
      return left.isMarkup ? .markup(result) : .string(result)
    }
  default: break
  }
  // Only now: `'%s' % undefined` prints nothing and is no error.
  for case .undefined(let undefined) in [left, right] { throw undefined.fault }
  throw .failed(
    "unsupported operand types for \(op.rawValue): '\(left.typeName)' and '\(right.typeName)'")
}

extension Value {
  var isMarkup: Bool {
    if case .markup = self { return true }
    return false
  }
}

private func double(_ value: Value) throws(Fault) -> Double? {
  if case .float(let number) = value { return number }
  guard let integer = value.integer else { return nil }
  return try doubleValue(integer)
}

func doubleValue(_ integer: BigInteger) throws(Fault) -> Double {
  let number = integer.double
  guard number.isFinite else { throw .failed("int too large to convert to float") }
  return number
}

private func integerArithmetic(
  _ op: ArithmeticOperator, _ a: BigInteger, _ b: BigInteger
) throws(Fault) -> Value {
  switch op {
  case .add: return .integer(try checked(a + b))
  case .subtract: return .integer(try checked(a - b))
  case .multiply:
    guard a.bitWidth + b.bitWidth <= Limits.integerBits else {
      throw Fault(.tooLarge, "an integer of more than \(Limits.integerBits) bits")
    }
    return .integer(a * b)
  case .divide:
    guard !b.isZero else { throw .failed("division by zero") }
    return .float(try quotient(a, b))
  case .floorDivide:
    guard !b.isZero else { throw .failed("division by zero") }
    return .integer(a.dividedDown(by: b).quotient)
  case .remainder:
    guard !b.isZero else { throw .failed("division by zero") }
    return .integer(a.dividedDown(by: b).remainder)
  case .power:
    if b.isNegative {
      guard !a.isZero else { throw .failed("0.0 cannot be raised to a negative power") }
      return .float(pow(try doubleValue(a), try doubleValue(b)))
    }
    guard let exponent = b.int else {
      throw Fault(.tooLarge, "an integer of more than \(Limits.integerBits) bits")
    }
    return .integer(try a.power(exponent))
  }
}

private func checked(_ integer: BigInteger) throws(Fault) -> BigInteger {
  guard integer.int != nil || integer.bitWidth <= Limits.integerBits else {
    throw Fault(.tooLarge, "an integer of more than \(Limits.integerBits) bits")
  }
  return integer
}

/// `/` of integers, rounded once as Python does.
private func quotient(_ a: BigInteger, _ b: BigInteger) throws(Fault) -> Double {
  let exact = 1 << 53
  if let x = a.int, let y = b.int, x.magnitude <= exact, y.magnitude <= exact {
    return Double(x) / Double(y)
  }
  // A quotient of at least 66 bits, its lowest bit standing for all that is lost, rounds right.
  let isNegative = a.isNegative != b.isNegative
  let (x, y) = (a.isNegative ? a.negated : a, b.isNegative ? b.negated : b)
  let shift = max(0, 66 - (x.bitWidth - y.bitWidth))
  let (whole, rest) = x.shiftedLeft(shift).dividedDown(by: y)
  var scaled = whole.shiftedLeft(1)
  if !rest.isZero { scaled = scaled + .small(1) }
  let width = scaled.bitWidth
  guard width - shift <= 1_025 else {
    throw .failed("integer division result too large for a float")
  }
  // Halved until it fits a double's range by itself.
  let extra = max(0, width - 1_000)
  var top = scaled
  if extra > 0 {
    let (high, low) = scaled.dividedDown(by: BigInteger.small(1).shiftedLeft(extra))
    top =
      low.isZero || high.dividedDown(by: .small(2)).remainder == .small(1) ? high : high + .small(1)
  }
  let value = scalbn(top.double, Int32(clamping: extra - shift - 1))
  guard value.isFinite else { throw .failed("integer division result too large for a float") }
  return isNegative ? -value : value
}

private func floatArithmetic(
  _ op: ArithmeticOperator, _ a: Double, _ b: Double
) throws(Fault) -> Value {
  switch op {
  case .add: return .float(a + b)
  case .subtract: return .float(a - b)
  case .multiply: return .float(a * b)
  case .divide:
    guard b != 0 else { throw .failed("float division by zero") }
    return .float(a / b)
  case .floorDivide:
    guard b != 0 else { throw .failed("float floor division by zero") }
    return .float(floatDivision(a, b).quotient)
  case .remainder:
    guard b != 0 else { throw .failed("float modulo by zero") }
    return .float(floatDivision(a, b).remainder)
  case .power:
    if a == 0, b < 0 { throw .failed("0.0 cannot be raised to a negative power") }
    let value = pow(a, b)
    if value.isNaN, !a.isNaN, !b.isNaN { throw .failed("complex numbers are not supported") }
    if value.isInfinite, a.isFinite, b.isFinite { throw .failed("numerical result out of range") }
    return .float(value)
  }
}

/// `+` of strings and of lists; nil where the types do not join.
private func joined(_ left: Value, _ right: Value) throws(Fault) -> Value? {
  if let a = left.text, let b = right.text {
    try checkText(a.utf8.count + b.utf8.count)
    switch (left.isMarkup, right.isMarkup) {
    case (false, false): return .string(a + b)
    case (true, true): return .markup(a + b)
    case (true, false): return .markup(a + htmlEscaped(b))
    case (false, true): return .markup(htmlEscaped(a) + b)
    }
  }
  switch (left, right) {
  case (.list(let a), .list(let b)):
    try checkLength(a.count + b.count)
    return .list(Elements(a.values + b.values))
  case (.tuple(let a), .tuple(let b)):
    try checkLength(a.count + b.count)
    return .tuple(Elements(a.values + b.values))
  default: return nil
  }
}

private func repeated(_ value: Value, _ count: BigInteger) throws(Fault) -> Value? {
  guard let exact = count.int else {
    if value.text == nil, value.elements == nil { return nil }
    throw .failed("cannot fit 'int' into an index-sized integer")
  }
  let times = max(0, exact)
  func check(_ size: Int, _ limit: Int) throws(Fault) {
    guard size == 0 || times <= limit / size else {
      throw Fault(.tooLarge, "a repetition beyond \(limit) elements")
    }
  }
  switch value {
  case .string(let text), .markup(let text):
    try check(text.utf8.count, Limits.textBytes)
    let result = text.utf8.isEmpty ? "" : String(repeating: text, count: times)
    return value.isMarkup ? .markup(result) : .string(result)
  case .list(let elements), .tuple(let elements):
    try check(elements.count, Limits.listLength)
    var result: [Value] = []
    if !elements.isEmpty { for _ in 0..<times { result += elements } }
    if case .list = value { return .list(Elements(result)) }
    return .tuple(Elements(result))
  default: return nil
  }
}

func negated(_ value: Value) throws(Fault) -> Value {
  if case .float(let number) = value { return .float(-number) }
  if let integer = value.integer { return .integer(integer.negated) }
  if case .undefined(let undefined) = value { throw undefined.fault }
  throw .failed("bad operand type for unary -: '\(value.typeName)'")
}

func positive(_ value: Value) throws(Fault) -> Value {
  if case .float = value { return value }
  if let integer = value.integer { return .integer(integer) }
  if case .undefined(let undefined) = value { throw undefined.fault }
  throw .failed("bad operand type for unary +: '\(value.typeName)'")
}

// MARK: Subscripts

/// `value[key]` in Python's sense; nil for the errors that Jinja turns into undefined.
func item(_ value: Value, _ key: Value) throws(Fault) -> Value? {
  switch value {
  case .dict(let mapping):
    guard (try? requireHashable(key)) != nil else { return nil }
    return try mapping.get(key)
  case .list(let elements), .tuple(let elements):
    guard let index = index(key, count: elements.count) else { return nil }
    return elements[index]
  case .string(let text), .markup(let text):
    let scalars = text.unicodeScalars
    guard let index = index(key, count: scalars.count) else { return nil }
    let character = String(scalars[scalars.index(scalars.startIndex, offsetBy: index)])
    return value.isMarkup ? .markup(character) : .string(character)
  case .range(let range):
    guard let index = index(key, count: range.count) else { return nil }
    return .int(range[index])
  case .undefined(let undefined): throw undefined.fault
  default: return nil
  }
}

private func index(_ key: Value, count: Int) -> Int? {
  guard let position = key.integer?.int else { return nil }
  let index = position < 0 ? position + count : position
  return (0..<count).contains(index) ? index : nil
}

/// `value[start:stop:step]`
func sliced(
  _ value: Value, start: Value, stop: Value, step: Value
) throws(Fault) -> Value {
  func bound(_ value: Value) throws(Fault) -> Int? {
    if value.isNone { return nil }
    guard let integer = value.integer else {
      throw .failed("slice indices must be integers or None")
    }
    return integer.int ?? (integer.isNegative ? Int.min : Int.max)
  }
  func positions(_ count: Int) throws(Fault) -> PythonRange {
    let step = max(try bound(step) ?? 1, -Int.max)
    guard step != 0 else { throw .failed("slice step cannot be zero") }
    func clamp(_ position: Int?, _ fallback: Int) -> Int {
      guard let position else { return fallback }
      let absolute = position < 0 ? position.addingReportingOverflow(count).partialValue : position
      return step > 0 ? min(max(absolute, 0), count) : min(max(absolute, -1), count - 1)
    }
    let start = clamp(try bound(start), step > 0 ? 0 : count - 1)
    let stop = clamp(try bound(stop), step > 0 ? count : -1)
    return PythonRange(start: start, stop: stop, step: step)
  }
  switch value {
  case .string(let text), .markup(let text):
    let result = slicedText(text, try positions(text.unicodeScalars.count))
    return value.isMarkup ? .markup(result) : .string(result)
  case .list(let elements), .tuple(let elements):
    let positions = try positions(elements.count)
    let result = (0..<positions.count).map { elements[positions[$0]] }
    if case .list = value { return .list(Elements(result)) }
    return .tuple(Elements(result))
  case .range(let range):
    let positions = try positions(range.count)
    let (step, overflow) = range.step.multipliedReportingOverflow(by: positions.step)
    let ends = [positions.start, positions.stop].map { position in
      let (distance, overflow) = position.multipliedReportingOverflow(by: range.step)
      let (end, beyond) = range.start.addingReportingOverflow(distance)
      return overflow || beyond ? nil : end
    }
    guard !overflow, let start = ends[0], let stop = ends[1] else {
      throw Fault(.tooLarge, "a range of numbers beyond 64 bits")
    }
    return .range(PythonRange(start: start, stop: stop, step: step))
  case .undefined(let undefined): throw undefined.fault
  case .dict: throw .failed("unhashable type: 'slice'")
  default: throw .failed("'\(value.typeName)' object is not subscriptable")
  }
}

private func slicedText(_ text: String, _ positions: PythonRange) -> String {
  guard positions.count > 0 else { return "" }
  let view = text.unicodeScalars
  if positions.step == 1 {
    let start = view.index(view.startIndex, offsetBy: positions.start)
    return String(view[start..<view.index(start, offsetBy: positions.count)])
  }
  let scalars = Scalars(view)
  return String((0..<positions.count).map { scalars[positions[$0]] })
}
