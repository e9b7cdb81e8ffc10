// What keeps a file from being written so that all its tokens fall into one place of a hash table.

/// Drawn once a process, as Swift draws the seed of its own hashes. Only the places of entries depend on it: never what is
/// found, nor in which order.
package enum HashSeed {
  package static let start = UInt64.random(in: .min ... .max)
  /// Odd, so that no two keys become one.
  package static let multiplier = UInt64.random(in: .min ... .max) | 1

  /// The place of a key in a table whose size is a power of two and at least 2.
  ///
  /// Source: Dietzfelbinger et al., "A reliable randomized algorithm for the closest-pair problem" (1997), multiply-shift:
  /// only the upper bits of the product depend on all of the key.
  @inline(__always)
  package static func slot(_ key: UInt64, _ multiplier: UInt64, _ size: Int) -> Int {
    let shift = UInt64(truncatingIfNeeded: 64 - size.trailingZeroBitCount)
    return Int(truncatingIfNeeded: (key &* multiplier) &>> shift)
  }
}
