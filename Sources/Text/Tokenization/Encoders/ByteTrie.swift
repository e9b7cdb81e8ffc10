// A trie over byte strings: which of them start at a place of a text.

struct ByteTrie: Sendable {
  private static let free = UInt64.max
  static let root: Int32 = 0

  /// Node and byte, in a hash table at most half full; beside each the child.
  private var keys: [UInt64] = Array(repeating: free, count: 16)
  private var children: [Int32] = Array(repeating: -1, count: 16)
  private var count = 0
  // Beside the keys: a look at a static variable costs more.
  private let multiplier = HashSeed.multiplier
  /// The value of the string that ends at a node; -1 where none does.
  private var values: [Int32] = [-1]
  /// Children of the root by byte: most places of a text are left after one look here.
  private var first = [Int32](repeating: -1, count: 256)

  func value(_ node: Int32) -> Int32 { values[Int(node)] }

  @inline(__always)
  func child(_ node: Int32, _ byte: UInt8) -> Int32 {
    if node == Self.root { return first[Int(byte)] }
    let key = Self.key(node, byte)
    var slot = HashSeed.slot(key, multiplier, keys.count)
    while true {
      if keys[slot] == key { return children[slot] }
      if keys[slot] == Self.free { return -1 }
      slot = (slot + 1) & (keys.count - 1)
    }
  }

  /// - Returns: the value that the string had before, -1 where it is new. It keeps that one.
  @discardableResult
  mutating func insert(_ string: some Sequence<UInt8>, _ value: Int32) -> Int32 {
    var node = Self.root
    for byte in string {
      var next = child(node, byte)
      if next < 0 {
        next = Int32(values.count)
        values.append(-1)
        if node == Self.root { first[Int(byte)] = next } else { add(Self.key(node, byte), next) }
      }
      node = next
    }
    let known = values[Int(node)]
    if known < 0 { values[Int(node)] = value }
    return known
  }

  private mutating func add(_ key: UInt64, _ child: Int32) {
    if (count + 1) * 2 > keys.count {
      let old = zip(keys, children).filter { $0.0 != Self.free }
      keys = Array(repeating: Self.free, count: keys.count * 2)
      children = Array(repeating: -1, count: keys.count)
      for (key, child) in old { place(key, child) }
    }
    place(key, child)
    count += 1
  }

  private mutating func place(_ key: UInt64, _ child: Int32) {
    var slot = HashSeed.slot(key, multiplier, keys.count)
    while keys[slot] != Self.free { slot = (slot + 1) & (keys.count - 1) }
    keys[slot] = key
    children[slot] = child
  }

  @inline(__always)
  private static func key(_ node: Int32, _ byte: UInt8) -> UInt64 {
    UInt64(UInt32(bitPattern: node)) << 8 | UInt64(byte)
  }
}
