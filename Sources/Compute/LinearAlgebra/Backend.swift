// What the steps of a run compute with: threads, memory, an engine for products, and a ledger of all of it.

internal import Dispatch
internal import Synchronization
package import Tensors

/// Every allocation and every loop of a step goes through one of these.
///
/// With memory that is real, threads share the loops and numbers come out. With memory that is not, nothing is computed,
/// and the ledger alone is filled: a plan is the run on such a backend.
///
/// Results never depend on the number of threads: callers cut work by the size of the data, and add partial results in
/// index order.
package struct Backend: Sendable {
  package let threads: Int
  /// Where large buffers come from.
  package let memory: MemoryBudget
  /// What products are computed with.
  package let engine: Engine
  /// Where everything that is done is written down.
  package let ledger: Ledger

  package init(
    threads: Int, memory: MemoryBudget = MemoryBudget(), engine: Engine = .f32,
    ledger: Ledger = Ledger()
  ) {
    precondition(threads >= 1, "\(threads) threads")
    precondition(engine.isAvailable || !memory.isReal, "this CPU has no \(engine) products")
    self.threads = threads
    self.memory = memory
    self.engine = engine
    self.ledger = ledger
  }

  /// Whether numbers are computed. Without, a loop does nothing and `map` has no results: what is done is written down
  /// from shapes alone, by the same calls.
  package var computes: Bool { memory.isReal }

  /// This backend with products in float32: for what must not be rounded.
  package var exact: Backend {
    Backend(threads: threads, memory: memory, ledger: ledger)
  }

  /// This backend with other threads.
  package func with(threads: Int) -> Backend {
    Backend(threads: threads, memory: memory, engine: engine, ledger: ledger)
  }

  /// A matrix whose contents are undefined until written.
  package func matrix(_ name: String, rows: Int, columns: Int) -> Matrix {
    Matrix(name, rows: rows, columns: columns, from: memory, in: ledger)
  }

  /// Hands out the numbers of a large matrix in pieces, which lie one after the other.
  package func forEachPiece(
    of matrix: Matrix, _ body: @Sendable (UnsafeMutablePointer<Float>, _ count: Int) -> Void
  ) {
    let pieces = ranges(of: matrix.count, by: 1 << 18)
    forEach(pieces.count) { index in
      unsafe body(matrix.base + pieces[index].lowerBound, pieces[index].count)
    }
  }

  /// Sets all numbers of a large matrix to 0: the first touch of its pages takes long.
  package func clear(_ matrix: Matrix) {
    unsafe forEachPiece(of: matrix) { unsafe $0.update(repeating: 0, count: $1) }
  }

  package func buffer(_ name: String, byteCount: Int) -> Buffer {
    Buffer(name, byteCount: byteCount, from: memory, in: ledger)
  }

  /// Calls `body` once for every index below `count`, on up to `threads` cores, and returns when all are done.
  ///
  /// - Parameter each: buffers that every task takes for itself.
  package func forEach(
    _ count: Int, each: [TaskBuffer] = [], _ body: @Sendable (Int) -> Void
  ) {
    take(each, of: count)
    if computes { loop(count, body) }
    giveBack(each, of: count)
  }

  private func loop(_ count: Int, _ body: @Sendable (Int) -> Void) {
    if count == 0 { return }
    // Of this thread: others that help do not know for whom.
    let loops = ledger.loops
    let isTimed = loops.begin()
    let uses = TaskUses(of: memory)
    let next = Atomic<Int>(0)
    @Sendable func work(_: Int) {
      let start = isTimed ? LoopWatch.now : 0
      while true {
        let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
        if index >= count { break }
        uses.count { body(index) }
      }
      if isTimed { loops.add(since: start) }
    }
    let workers = min(threads, count)
    if workers == 1 {
      work(0)
    } else {
      DispatchQueue.concurrentPerform(iterations: workers, execute: work)
    }
    uses.end(together: workers)
    if isTimed { loops.end(tasks: count) }
  }

  /// The results of `body` in index order; none where only shapes are known.
  package func map<Value: Sendable>(
    _ count: Int, each: [TaskBuffer] = [], _ body: @Sendable (Int) -> Value
  ) -> [Value] {
    take(each, of: count)
    defer { giveBack(each, of: count) }
    if !computes { return [] }
    return unsafe [Value](unsafeUninitializedCapacity: count) { buffer, initialized in
      nonisolated(unsafe) let values = unsafe buffer
      loop(count) { index in
        unsafe (values.baseAddress! + index).initialize(to: body(index))
      }
      initialized = count
    }
  }

  // MARK: Side by side

  /// How many items are worked on at once, where there are so many.
  private func together(_ count: Int) -> Int { min(threads, max(1, count)) }

  /// The results of `body` for every item, in order. As many items as there are threads are worked on at once, each with
  /// its share of them: for work whose own loops are too short to keep all threads busy.
  ///
  /// What items write into the ledger stands there in their order. The first error of an item is thrown.
  /// - Parameter body: takes an item and what it computes with. It changes nothing that other items read.
  package func sideBySide<Item, Value>(
    _ items: [Item], _ body: (Item, Backend) throws -> Value
  ) throws -> [Value] {
    let count = together(items.count)
    let each = with(threads: threads / count)
    var results: [Value] = []
    if !computes || count == 1 {
      for item in items {
        try ledger.sideBySide(count) { results.append(try body(item, each)) }
      }
      return results
    }
    let drafts = items.map { _ in LedgerDraft(ledger) }
    let places = Slots<Result<Value, any Error>>(items.count)
    let times = Slots<LoopTimes>(items.count)
    let loops = ledger.loops
    let isTimed = loops.begin()
    let uses = TaskUses(of: memory)
    withoutActuallyEscaping(body) { body in
      nonisolated(unsafe) let work = { (index: Int) in Result { try body(items[index], each) } }
      let next = Atomic<Int>(0)
      let all = items.count
      DispatchQueue.concurrentPerform(iterations: count) { _ in
        while true {
          let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
          if index >= all { break }
          uses.count {
            drafts[index].take {
              if isTimed { drafts[index].loops.start() }
              places[index] = unsafe work(index)
              if isTimed { times[index] = drafts[index].loops.take() }
            }
          }
        }
      }
    }
    uses.end(together: count)
    if isTimed { loops.end(items.indices.compactMap { times[$0] }, together: count) }
    for (index, draft) in drafts.enumerated() {
      try ledger.sideBySide(count) {
        draft.enter()
        if let result = places[index] { results.append(try result.get()) }
      }
    }
    return results
  }

  /// Calls `body` for every item, several at once. Where only shapes are known, for those alone that `forEach` takes.
  ///
  /// - Parameter leavesPages: whether every item may leave pages of its own mapped.
  package func sideBySide<Item, Key: Equatable>(
    _ items: [Item], alike key: (Item) -> Key, leavesPages: Bool,
    _ body: (Item, Backend) throws -> Void
  ) throws {
    if computes {
      _ = try sideBySide(items) { try body($0, $1) } as [Void]
      return
    }
    let count = together(items.count)
    let each = with(threads: threads / count)
    try forEach(of: items, alike: key, leavesPages: leavesPages) { item in
      try ledger.sideBySide(count) { try body(item, each) }
    }
  }

  /// What only matters for the numbers.
  package func compute(_ body: () -> Void) {
    if computes { body() }
  }

  // MARK: The ledger

  private func take(_ each: [TaskBuffer], of count: Int) {
    let tasks = min(threads, count)
    for use in each { ledger.take(use.name, tasks * use.footprint, from: use.pool) }
  }

  private func giveBack(_ each: [TaskBuffer], of count: Int) {
    let tasks = min(threads, count)
    for use in each { ledger.giveBack(use.name, tasks * use.footprint, to: use.pool) }
  }

  /// Writes down that `body` holds some of the heap.
  package func holding<Result, Failure: Error>(
    _ name: String, bytes: Int, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    ledger.take(name, bytes, from: .heap)
    defer { ledger.giveBack(name, bytes, to: .heap) }
    return try body()
  }

  /// Calls `body` for every item, in order. Where only shapes are known, for one of those that follow each other and
  /// have the same key, which is counted as often as there are.
  ///
  /// - Parameter leavesPages: whether every item may leave pages of its own mapped.
  package func forEach<Item, Key: Equatable, Failure: Error>(
    of items: [Item], alike key: (Item) -> Key, leavesPages: Bool = false,
    _ body: (Item) throws(Failure) -> Void
  ) throws(Failure) {
    if computes {
      for item in items { try body(item) }
      return
    }
    var start = 0
    while start < items.count {
      let shape = key(items[start])
      var end = start + 1
      while end < items.count, key(items[end]) == shape { end += 1 }
      if leavesPages {
        try ledger.repeated(leavingPages: end - start) { (place) throws(Failure) in
          try body(items[start + place])
        }
      } else {
        try ledger.repeated(Double(end - start)) { () throws(Failure) in try body(items[start]) }
      }
      start = end
    }
  }
}

