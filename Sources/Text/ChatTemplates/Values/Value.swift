// What a template computes with: Python's values, as far as chat templates meet them.

import JSON

enum Value {
  case undefined(Undefined)
  case none
  case bool(Bool)
  case integer(BigInteger)
  case float(Double)
  case string(String)
  /// A string marked `safe`; what is joined to it with `+` gets escaped.
  case markup(String)
  case list(Elements)
  case tuple(Elements)
  case dict(Mapping)
  case range(PythonRange)
  case view(MappingView)
  case iterator(ValueIterator)
  case namespace(Namespace)
  case function(Function)
  case macro(MacroFunction)
  case loop(LoopState)
  case cycler(Cycler)

  static func int(_ value: Int) -> Value { .integer(.small(value)) }

  /// The text of a plain or a safe string.
  var text: String? {
    switch self {
    case .string(let text), .markup(let text): text
    default: nil
    }
  }

  var isUndefined: Bool {
    if case .undefined = self { return true }
    return false
  }

  var isNone: Bool {
    if case .none = self { return true }
    return false
  }

  /// As a number of Python's tower, where a boolean counts as 0 or 1.
  var integer: BigInteger? {
    switch self {
    case .bool(let value): .small(value ? 1 : 0)
    case .integer(let value): value
    default: nil
    }
  }

  var elements: [Value]? {
    switch self {
    case .list(let elements), .tuple(let elements): elements.values
    default: nil
    }
  }

  /// How many values hold this one's innermost: bounded where variables are set, for releasing a
  /// chain of values takes stack as walking it does.
  var depth: Int {
    switch self {
    case .list(let elements), .tuple(let elements): elements.depth
    case .dict(let mapping): mapping.depth
    case .view(let view): view.mapping.depth + 1
    case .iterator(let iterator): iterator.depth
    case .function(let function): function.depth
    case .cycler(let cycler): cycler.items.depth
    // Namespaces and macros are taken apart by the interpreter, and a loop when it ends.
    case .undefined, .none, .bool, .integer, .float, .string, .markup, .range, .namespace, .macro,
      .loop:
      0
    }
  }

  /// About the bytes of all that the value holds, counted as often as it holds them.
  var weight: Int {
    switch self {
    case .string(let text), .markup(let text): heavier(text.utf8.count, Self.size)
    case .list(let elements), .tuple(let elements): heavier(elements.weight, Self.size)
    case .dict(let mapping): heavier(mapping.weight, Self.size)
    case .view(let view): heavier(view.mapping.weight, Self.size)
    // As the list of its numbers: walking both takes as long.
    case .range(let range): heavier(range.count * Self.size, Self.size)
    default: Self.size
    }
  }

  /// What an operation on the value may look at: not inside of its values.
  var width: Int {
    switch self {
    case .string(let text), .markup(let text): text.utf8.count
    case .list(let elements), .tuple(let elements): elements.count * Self.size
    case .dict(let mapping): mapping.count * Self.size
    case .view(let view): view.mapping.count * Self.size
    case .range(let range): range.count * Self.size
    // Division takes as long as both numbers multiplied.
    case .integer(let integer) where integer.int == nil:
      (integer.bitWidth / 32) * (integer.bitWidth / 32)
    default: 1
    }
  }

  private static let size = 16

  /// Python's name of the type, for messages.
  var typeName: String {
    switch self {
    case .undefined: "Undefined"
    case .none: "NoneType"
    case .bool: "bool"
    case .integer: "int"
    case .float: "float"
    case .string: "str"
    case .markup: "Markup"
    case .list: "list"
    case .tuple: "tuple"
    case .dict: "dict"
    case .range: "range"
    case .view(let view): "dict_\(view.part.rawValue)"
    case .iterator: "generator"
    case .namespace: "Namespace"
    case .function(let function): function.isType ? "type" : "function"
    case .macro: "Macro"
    case .loop: "LoopContext"
    case .cycler: "Cycler"
    }
  }

  func isTrue() throws(Fault) -> Bool {
    switch self {
    case .undefined, .none: false
    case .bool(let value): value
    case .integer(let value): !value.isZero
    case .float(let value): value != 0
    case .string(let text), .markup(let text): !text.utf8.isEmpty
    case .list(let elements), .tuple(let elements): !elements.isEmpty
    case .dict(let mapping): mapping.count > 0
    case .range(let range): range.count > 0
    case .view(let view): view.mapping.count > 0
    case .loop(let loop): try loop.length() > 0
    case .iterator, .namespace, .function, .macro, .cycler: true
    }
  }

  /// Python's `len`; nil for what has none.
  func length() throws(Fault) -> Int? {
    switch self {
    case .undefined: 0
    case .string(let text), .markup(let text): text.unicodeScalars.count
    case .list(let elements), .tuple(let elements): elements.count
    case .dict(let mapping): mapping.count
    case .range(let range): range.count
    case .view(let view): view.mapping.count
    case .loop(let loop): try loop.length()
    case .none, .bool, .integer, .float, .iterator, .namespace, .function, .macro, .cycler: nil
    }
  }
}

