// Keys of config.json that the user lets pass, held against those that are there.

package import JSON

/// A key that the user lets pass and that is nowhere, as one that is misspelt.
package struct AcceptedKeyMissing: Error, CustomStringConvertible, Equatable {
  package let key: String
  package let file: String
  /// The key that was meant, where one is near.
  package let nearest: String?

  package var description: String {
    "--accept-config-key \(key): \(file) has no such key; "
      + (nearest.map { "did you mean `\($0)`?" }
        ?? "take the name from the error about the key, or leave the flag out")
  }

  /// Refuses keys that none of some config.json has.
  package static func check(
    _ accepted: Set<String>, in configs: [JSONObject], file: String
  ) throws(AcceptedKeyMissing) {
    if accepted.isEmpty { return }
    let known = configs.flatMap(paths)
    for key in accepted.sorted() where !known.contains(key) {
      let far = max(2, key.count / 3)
      func distance(_ path: String) -> Int {
        min(
          editDistance(path, key), editDistance(String(path.split(separator: ".").last ?? ""), key))
      }
      let nearest = known.map { ($0, distance($0)) }.filter { $0.1 <= far }.min {
        ($0.1, $0.0.count) < ($1.1, $1.0.count)
      }?.0
      throw AcceptedKeyMissing(key: key, file: file, nearest: nearest)
    }
  }

  /// `a` and `a.b`: every key with the names of the objects that it is in.
  private static func paths(of object: JSONObject) -> [String] {
    object.entries.flatMap { key, value in
      [key] + (value.object.map { paths(of: $0).map { "\(key).\($0)" } } ?? [])
    }
  }
}
