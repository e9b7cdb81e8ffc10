// Byte-pair encoding: one piece of text to token ids, by merging pairs in the order of their ranks.

/// What two neighbouring tokens become, and how early.
struct Merge: Sendable {
  let rank: UInt32
  let id: Int32
}

/// Merges by the pair of ids they join.
struct MergeTable: Sendable {
  private struct Entry {
    var pair: UInt64
    var rank: UInt32
    var id: Int32
  }

  private static let free = UInt64.max
  private var entries: [Entry]
  private var count = 0
  // Beside the entries: a look at a static variable costs more.
  private let multiplier = HashSeed.multiplier

  init(reserving count: Int) {
    var size = 16
    while size < count * 2 { size *= 2 }
    entries = Array(repeating: Entry(pair: Self.free, rank: 0, id: 0), count: size)
  }

  /// - Parameter merges: the earliest first; of two for one pair the last counts.
  init(_ merges: [(left: Int32, right: Int32, id: Int32)]) {
    self.init(reserving: merges.count)
    for (rank, merge) in merges.enumerated() {
      set(merge.left, merge.right, Merge(rank: UInt32(rank), id: merge.id))
    }
  }

  @inline(__always)
  func find(_ left: Int32, _ right: Int32) -> Merge? {
    let pair = Self.pair(left, right)
    var slot = HashSeed.slot(pair, multiplier, entries.count)
    while true {
      let entry = entries[slot]
      if entry.pair == pair { return Merge(rank: entry.rank, id: entry.id) }
      if entry.pair == Self.free { return nil }
      slot = (slot + 1) & (entries.count - 1)
    }
  }

  /// Adds a merge; one for the same pair that was there before is replaced.
  mutating func set(_ left: Int32, _ right: Int32, _ merge: Merge) {
    precondition(count * 2 < entries.count, "more merges than were announced")
    let pair = Self.pair(left, right)
    var slot = HashSeed.slot(pair, multiplier, entries.count)
    while entries[slot].pair != Self.free, entries[slot].pair != pair {
      slot = (slot + 1) & (entries.count - 1)
    }
    if entries[slot].pair == Self.free { count += 1 }
    entries[slot] = Entry(pair: pair, rank: merge.rank, id: merge.id)
  }

  /// Adds a merge of two texts; false where they, or what they make, are no tokens.
  mutating func add(
    _ left: some Collection<UInt8>, _ right: some Collection<UInt8>, _ rank: Int,
    _ vocabulary: Vocabulary
  ) -> Bool {
    let text = Array(left) + right
    let bytes = text.span
    guard let leftID = vocabulary.id(of: bytes.extracting(..<left.count)),
      let rightID = vocabulary.id(of: bytes.extracting(left.count...)),
      let id = vocabulary.id(of: bytes)
    else { return false }
    set(leftID, rightID, Merge(rank: UInt32(rank), id: id))
    return true
  }

  @inline(__always)
  private static func pair(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }
}

/// The model of a tokenizer.json of type BPE, or of a file of ranks.
struct BytePairEncoder: Sendable {
  /// What a piece of text is made of before anything is merged.
  enum Symbols: Sendable {
    /// Bytes, by value; -1 where the vocabulary has no such token.
    case bytes([Int32])
    /// Unicode scalars, looked up in the vocabulary.
    case scalars
  }

  let symbols: Symbols
  /// Tokens by the text a piece is given in: bytes as they are, or as the vocabulary spells them.
  let tokens: Vocabulary
  let merges: MergeTable
  /// A piece that is a token is not taken apart.
  let ignoresMerges: Bool
  let unknown: Int32?
  let fusesUnknown: Bool
  /// The token of each byte, -1 where there is none; nil without byte fallback.
  let fallback: [Int32]?

  /// - Parameters:
  ///   - vocabulary: texts as the file spells them.
  ///   - readsBytes: whether pieces come as bytes, whose spelling by the byte alphabet is what the vocabulary has.
  init(
    _ vocabulary: Vocabulary, _ merges: MergeTable, readsBytes: Bool, ignoresMerges: Bool = false,
    unknown: Int32? = nil, fusesUnknown: Bool = false, fallback: [Int32]? = nil
  ) {
    if readsBytes {
      let tokens = Vocabulary(
        vocabulary.tokens.compactMap { token in
          // No text is spelled like the other tokens, so none can come out as one of them.
          ByteAlphabet.bytes(spelledBy: Array(token.text)).map { ($0, token.id) }
        })
      self.tokens = tokens
      symbols = .bytes((0..<256).map { tokens.id(of: [UInt8($0)]) ?? -1 })
    } else {
      tokens = vocabulary
      symbols = .scalars
    }
    self.merges = merges
    self.ignoresMerges = ignoresMerges
    self.unknown = unknown
    self.fusesUnknown = fusesUnknown
    self.fallback = fallback
  }

  /// Whether no piece can hold anything unknown.
  var hasAllBytes: Bool {
    guard case .bytes(let ids) = symbols else { return false }
    return !ids.contains(-1)
  }

  /// Working memory of one thread.
  struct Scratch {
    fileprivate var ids: [Int32] = []
    fileprivate var previous: [Int32] = []
    fileprivate var next: [Int32] = []
    fileprivate var queue: [Candidate] = []
  }

  /// A pair that could be merged, as of when it was queued.
  fileprivate struct Candidate {
    /// Rank, then position of the left part: the smallest is merged first.
    var order: UInt64
    var id: Int32
  }

