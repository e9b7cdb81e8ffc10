// Typed, named access to config.json; whatever a description does not ask for is refused at the end.

package import JSON

/// A config.json of which every key is asked for by name, or harmless as `ConfigKeys` knows, or accepted by the user, or
/// refused by `finish`.
package struct ConfigReader {
  private let file: String
  private let prefix: String
  private var object: JSONObject
  /// The class in transformers.
  let architecture: String
  /// What the names of tensors begin with.
  var names = ModelNames.plain
  /// Unknown keys that the user takes to change nothing, with the names of the objects that they are in.
  private let accepted: Set<String>
  private var asked: Set<String>
  /// Keys of this object and of nested ones that others read.
  private let readElsewhere: Set<String>
  package private(set) var notes: [ConfigNote] = []

  package init(
    file: String, object: JSONObject, architecture: String, accepting accepted: Set<String> = [],
    prefix: String = "", ignoring: [String] = []
  ) {
    self.file = file
    self.object = object
    self.architecture = architecture
    self.accepted = accepted
    self.prefix = prefix
    readElsewhere = Set(ignoring)
    asked = readElsewhere
  }

  /// The value of the first name that is there and not null; all other names must agree with it.
  private mutating func value(
    _ names: [String]
  ) throws(ConfigError) -> (name: String, value: JSONValue)? {
    var found: (name: String, value: JSONValue)?
    for name in names {
      asked.insert(name)
      guard let value = object[name], value != .null else { continue }
      if let first = found, first.value != value {
        throw .conflict(
          file: file, first: prefix + first.name, second: prefix + name,
          values: "\(first.value.serialized()) and \(value.serialized())")
      }
      if found == nil { found = (name, value) }
    }
    return found
  }

  private mutating func read<Value>(
    _ names: [String], _ type: String, default fallback: Value?, _ convert: (JSONValue) -> Value?
  ) throws(ConfigError) -> Value {
    guard let found = try value(names) else {
      if let fallback { return fallback }
      throw .missing(file: file, key: prefix + names[0])
    }
    guard let result = convert(found.value) else {
      throw .wrongType(
        file: file, key: prefix + found.name, expected: type, found: found.value.serialized())
    }
    return result
  }

  /// Far beyond every model; two such numbers multiplied, and many of the products added, are still an `Int`.
  private static let largest = 1 << 26

  /// A whole number of at least `minimum`. Further names are spellings of the same key.
  package mutating func int(
    _ names: String..., atLeast minimum: Int = 1, default fallback: Int? = nil
  ) throws(ConfigError) -> Int {
    try int(names, atLeast: minimum, default: fallback)
  }

  mutating func int(
    _ names: [String], atLeast minimum: Int = 1, default fallback: Int? = nil
  ) throws(ConfigError) -> Int {
    try read(names, "a whole number of at least \(minimum)", default: fallback) {
      $0.int.flatMap { $0 >= minimum && $0 <= Self.largest ? $0 : nil }
    }
  }

  /// A finite number above zero.
  package mutating func positive(
    _ names: String..., default fallback: Double? = nil
  ) throws(ConfigError) -> Double {
    try positive(names, default: fallback)
  }

  mutating func positive(
    _ names: [String], default fallback: Double? = nil
  ) throws(ConfigError) -> Double {
    try read(names, "a number above 0", default: fallback) {
      $0.double.flatMap { $0 > 0 && Self.isComputable($0) ? $0 : nil }
    }
  }

  /// A finite number below zero.
  mutating func negative(_ name: String, default fallback: Float) throws(ConfigError) -> Float {
    try read([name], "a number below 0", default: fallback) {
      $0.double.flatMap { $0 < 0 && Self.isComputable($0) ? Float($0) : nil }
    }
  }

  /// A finite number below zero, or nil where the key is absent or null.
  mutating func negativeIfPresent(_ name: String) throws(ConfigError) -> Float? {
    try value([name]) == nil ? nil : negative(name, default: 0)
  }

  /// Whether a forward pass in float32 gets on with it: its square is finite, too.
  private static func isComputable(_ value: Double) -> Bool { abs(value) < 1e19 }

  /// A finite number above zero, or nil where the key is absent or null.
  package mutating func positiveIfPresent(_ name: String) throws(ConfigError) -> Double? {
    try value([name]) == nil ? nil : positive(name)
  }

  /// A finite number of at least zero, or nil where the key is absent or null.
  package mutating func nonNegativeIfPresent(_ name: String) throws(ConfigError) -> Double? {
    guard try value([name]) != nil else { return nil }
    return try read([name], "a number of at least 0", default: nil) {
      $0.double.flatMap { $0 >= 0 && Self.isComputable($0) ? $0 : nil }
    }
  }

  /// A whole number of at least `minimum`, or nil where the key is absent or null.
  package mutating func intIfPresent(
    _ name: String, atLeast minimum: Int = 1
  ) throws(ConfigError) -> Int? {
    try value([name]) == nil ? nil : int(name, atLeast: minimum)
  }

  /// A list of numbers above zero.
  package mutating func positives(_ name: String) throws(ConfigError) -> [Double] {
    try read([name], "a list of numbers above 0", default: nil) {
      guard let items = $0.array else { return nil }
      let numbers = items.compactMap(\.double).filter { $0 > 0 && Self.isComputable($0) }
      return numbers.count == items.count ? numbers : nil
    }
  }

  /// A list of numbers of at least 0, with null for 0; empty where the key is absent or null.
  package mutating func limits(_ name: String) throws(ConfigError) -> [Double] {
    try read([name], "a list of numbers of at least 0, or null", default: []) {
      guard let items = $0.array else { return nil }
      let numbers = items.compactMap { $0 == .null ? 0 : $0.double }
        .filter { $0 >= 0 && Self.isComputable($0) }
      return numbers.count == items.count ? numbers : nil
    }
  }

  /// A list of two numbers of at least zero that something is held within, or nil where the key is absent or null; the
  /// second may be infinite.
  mutating func range(_ name: String) throws(ConfigError) -> ClosedRange<Float>? {
    guard try value([name]) != nil else { return nil }
    return try read([name], "a list of two limits of at least 0", default: nil) {
      // As Python writes it.
      let limits = $0.array?.map { $0.double ?? ($0.serialized() == "Infinity" ? .infinity : -1) }
      guard let limits, limits.count == 2, limits[0] >= 0, limits[0] <= limits[1],
        Self.isComputable(limits[0])
      else { return nil }
      return Float(limits[0])...Float(limits[1])
    }
  }

  /// A list of whole numbers; empty where the key is absent or null.
  package mutating func ints(_ name: String) throws(ConfigError) -> [Int] {
    try read([name], "a list of whole numbers of at most \(Self.largest)", default: []) {
      guard let items = $0.array else { return nil }
      let numbers = items.compactMap(\.int).filter { (-Self.largest...Self.largest).contains($0) }
      return numbers.count == items.count ? numbers : nil
    }
  }

  /// A list of true or false, or of numbers that are false where they are 0; empty where the key is absent or null.
  mutating func flags(_ name: String) throws(ConfigError) -> [Bool] {
    try read([name], "a list of true or false", default: []) {
      guard let items = $0.array else { return nil }
      let flags = items.compactMap { $0.bool ?? $0.int.map { $0 != 0 } }
      return flags.count == items.count ? flags : nil
    }
  }

  /// A text that is one of some.
  package mutating func choice<Value>(
    _ names: String..., of values: [String: Value], default fallback: String? = nil
  ) throws(ConfigError) -> Value {
    let name = try read(names, "a text", default: fallback) { $0.string }
    guard let value = values[name] else {
      throw unsupported(
        names[0], expected: values.keys.sorted().joined(separator: " or "), found: name)
    }
    return value
  }

  /// A list with one of some texts for each layer, or nil where the key is absent or null.
  ///
  /// - Parameter further: prediction layers, which it may have more words for.
  package mutating func choices<Value>(
    _ name: String, count: Int, further: Int = 0, of values: [String: Value]
  ) throws(ConfigError) -> [Value]? {
    guard let found = try value([name]) else { return nil }
    var kinds = found.value.array?.map { $0.string ?? "" } ?? []
    if kinds.count == count + further { kinds.removeLast(further) }
    let expected = "\(count) times \(values.keys.sorted().joined(separator: " or ")), one a layer"
    guard kinds.allSatisfy({ values[$0] != nil }) else {
      throw unsupported(name, expected: expected, found: found.value.serialized())
    }
    if kinds.count != count {
      throw implausible(name, expected: expected, found: found.value.serialized())
    }
    return kinds.compactMap { values[$0] }
  }

  mutating func text(_ name: String) throws(ConfigError) -> String {
    try read([name], "a text", default: nil) { $0.string }
  }

  /// What a list of words says of each layer, or one of 0 and 1, as published; where both are there, they must agree.
  ///
  /// - Parameter assumed: where nothing is said.
  mutating func eachLayer(
    _ layers: Int, _ name: String, of words: [String: Bool], or other: String,
    assuming assumed: (_ layer: Int) -> Bool
  ) throws(ConfigError) -> [Bool] {
    let listed = try choices(name, count: layers, of: words)
    let numbers = try ints(other)
    let counted = numbers.map { $0 == 1 }
    if numbers.isEmpty { return listed ?? (0..<layers).map(assumed) }
    let expected =
      "\(layers) times 0 or 1, one a layer" + (listed == nil ? "" : ", as `\(name)` says")
    if !Set(numbers).isSubset(of: [0, 1]) {
      throw unsupported(other, expected: expected, found: "\(numbers)")
    }
    guard numbers.count == layers, listed == nil || listed == counted else {
      throw implausible(other, expected: expected, found: "\(numbers)")
    }
    return counted
  }

  /// Whether a key has a text, whatever may be said of it otherwise.
  func says(_ name: String, _ text: String) -> Bool { object[name]?.string == text }
  /// A text, or nil where the key is absent or null.
  mutating func textIfPresent(_ name: String) throws(ConfigError) -> String? {
    try value([name]) == nil ? nil : read([name], "a text", default: nil) { $0.string }
  }

  /// Items of a key's list; 0 where it has none.
  func length(of name: String) -> Int { object[name]?.array?.count ?? 0 }

  func isText(_ name: String) -> Bool { object[name]?.string != nil }

  /// Whether a key is there, be it null.
  package func names(_ name: String) -> Bool { object[name] != nil }

  /// Whether an object has an object by that name.
  package func hasObject(_ key: String, in name: String) -> Bool {
    object[name]?.object?[key]?.object != nil
  }

  /// Whether a key has a list.
  package func hasList(_ name: String) -> Bool { object[name]?.array != nil }

  /// True or false, or a number that is false where it is 0.
  package mutating func flag(
    _ name: String, default fallback: Bool
  ) throws(ConfigError) -> Bool {
    try read([name], "true or false", default: fallback) { $0.bool ?? $0.int.map { $0 != 0 } }
  }

  /// Multi-token-prediction layers behind the decoder's own.
  package mutating func predictionLayers() throws(ConfigError) -> Int {
    try int("num_nextn_predict_layers", "num_mtp_layers", atLeast: 0, default: 0)
  }

  /// Keys that do not touch the forward pass of this architecture.
  package mutating func ignore(_ names: String...) { asked.formUnion(names) }

  mutating func ignore(_ names: Set<String>) { asked.formUnion(names) }

  /// Gives a value to a nested object, in the place of what it says there.
  mutating func hand(_ name: String, to nested: inout ConfigReader) {
    asked.insert(name)
    if let value = object[name], value != .null { nested.object[name] = value }
  }

  package mutating func bool(
    _ names: String..., default fallback: Bool? = nil
  ) throws(ConfigError) -> Bool {
    try bool(names, default: fallback)
  }

  mutating func bool(
    _ names: [String], default fallback: Bool? = nil
  ) throws(ConfigError) -> Bool {
    try read(names, "true or false", default: fallback) { $0.bool }
  }

  /// Refuses every value but `expected`; a key that is absent or null passes.
  package mutating func require(_ names: String..., toBe expected: JSONValue) throws(ConfigError) {
    if let found = try value(names), !found.value.isSame(as: expected) {
      throw .unsupported(
        file: file, key: prefix + found.name, expected: expected.serialized(),
        found: found.value.serialized())
    }
  }

  /// Refuses every number but the one that follows from other keys; a key that is absent or null passes.
  mutating func require(_ name: String, toFollow expected: Int) throws(ConfigError) {
    if let found = try value([name]), !found.value.isSame(as: .number(JSONNumber(expected))) {
      throw implausible(name, expected: "\(expected)", found: found.value.serialized())
    }
  }

  /// A nested object, read with a reader of its own. Further names are spellings of the same key.
  package mutating func object(_ names: String...) throws(ConfigError) -> ConfigReader? {
    guard let found = try value(names) else { return nil }
    guard let object = found.value.object else {
      throw .wrongType(
        file: file, key: prefix + found.name, expected: "an object",
        found: found.value.serialized())
    }
    return ConfigReader(
      file: file, object: object, architecture: architecture, accepting: accepted,
      prefix: prefix + found.name + ".", ignoring: Array(readElsewhere))
  }

  package func missing(_ key: String) -> ConfigError { .missing(file: file, key: prefix + key) }

  package func unsupported(_ key: String, expected: String, found: String) -> ConfigError {
    .unsupported(file: file, key: prefix + key, expected: expected, found: found)
  }

  package func implausible(_ key: String, expected: String, found: String) -> ConfigError {
    .implausible(file: file, key: prefix + key, expected: expected, found: found)
  }

  /// A key that others read and this description does not: passed over at any value, with a note.
  ///
  /// - Parameter harmless: the value at which nobody needs to know.
  mutating func passOver(_ key: String, harmless: JSONValue = .null, because: String) {
    asked.insert(key)
    guard let value = object[key], value != .null, !value.isSame(as: harmless) else { return }
    notes.append(
      .passedOver(key: prefix + key, value: value.serialized(), because: because))
  }

  /// Refuses what nobody asked for: a key that the description does not know might change the function.
  package mutating func finish() throws(ConfigError) {
    var unknown: [String] = []
    for (key, value) in object.entries
    where !asked.contains(key) && value != .null && !ConfigKeys.isInert(key) {
      if let harmless = ConfigKeys.harmless[key] {
        if harmless.contain(value, in: object) { continue }
        throw unsupported(key, expected: harmless.text, found: value.serialized())
      }
      if accepted.contains(prefix + key) {
        notes.append(.accepted(key: prefix + key, value: value.serialized()))
      } else {
        unknown.append("`\(prefix)\(key)` = \(value.serialized())")
      }
    }
    if !unknown.isEmpty {
      throw .unknownKeys(file: file, architecture: architecture, entries: unknown)
    }
  }

  /// Finishes a nested object, whose notes become this one's.
  mutating func finish(_ nested: ConfigReader) throws(ConfigError) {
    var nested = nested
    try nested.finish()
    notes += nested.notes
  }
}
