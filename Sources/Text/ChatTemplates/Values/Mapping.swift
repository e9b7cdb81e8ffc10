// Python's dicts, and what looks into them.

/// An ordered dict. Filled once, then shared and never changed: the sandbox sees to that.
final class Mapping {
  private(set) var keys: [Value]
  private(set) var values: [Value]
  private(set) var depth = 1
  private(set) var weight = 0
  /// Positions by key, made when there are too many keys to look through.
  private var positions: [HashedKey: Int] = [:]
  private static let scannedKeys = 8

  init(capacity: Int = 0) {
    keys = []
    values = []
    keys.reserveCapacity(capacity)
    values.reserveCapacity(capacity)
  }

  var count: Int { keys.count }

  /// For a key known to be new.
  func append(_ key: Value, _ value: Value) {
    keys.append(key)
    values.append(value)
    depth = max(depth, key.depth + 1, value.depth + 1)
    weight = heavier(weight, heavier(key.weight, value.weight))
    if keys.count > Self.scannedKeys + 1 {
      positions[HashedKey(value: key)] = keys.count - 1
    } else if keys.count == Self.scannedKeys + 1 {
      for (index, key) in keys.enumerated() { positions[HashedKey(value: key)] = index }
    }
  }

  /// A known key keeps its place and its first spelling, as in Python.
  func set(_ key: Value, _ value: Value) throws(Fault) {
    try requireHashable(key)
    if let position = position(of: key) {
      values[position] = value
      depth = max(depth, value.depth + 1)
      weight = heavier(weight, value.weight)
    } else {
      append(key, value)
    }
  }

  func get(_ key: Value) throws(Fault) -> Value? {
    try requireHashable(key)
    return position(of: key).map { values[$0] }
  }

  func get(_ key: String) -> Value? {
    if keys.count <= Self.scannedKeys {
      for (index, other) in keys.enumerated() {
        if let text = other.text, sameText(text, key) { return values[index] }
      }
      return nil
    }
    return positions[HashedKey(value: .string(key))].map { values[$0] }
  }

  private func position(of key: Value) -> Int? {
    if keys.count <= Self.scannedKeys {
      let wanted = HashedKey(value: key)
      return keys.firstIndex { HashedKey(value: $0) == wanted }
    }
    return positions[HashedKey(value: key)]
  }
}

/// What `keys()`, `values()` and `items()` return.
struct MappingView {
  enum Part: String {
    case keys, values, items
  }

  let mapping: Mapping
  let part: Part

  func element(_ index: Int) -> Value {
    switch part {
    case .keys: mapping.keys[index]
    case .values: mapping.values[index]
    case .items: .tuple([mapping.keys[index], mapping.values[index]])
    }
  }
}
