// An ordered JSON value; objects keep key order, numbers keep their spelling.

package enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  case number(JSONNumber)
  case string(String)
  case array([JSONValue])
  case object(JSONObject)

  /// What the value is, for error messages.
  package var kind: String {
    switch self {
    case .null: "null"
    case .bool: "boolean"
    case .number: "number"
    case .string: "string"
    case .array: "array"
    case .object: "object"
    }
  }

  package var bool: Bool? {
    guard case .bool(let value) = self else { return nil }
    return value
  }

  /// The value of an integer literal; `5.0` and `1e3` are not integers here.
  package var int: Int? {
    guard case .number(let value) = self else { return nil }
    return value.int
  }

  package var double: Double? {
    guard case .number(let value) = self else { return nil }
    return value.double
  }

  package var string: String? {
    guard case .string(let value) = self else { return nil }
    return value
  }

  package var array: [JSONValue]? {
    guard case .array(let value) = self else { return nil }
    return value
  }

  package var object: JSONObject? {
    guard case .object(let value) = self else { return nil }
    return value
  }
}

extension JSONValue {
  /// About how many bytes of memory the value takes.
  package var footprint: Int {
    let own = MemoryLayout<JSONValue>.stride
    return switch self {
    case .null, .bool, .number: own
    case .string(let text): own + text.utf8.count
    case .array(let elements): elements.reduce(own + 32) { $0 + $1.footprint }
    case .object(let object):
      object.entries.reduce(own + 64) { $0 + 32 + $1.key.utf8.count + $1.value.footprint }
    }
  }
}

/// A number as it was spelled, so that a rewritten config.json keeps `1e-06` and `10000.0`.
///
/// Two numbers are equal when their literals are: `1` and `1.0` differ.
package struct JSONNumber: Sendable, Equatable {
  // Integers spelled the usual way need no string: token lists hold hundreds of millions of them.
  private enum Storage: Equatable {
    case integer(Int)
    case literal(String)
  }

  private let storage: Storage

  package init(_ value: Int) {
    storage = .integer(value)
  }

  /// - Parameter literal: a number by the JSON grammar; anything else is a programmer's error.
  package init(literal: String) {
    guard case .number(let number)? = try? JSONValue.parse(Array(literal.utf8)),
      number.literal == literal
    else { preconditionFailure("`\(literal)` is not a JSON number") }
    self = number
  }

  /// The parser's way in: `literal` obeys the grammar and is not spelled as `String(Int)` would.
  init(checkedLiteral literal: String) {
    storage = .literal(literal)
  }

  package var literal: String {
    switch storage {
    case .integer(let value): String(value)
    case .literal(let literal): literal
    }
  }

  /// The value of an integer literal that fits; nil for `5.0`, `1e3` and integers beyond 64 bits.
  package var int: Int? {
    switch storage {
    case .integer(let value): value
    case .literal(let literal): Int(literal)
    }
  }

  /// The nearest double, or nil where the literal leaves the range of `Double`.
  package var double: Double? {
    switch storage {
    case .integer(let value): return Double(value)
    case .literal(let literal):
      guard let value = Double(literal), value.isFinite else { return nil }
      return value
    }
  }
}

/// Keys and values in the order they were written, with constant-time lookup.
///
/// Keys are compared by their bytes: a vocabulary may hold both spellings of an accented letter,
/// which `String` calls equal. Two objects are equal when keys, values and order are.
package struct JSONObject: Sendable, Equatable {
  private struct Key: Hashable {
    let text: String

    static func == (left: Key, right: Key) -> Bool {
      // Unequal strings, the usual case, are told apart by the quick comparison.
      left.text == right.text && left.text.utf8.elementsEqual(right.text.utf8)
    }

    func hash(into hasher: inout Hasher) {
      // Not the text's own hash: all spellings of one accented text share it, and there may be any number of them.
      for byte in text.utf8 { hasher.combine(byte) }
    }
  }

  /// Beyond this many keys a dictionary is quicker than looking through them all. Most objects
  /// (the entry of a tensor, a chat message) stay below and cost one array less.
  private static let scannedKeys = 8

  package private(set) var keys: [String] = []
  private var values: [JSONValue] = []
  /// Positions by key; empty while there are at most `scannedKeys`.
  private var positions: [Key: Int] = [:]

  package init() {}

  /// - Parameter pairs: no key twice.
  package init(_ pairs: [(String, JSONValue)]) {
    for (key, value) in pairs {
      precondition(append(key, value), "key `\(key)` appears twice")
    }
  }

  package var count: Int { keys.count }

  package var entries: [(key: String, value: JSONValue)] {
    zip(keys, values).map { (key: $0, value: $1) }
  }

  /// Setting keeps the position of a known key and appends a new one; setting nil removes.
  package subscript(key: String) -> JSONValue? {
    get {
      position(of: key).map { values[$0] }
    }
    set {
      switch (position(of: key), newValue) {
      case (let position?, let value?):
        values[position] = value
      case (let position?, nil):
        keys.remove(at: position)
        values.remove(at: position)
        positions = [:]
        if keys.count > Self.scannedKeys { indexKeys() }
      case (nil, let value?):
        append(key, value)
      case (nil, nil):
        break
      }
    }
  }

  /// Adds a new key; false, changing nothing, when it is there already.
  @discardableResult
  mutating func append(_ key: String, _ value: JSONValue) -> Bool {
    guard position(of: key) == nil else { return false }
    keys.append(key)
    values.append(value)
    if keys.count > Self.scannedKeys + 1 {
      positions[Key(text: key)] = keys.count - 1
    } else if keys.count == Self.scannedKeys + 1 {
      indexKeys()
    }
    return true
  }

  private mutating func indexKeys() {
    for (position, key) in keys.enumerated() {
      positions[Key(text: key)] = position
    }
  }

  private func position(of key: String) -> Int? {
    let wanted = Key(text: key)
    guard keys.count <= Self.scannedKeys else { return positions[wanted] }
    return keys.firstIndex { Key(text: $0) == wanted }
  }

  package static func == (left: JSONObject, right: JSONObject) -> Bool {
    left.keys.elementsEqual(right.keys) { Key(text: $0) == Key(text: $1) }
      && left.values == right.values
  }
}