extension Value {
  init(_ json: JSONValue) {
    switch json {
    case .null: self = .none
    case .bool(let value): self = .bool(value)
    case .number(let number): self = Value(number)
    case .string(let text): self = .string(text)
    case .array(let elements): self = .list(Elements(elements.map { Value($0) }))
    case .object(let object):
      let mapping = Mapping(capacity: object.count)
      for (key, value) in object.entries { mapping.append(.string(key), Value(value)) }
      self = .dict(mapping)
    }
  }

  /// `1` is an integer, `1.0` and `1e3` are floats, as Python's json module reads them.
  private init(_ number: JSONNumber) {
    if let value = number.int {
      self = .integer(.small(value))
      return
    }
    let literal = number.literal
    if literal.utf8.contains(where: { ".eE".utf8.contains($0) }) {
      self = .float(
        number.double ?? (literal.utf8.first == UInt8(ascii: "-") ? -.infinity : .infinity))
      return
    }
    let isNegative = literal.utf8.first == UInt8(ascii: "-")
    let digits = literal.unicodeScalars.dropFirst(isNegative ? 1 : 0)
    if literal.utf8.count <= 4_300,
      let value = BigInteger(digits: digits, radix: 10, negative: isNegative)
    {
      self = .integer(value)
    } else {
      self = .float(isNegative ? -.infinity : .infinity)
    }
  }
}

/// The sum, which stays where it is at the end of what `Int` holds.
func heavier(_ a: Int, _ b: Int) -> Int {
  let (sum, overflow) = a.addingReportingOverflow(b)
  return overflow ? .max : sum
}

/// The values of a list or tuple.
struct Elements: RandomAccessCollection, ExpressibleByArrayLiteral {
  let values: [Value]
  let depth: Int
  let weight: Int

  init(_ values: [Value]) {
    self.values = values
    depth = 1 + values.reduce(0) { Swift.max($0, $1.depth) }
    weight = values.reduce(0) { heavier($0, $1.weight) }
  }

  init(arrayLiteral elements: Value...) { self.init(elements) }

  var startIndex: Int { 0 }
  var endIndex: Int { values.count }
  subscript(index: Int) -> Value { values[index] }
}

/// What a name or attribute that does not exist evaluates to, with the message its use gives.
final class Undefined {
  let message: () -> String
  /// Private attributes and methods that change their object: using them is refused.
  let isRefused: Bool

  init(isRefused: Bool = false, _ message: @autoclosure @escaping () -> String) {
    self.message = message
    self.isRefused = isRefused
  }

  static func name(_ name: String) -> Value {
    .undefined(Undefined("\(quoted(name)) is undefined"))
  }

  var fault: Fault { Fault(isRefused ? .refused : .undefined, message()) }
}

struct PythonRange: Equatable {
  let start: Int
  let stop: Int
  /// Not zero.
  let step: Int

  var count: Int {
    if step > 0 ? start >= stop : start <= stop { return 0 }
    let distance = step > 0 ? UInt(bitPattern: stop &- start) : UInt(bitPattern: start &- stop)
    return Int(clamping: (distance - 1) / step.magnitude + 1)
  }

  /// - Parameter index: within `count`.
  subscript(index: Int) -> Int { start &+ index &* step }

  /// Where the value stands; whole floats and booleans count as the integers that they equal.
  func index(of value: Value) -> Int? {
    var integer = value.integer
    if case .float(let float) = value, float == float.rounded() {
      integer = BigInteger(truncating: float)
    }
    guard let number = integer?.int else { return nil }
    let isInside = step > 0 ? start <= number && number < stop : stop < number && number <= start
    let distance = UInt(bitPattern: step > 0 ? number &- start : start &- number)
    guard isInside, distance.isMultiple(of: step.magnitude) else { return nil }
    return Int(distance / step.magnitude)
  }
}

/// A generator: gives each value once.
final class ValueIterator {
  private let body: () throws(Fault) -> Value?
  private var isFinished = false
  let depth: Int

  /// - Parameter held: all that the body holds: what the values come from, and what is done to them.
  init(of held: [Value] = [], _ body: @escaping () throws(Fault) -> Value?) {
    self.body = body
    depth = 1 + held.reduce(0) { max($0, $1.depth) }
  }

  convenience init(_ elements: [Value]) {
    var index = 0
    self.init(of: elements) { () throws(Fault) -> Value? in
      guard index < elements.count else { return nil }
      defer { index += 1 }
      return elements[index]
    }
  }

  func next() throws(Fault) -> Value? {
    if isFinished { return nil }
    do {
      let value = try body()
      if value == nil { isFinished = true }
      return value
    } catch {
      isFinished = true
      throw error
    }
  }
}

/// `namespace()`: the one thing a template can change.
final class Namespace {
  var attributes = Mapping()

  func set(_ name: String, _ value: Value) throws(Fault) {
    try attributes.set(.string(name), value)
  }
}

/// `cycler(…)`
final class Cycler {
  let items: Elements
  var position = 0

  init(_ items: [Value]) {
    self.items = Elements(items)
  }

  var current: Value { items[position] }

  func next() -> Value {
    defer { position = (position + 1) % items.count }
    return current
  }
}
