// The keys of a `quantization_config`, each asked for or refused.

internal import JSON

/// A `quantization_config` of which every key is asked for, or refused by `finish`. Null is as good as missing.
struct QuantizationKeys {
  let file: String
  private let object: JSONObject
  private var asked: Set<String> = []

  init(_ value: JSONValue, file: String) {
    object = value.object ?? JSONObject()
    self.file = file
  }

  subscript(key: String) -> JSONValue {
    mutating get {
      asked.insert(key)
      return object[key] ?? .null
    }
  }

  mutating func pass(_ keys: String...) { asked.formUnion(keys) }

  func refusal(_ key: String, _ expected: String) -> QuantizationConfigError {
    QuantizationConfigError(
      file: file, key: key, expected: expected, found: object[key]?.shortText ?? "missing")
  }

  mutating func require(
    _ key: String, oneOf values: [JSONValue]
  ) throws(QuantizationConfigError) {
    if !values.contains(self[key]) {
      throw refusal(key, values.map { $0.serialized() }.joined(separator: " or "))
    }
  }

  mutating func names(_ key: String) throws(QuantizationConfigError) -> [String] {
    let value = self[key]
    if value == .null { return [] }
    guard let names = value.array, names.allSatisfy({ $0.string != nil }) else {
      throw refusal(key, "a list of module names")
    }
    return names.compactMap(\.string)
  }

  func finish() throws(QuantizationConfigError) {
    for (key, value) in object.entries where !asked.contains(key) && value != .null {
      throw refusal(key, "null")
    }
  }
}
