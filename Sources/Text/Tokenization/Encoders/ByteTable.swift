// A hash table from byte strings to their number in order of arrival.

struct ByteTable: Sendable {
  private var bytes: [UInt8] = []
  private var starts: [UInt32] = [0]
  private var hashes: [UInt32] = []
  /// Entry numbers, -1 where free; a power of two, at most half full.
  private var slots: [Int32] = []
  // Beside the slots: a look at a static variable costs more.
  private let start = HashSeed.start
  private let multiplier = HashSeed.multiplier

  init(reserving count: Int = 0) {
    rehash(toHold: count)
  }

  var count: Int { hashes.count }

  @inline(__always)
  func find(_ key: Span<UInt8>) -> Int? {
    let hash = self.hash(key)
    let mask = slots.count - 1
    var slot = Int(truncatingIfNeeded: hash) & mask
    while true {
      let entry = Int(slots[slot])
      if entry < 0 { return nil }
      if hashes[entry] == hash, isEqual(entry, key) { return entry }
      slot = (slot + 1) & mask
    }
  }

  /// Adds a key that is not there yet, and tells its number.
  @discardableResult
  mutating func add(_ key: Span<UInt8>) -> Int {
    if (count + 1) * 2 > slots.count { rehash(toHold: max(count * 2, 16)) }
    let entry = count
    for index in key.indices { bytes.append(key[index]) }
    starts.append(UInt32(bytes.count))
    let hash = self.hash(key)
    hashes.append(hash)
    place(entry, hash)
    return entry
  }

  func key(_ entry: Int) -> ArraySlice<UInt8> {
    bytes[Int(starts[entry])..<Int(starts[entry + 1])]
  }

  mutating func removeAll() {
    bytes.removeAll(keepingCapacity: true)
    starts.removeAll(keepingCapacity: true)
    starts.append(0)
    hashes.removeAll(keepingCapacity: true)
    for slot in slots.indices { slots[slot] = -1 }
  }

  private func isEqual(_ entry: Int, _ key: Span<UInt8>) -> Bool {
    let start = Int(starts[entry])
    guard Int(starts[entry + 1]) - start == key.count else { return false }
    for index in key.indices where bytes[start + index] != key[index] { return false }
    return true
  }

  private mutating func rehash(toHold count: Int) {
    var size = 32
    while size < count * 2 + 2 { size *= 2 }
    slots = [Int32](repeating: -1, count: size)
    for (entry, hash) in hashes.enumerated() { place(entry, hash) }
  }

  private mutating func place(_ entry: Int, _ hash: UInt32) {
    let mask = slots.count - 1
    var slot = Int(truncatingIfNeeded: hash) & mask
    while slots[slot] >= 0 { slot = (slot + 1) & mask }
    slots[slot] = Int32(entry)
  }

  /// As FNV-1a, but with a start and a multiplier of this process: those of FNV are known to whoever writes a file.
  @inline(__always)
  private func hash(_ key: Span<UInt8>) -> UInt32 {
    var hash = start
    for index in key.indices { hash = (hash ^ UInt64(key[index])) &* multiplier }
    // The high half is folded in: the table takes the low bits.
    return UInt32(truncatingIfNeeded: hash ^ hash >> 32)
  }
}
