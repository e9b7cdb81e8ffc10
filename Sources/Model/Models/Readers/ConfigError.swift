// What the owner of a config.json is told: errors, and notes that stop nothing.

internal import JSON

/// Everything that can be wrong with a config.json, worded for its owner.
package enum ConfigError: Error, CustomStringConvertible, Equatable {
  case missing(file: String, key: String)
  case wrongType(file: String, key: String, expected: String, found: String)
  case unsupported(file: String, key: String, expected: String, found: String)
  /// A number or a list that others in the file contradict.
  case implausible(file: String, key: String, expected: String, found: String)
  case tooMany(file: String, key: String, count: Int, layers: Int, tensors: Int)
  case conflict(file: String, first: String, second: String, values: String)
  case unknownKeys(file: String, architecture: String, entries: [String])
  case unknownArchitecture(file: String, found: String, known: [String], nearest: String?)

  package var description: String {
    switch self {
    case .missing(let file, let key):
      "\(file): `\(key)` is missing; compare the file with the published one"
    case .wrongType(let file, let key, let expected, let found):
      "\(file): `\(key)` should be \(expected) and is \(found); compare the file with the published one"
    case .unsupported(let file, let key, let expected, let found):
      "\(file): `\(key)` is \(found), but only \(expected) is supported; take a model without it, or "
        + "ask for it: what it changes in the forward pass is not guessed"
    case .implausible(let file, let key, let expected, let found):
      "\(file): `\(key)` is \(found) where \(expected) is expected; compare the file with the published one"
    case .tooMany(let file, let key, let count, let layers, let tensors):
      "\(file): `\(key)` is \(count)\(layers > 1 ? " in each of \(layers) layers" : ""), "
        + (tensors > 0
          ? "but the checkpoint has \(tensors) tensors; compare the file with the published one"
          : "more than is believed without weights, and there are none beside it; compare the file with the published "
            + "one, or download the weights, too")
    case .conflict(let file, let first, let second, let values):
      "\(file): `\(first)` and `\(second)` mean the same and differ (\(values)); remove the wrong one"
    case .unknownKeys(let file, let architecture, let entries):
      "\(file): not covered by the description of \(architecture): \(entries.joined(separator: ", ")); "
        + "if a key does not change the forward pass, say so with --accept-config-key NAME"
    case .unknownArchitecture(let file, let found, let known, let nearest):
      "\(file): unknown architecture \(found)" + Self.like(found, of: known)
        + (nearest.map {
          "; its tensors are named like those of \($0): where the two compute the same, name that one in a copy "
            + "of the file"
        } ?? "; `sluice inspect --architectures` lists the \(known.count) that are known")
    }
  }

  /// The known names that are nearest to a name of a class, nearest first; nothing where it is no name.
  private static func like(_ found: String, of known: [String]) -> String {
    guard found.first?.isLetter == true else { return "" }
    func stem(_ name: String) -> String {
      let name = name.lowercased()
      let end = ["forcausallm", "forconditionalgeneration", "lmheadmodel"].first(
        where: name.hasSuffix)
      return String(name.dropLast(end?.count ?? 0))
    }
    // Names of one family begin alike, however they end.
    let meant = stem(found)
    let nearest = known.map { name in
      let other = stem(name)
      return (-zip(other, meant).prefix { $0 == $1 }.count, editDistance(other, meant), name)
    }.sorted { $0 < $1 }
    return " (nearest: \(nearest.prefix(3).map(\.2).joined(separator: ", ")))"
  }
}

/// Something in a config.json that its owner should know, and that stops nothing.
package enum ConfigNote: Sendable, Equatable, CustomStringConvertible {
  /// A key that no description knows, and that the user takes to change nothing.
  case accepted(key: String, value: String)
  /// A key that others read.
  case passedOver(key: String, value: String, because: String)

  package var description: String {
    switch self {
    case .accepted(let key, let value):
      "config.json: `\(key)` = \(value) is not known and passed over, as --accept-config-key says; where it changes "
        + "the forward pass, the result is wrong"
    case .passedOver(let key, let value, let because):
      "config.json: `\(key)` = \(value) is passed over: \(because)"
    }
  }
}
