// What a computation uses, written down as it goes: buffers with their lives, mapped pages, bytes moved, operations.

internal import Synchronization

/// A kind of arithmetic, at certain sizes. Two operations that are equal take equally long.
package struct Operation: Hashable, Comparable, Sendable {
  package enum Kind: String, Sendable, CaseIterable {
    /// x `[rows, inner]` times a weight `[columns, inner]` in bf16.
    case product
    /// A product in float32, whatever the engine.
    case exactProduct
    /// Softmax of one head over one sequence: `[queries, keys, width of keys, width of values]`.
    case scores
    /// xᵀ x of x `[rows, channels]`.
    case gram
    /// R Rᵀ of a matrix `[channels, channels]`.
    case factor
    /// A weight `[rows, columns]` under some candidates of a scale search.
    case search
    /// A weight `[rows, columns]` rounded within ranges that are found for each group alone.
    case round
    /// A weight `[rows, columns]` rounded with errors handed on.
    case compensate
    /// Numbers of an array, read and written once.
    case elements
    /// Numbers to scratch or back.
    case strips
  }

  package let kind: Kind
  /// What the kind says; the last ones may be missing where they do not matter.
  package let sizes: [Int]
  /// Floating-point operations; 0 for a kind that is no product.
  package let arithmetic: Double

  package init(_ kind: Kind, _ sizes: [Int], arithmetic: Double = 0) {
    self.kind = kind
    self.sizes = sizes
    self.arithmetic = arithmetic
  }

  /// A fixed order, so that sums over operations have the same last bit every time.
  package static func < (a: Operation, b: Operation) -> Bool {
    a.kind != b.kind
      ? a.kind.rawValue < b.kind.rawValue : a.sizes.lexicographicallyPrecedes(b.sizes)
  }

  /// 2 `rows` `inner` `columns` floating-point operations.
  package static func product(_ rows: Int, _ inner: Int, _ columns: Int, isExact: Bool) -> Operation
  {
    Operation(
      isExact ? .exactProduct : .product, [rows, inner, columns],
      arithmetic: 2 * Double(rows) * Double(inner) * Double(columns))
  }
}

/// Where bytes go or come from.
package enum Traffic: String, Sendable, CaseIterable {
  case source, scratchRead, scratchWritten, output
}