/// A place for each of some values, which threads fill without waiting for each other.
@safe private final class Slots<Value>: @unchecked Sendable {
  private let values: UnsafeMutableBufferPointer<Value?>

  init(_ count: Int) {
    unsafe values = .allocate(capacity: count)
    unsafe values.initialize(repeating: nil)
  }

  deinit {
    unsafe values.deinitialize()
    unsafe values.deallocate()
  }

  subscript(_ index: Int) -> Value? {
    get { unsafe values[index] }
    set { unsafe values[index] = newValue }
  }
}

/// A buffer that every task of a loop takes for itself.
package struct TaskBuffer: Sendable {
  package let name: String
  fileprivate(set) var footprint: Int
  let pool: Ledger.Pool

  package init(_ name: String, byteCount: Int, pool: Ledger.Pool = .buffers) {
    self.name = name
    self.pool = pool
    footprint = pool == .buffers ? MemoryBudget.footprint(byteCount) : byteCount
  }

  package init(_ name: String, floats: Int) { self.init(name, byteCount: 4 * floats) }

  /// What a task takes that may be any of some kinds, by what each of them takes.
  package static func most(_ kinds: [[TaskBuffer]]) -> [TaskBuffer] {
    var result: [TaskBuffer] = []
    for kind in kinds {
      var sums: [TaskBuffer] = []
      for use in kind { sums.merge(use) { $0 + $1 } }
      for sum in sums { result.merge(sum) { max($0, $1) } }
    }
    return result
  }
}

extension [TaskBuffer] {
  /// Takes in a buffer beside the one of its name.
  fileprivate mutating func merge(_ other: TaskBuffer, _ both: (Int, Int) -> Int) {
    guard let place = firstIndex(where: { $0.name == other.name && $0.pool == other.pool }) else {
      return append(other)
    }
    self[place].footprint = both(self[place].footprint, other.footprint)
  }
}

/// `count` items cut into ranges of `size`; the last may be shorter.
package func ranges(of count: Int, by size: Int) -> [Range<Int>] {
  stride(from: 0, to: count, by: size).map { $0..<min($0 + size, count) }
}
