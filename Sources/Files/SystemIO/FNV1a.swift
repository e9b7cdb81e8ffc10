// A hash that is the same on every machine: against accidents, not against attacks.

/// FNV-1a over words of 32 or 64 bits.
///
/// Source: Fowler, Noll and Vo; draft-eastlake-fnv.
package struct FNV1a<Word: FixedWidthInteger & UnsignedInteger & Sendable>: Sendable {
  package var value: Word
  @usableFromInline let prime: Word

  @inlinable
  package mutating func add(_ byte: UInt8) {
    value = (value ^ Word(truncatingIfNeeded: byte)) &* prime
  }

  @inlinable
  package mutating func add(_ bytes: some Sequence<UInt8>) {
    for byte in bytes { add(byte) }
  }
}

extension FNV1a<UInt32> {
  package init() { (value, prime) = (0x811c_9dc5, 0x0100_0193) }
}

extension FNV1a<UInt64> {
  package init() { (value, prime) = (0xcbf2_9ce4_8422_2325, 0x100_0000_01b3) }
}