/// The book of one computation. The same calls write it whether numbers are computed or only their shapes are known.
package final class Ledger: Sendable {
  /// A kind of memory that is counted for itself.
  package enum Pool: String, Sendable, CaseIterable {
    /// Buffers of a `MemoryBudget`.
    case buffers
    /// Arrays on the heap that are large enough to be planned.
    case heap
    /// Pages of mapped files.
    case mapped
  }

  /// Bytes of one pool, by name.
  package struct Balance: Sendable, Equatable {
    package fileprivate(set) var bytes = 0
    package fileprivate(set) var peak = 0
    fileprivate var held: [String: Int] = [:]
    /// What was held when most was.
    package fileprivate(set) var atPeak: [String: Int] = [:]

    /// From now on a peak is one of what comes.
    fileprivate mutating func restart() {
      peak = bytes
      atPeak = held
    }

    fileprivate mutating func add(_ name: String, _ count: Int) {
      bytes += count
      held[name, default: 0] += count
      if held[name] == 0 { held[name] = nil }
      if bytes > peak {
        peak = bytes
        atPeak = held
      }
    }

    /// Counts `others` items beside one that is over.
    ///
    /// - Parameters:
    ///   - start: what was held when it began.
    ///   - most: what was held when it had most.
    fileprivate mutating func note(_ others: Int, beside most: Balance, since start: Balance) {
      var all = most
      for (name, bytes) in most.held {
        // What an item leaves, those before it have left, too.
        let before = start.held[name] ?? 0
        let more = bytes - max(before, held[name] ?? 0)
        if more > 0 { all.add(name, others * more) }
      }
      if all.bytes > peak {
        peak = all.bytes
        atPeak = all.held
      }
    }
  }

  /// An item that stands for some that are at work at once.
  private struct Item {
    let start: [Pool: Balance]
    var most: [Pool: Balance]
  }

  private struct State {
    var pools: [Pool: Balance] = [:]
    var operations: [Operation: Double] = [:]
    var arithmetic = 0.0
    var traffic: [Traffic: Double] = [:]
    var mappings: [String: (name: String, bytes: Int)] = [:]
    /// What was read of the source and not let go of, with the bytes that were counted for it.
    var read: [String: Double] = [:]
    var times = 1.0
    /// What is given back when all that is held together ends.
    var returns: [(name: String, bytes: Int, pool: Pool)]?
    var item: Item?

    mutating func add(_ name: String, _ bytes: Int, to pool: Pool) {
      var balance = pools[pool] ?? Balance()
      balance.add(name, bytes)
      pools[pool] = balance
      if let item, balance.bytes > item.most[pool]?.bytes ?? 0 { self.item?.most[pool] = balance }
    }
  }

  private let state = Mutex(State())

  private let ownLoops = LoopWatch()

  /// Loops that are begun with this book.
  package var loops: LoopWatch { draft?.loops ?? ownLoops }

  package init() {}

  // MARK: Writing

  package func take(_ name: String, _ bytes: Int, from pool: Pool) {
    if bytes == 0 || isDrafted({ $0.take(name, bytes, from: pool) }) { return }
    state.withLock { $0.add(name, bytes, to: pool) }
  }

  package func giveBack(_ name: String, _ bytes: Int, to pool: Pool) {
    if isDrafted({ $0.giveBack(name, bytes, to: pool) }) { return }
    let isLater = state.withLock { $0.returns?.append((name, bytes, pool)) != nil }
    if !isLater { take(name, -bytes, from: pool) }
  }

  /// What is taken one after the other is held at once.
  package func holdingTogether(_ body: () -> Void) {
    state.withLock { $0.returns = [] }
    body()
    let returns = state.withLock { state in
      defer { state.returns = nil }
      return state.returns ?? []
    }
    for each in returns { giveBack(each.name, each.bytes, to: each.pool) }
  }

  /// Pages that stay mapped until they are let go of by the same key.
  package func map(_ key: String, _ bytes: Int, as name: String) {
    if isDrafted({ $0.map(key, bytes, as: name) }) { return }
    state.withLock { state in
      if state.mappings[key] != nil { return }
      state.mappings[key] = (name, bytes)
      state.add(name, bytes, to: .mapped)
    }
  }

  /// Reads pages of the source. The kernel's cache has them for whoever reads them again before they are let go of by the
  /// same key.
  package func read(_ key: String, _ bytes: Int) {
    if isDrafted({ $0.read(key, bytes) }) { return }
    state.withLock { state in
      if state.read[key] != nil { return }
      let counted = Double(bytes) * state.times
      state.read[key] = counted
      state.traffic[.source, default: 0] += counted
    }
  }

  /// Lets go of what was read by this key, and of its pages where they stay mapped.
  package func letGo(_ key: String) {
    if isDrafted({ $0.letGo(key) }) { return }
    state.withLock { state in
      state.read[key] = nil
      guard let pages = state.mappings.removeValue(forKey: key) else { return }
      state.add(pages.name, -pages.bytes, to: .mapped)
    }
  }

  package func letGoOfAll() {
    state.withLock { state in
      state.read = [:]
      for pages in state.mappings.values {
        state.add(pages.name, -pages.bytes, to: .mapped)
      }
      state.mappings = [:]
    }
  }

  /// Counts what the items of a loop leave mapped, where only the first of them and the last are run: the first stands for
  /// all but the last.
  ///
  /// - Parameters:
  ///   - count: of items, which are alike.
  ///   - body: takes an item's place, and is called for the last only where the first leaves something mapped.
  package func repeated<Failure: Error>(
    leavingPages count: Int, _ body: (Int) throws(Failure) -> Void
  ) throws(Failure) {
    let before = state.withLock { $0.mappings }
    try counted(Double(count)) { () throws(Failure) in try body(0) }
    if count == 1 { return }
    let first = state.withLock { state in
      let new = state.mappings.filter { before[$0.key] == nil }
      for (key, pages) in new {
        state.mappings[key]?.bytes *= count - 1
        state.add(pages.name, (count - 2) * pages.bytes, to: .mapped)
      }
      return new.keys.sorted()
    }
    if first.isEmpty { return }
    // What is held beside the pages of all others: its operations are counted already.
    try counted(0) { () throws(Failure) in try body(count - 1) }
    state.withLock { state in
      for (key, pages) in state.mappings where before[key] == nil && !first.contains(key) {
        state.mappings[key] = nil
        state.mappings[first[0]]?.bytes += pages.bytes
      }
    }
  }

  package func note(_ operation: Operation, times: Double = 1) {
    if isDrafted({ $0.note(operation, times: times) }) { return }
    state.withLock { state in
      let count = times * state.times
      state.operations[operation, default: 0] += count
      state.arithmetic += operation.arithmetic * count
    }
  }

  package func note(_ traffic: Traffic, bytes: Int) {
    if isDrafted({ $0.note(traffic, bytes: bytes) }) { return }
    state.withLock { $0.traffic[traffic, default: 0] += Double(bytes) * $0.times }
  }

  /// Counts what `body` does `times` over; what it holds is held once, and pages of the source that it does not let go of
  /// are read once by each item.
  ///
  /// - Parameter items: how many read pages of their own, each of them some of the times.
  package func repeated<Failure: Error>(
    _ times: Double, items: Double = 1, _ body: () throws(Failure) -> Void
  ) throws(Failure) {
    let known = state.withLock { $0.read }
    try counted(times, body)
    if times <= 1 { return }
    state.withLock { state in
      for (key, bytes) in state.read where known[key] == nil {
        let once = bytes / times * min(times, items)
        state.read[key] = once
        state.traffic[.source, default: 0] -= bytes - once
      }
    }
  }

  private func counted<Failure: Error>(
    _ times: Double, _ body: () throws(Failure) -> Void
  ) throws(Failure) {
    let before = state.withLock { state in
      let before = state.times
      state.times *= times
      return before
    }
    defer { state.withLock { $0.times = before } }
    try body()
  }

  // MARK: Work side by side

  private var draft: LedgerDraft? { LedgerDraft.current.flatMap { $0.isOf(self) ? $0 : nil } }

  private func isDrafted(_ entry: @escaping @Sendable (Ledger) -> Void) -> Bool {
    guard let draft else { return false }
    draft.add(entry)
    return true
  }

  /// Counts what `body` holds for `count` items that are at work at once, each like this one. What it leaves is counted
  /// once.
  package func sideBySide<Failure: Error>(
    _ count: Int, _ body: () throws(Failure) -> Void
  ) throws(Failure) {
    if count <= 1 { return try body() }
    state.withLock { $0.item = Item(start: $0.pools, most: $0.pools) }
    defer {
      state.withLock { state in
        guard let item = state.item else { return }
        state.item = nil
        for (pool, most) in item.most {
          state.pools[pool]?.note(count - 1, beside: most, since: item.start[pool] ?? Balance())
        }
      }
    }
    try body()
  }

  // MARK: Reading

  package func balance(of pool: Pool) -> Balance { state.withLock { $0.pools[pool] ?? Balance() } }

  /// The peak of a pool since the last call, or since the beginning.
  package func takePeak(of pool: Pool) -> Balance {
    state.withLock { state in
      let balance = state.pools[pool] ?? Balance()
      state.pools[pool]?.restart()
      return balance
    }
  }

  package var operations: [Operation: Double] { state.withLock { $0.operations } }

  /// Floating-point operations of all products so far.
  package var arithmetic: Double { state.withLock { $0.arithmetic } }

  package func bytes(_ traffic: Traffic) -> Double { state.withLock { $0.traffic[traffic] ?? 0 } }
}