  func encode(_ piece: Span<UInt8>, _ scratch: inout Scratch, into ids: inout [Int32]) {
    if ignoresMerges, let id = tokens.id(of: piece) {
      ids.append(id)
      return
    }
    scratch.ids.removeAll(keepingCapacity: true)
    switch symbols {
    case .bytes(let byBytes):
      var pending: Int32?
      for index in piece.indices {
        let id = byBytes[Int(piece[index])]
        add(id < 0 ? nil : id, &pending, &scratch)
      }
      if let pending { scratch.ids.append(pending) }
    case .scalars:
      addScalars(of: piece, &scratch)
    }
    if scratch.ids.count > 1 {
      mergeAll(&scratch, into: &ids)
    } else {
      ids.append(contentsOf: scratch.ids)
    }
  }

  @inline(__always)
  private func add(_ id: Int32?, _ pending: inout Int32?, _ scratch: inout Scratch) {
    if let id {
      if let unknown = pending { scratch.ids.append(unknown) }
      pending = nil
      scratch.ids.append(id)
    } else if let unknown {
      // Without one, what is not in the vocabulary is left out and its neighbours meet.
      if pending != nil, !fusesUnknown { scratch.ids.append(unknown) }
      pending = unknown
    }
  }

  private func addScalars(of piece: Span<UInt8>, _ scratch: inout Scratch) {
    var pending: Int32?
    var position = 0
    while position < piece.count {
      let lead = piece[position]
      let length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4
      let symbol = piece.extracting(position..<position + length)
      position += length
      let id = tokens.id(of: symbol)
      if id == nil, let fallback {
        var all = true
        for index in symbol.indices where fallback[Int(symbol[index])] < 0 { all = false }
        if all {
          // An unknown token that is still pending comes after these, as in the package.
          for index in symbol.indices { scratch.ids.append(fallback[Int(symbol[index])]) }
          continue
        }
      }
      add(id, &pending, &scratch)
    }
    if let pending { scratch.ids.append(pending) }
  }

  // MARK: Merging

  private static let gone: Int32 = -1

  /// Merges by a queue ordered by rank and position. An entry is stale when its pair has changed so
  /// that it no longer makes the same token; a changed pair that still makes it is merged.
  private func mergeAll(_ scratch: inout Scratch, into result: inout [Int32]) {
    let count = scratch.ids.count
    scratch.previous.removeAll(keepingCapacity: true)
    scratch.next.removeAll(keepingCapacity: true)
    scratch.queue.removeAll(keepingCapacity: true)
    for index in 0..<count {
      scratch.previous.append(Int32(index) - 1)
      scratch.next.append(index + 1 < count ? Int32(index) + 1 : -1)
    }
    for index in 1..<count {
      if let merge = merges.find(scratch.ids[index - 1], scratch.ids[index]) {
        scratch.queue.append(Candidate(order: Self.order(merge, index - 1), id: merge.id))
      }
    }
    for index in stride(from: scratch.queue.count / 2 - 1, through: 0, by: -1) {
      Self.siftDown(&scratch.queue, index)
    }
    while let candidate = Self.popSmallest(&scratch.queue) {
      let left = Int(candidate.order & 0xFFFF_FFFF)
      let right = Int(scratch.next[left])
      guard scratch.ids[left] != Self.gone, right >= 0,
        let merge = merges.find(scratch.ids[left], scratch.ids[right]), merge.id == candidate.id
      else { continue }
      scratch.ids[left] = merge.id
      scratch.ids[right] = Self.gone
      let after = scratch.next[right]
      scratch.next[left] = after
      if after >= 0 {
        scratch.previous[Int(after)] = Int32(left)
        if let merge = merges.find(scratch.ids[left], scratch.ids[Int(after)]) {
          Self.push(&scratch.queue, Candidate(order: Self.order(merge, left), id: merge.id))
        }
      }
      let before = Int(scratch.previous[left])
      if before >= 0, let merge = merges.find(scratch.ids[before], scratch.ids[left]) {
        Self.push(&scratch.queue, Candidate(order: Self.order(merge, before), id: merge.id))
      }
    }
    var index = 0
    while index >= 0 {
      result.append(scratch.ids[index])
      index = Int(scratch.next[index])
    }
  }

  @inline(__always)
  private static func order(_ merge: Merge, _ position: Int) -> UInt64 {
    UInt64(merge.rank) << 32 | UInt64(position)
  }

  private static func push(_ queue: inout [Candidate], _ candidate: Candidate) {
    queue.append(candidate)
    var index = queue.count - 1
    while index > 0 {
      let parent = (index - 1) / 2
      if queue[parent].order <= candidate.order { break }
      queue[index] = queue[parent]
      index = parent
    }
    queue[index] = candidate
  }

  private static func popSmallest(_ queue: inout [Candidate]) -> Candidate? {
    guard let smallest = queue.first else { return nil }
    let last = queue.removeLast()
    if !queue.isEmpty {
      queue[0] = last
      siftDown(&queue, 0)
    }
    return smallest
  }

  private static func siftDown(_ queue: inout [Candidate], _ start: Int) {
    let candidate = queue[start]
    var index = start
    while true {
      var child = 2 * index + 1
      if child >= queue.count { break }
      if child + 1 < queue.count, queue[child + 1].order < queue[child].order { child += 1 }
      if candidate.order <= queue[child].order { break }
      queue[index] = queue[child]
      index = child
    }
    queue[index] = candidate
  }
}
