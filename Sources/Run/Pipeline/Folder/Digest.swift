// A short word for long inputs, to compare them by.

internal import SystemIO

/// Tells inputs apart that changed by accident.
struct Digest {
  private var hash = FNV1a<UInt64>()

  mutating func add(_ text: String) {
    hash.add(text.utf8)
    hash.add(0)
  }

  var text: String { String(hash.value, radix: 16) }
}
