// Items that are worked on at once, each with a share of the threads.

import LinearAlgebra
import Synchronization
import Tensors
import Testing

@Suite struct SideBySideTests {
  private struct Failed: Error, Equatable {
    let item: Int
  }

  private func backend(threads: Int, computes: Bool = true) -> Backend {
    Backend(threads: threads, memory: MemoryBudget(isReal: computes))
  }

  @Test(arguments: [1, 2, 3, 4, 7, 16])
  func `results come in the order of the items, and threads are dealt evenly`(
    threads: Int
  ) throws {
    let backend = backend(threads: threads)
    let shares = Mutex<Set<Int>>([])
    let results = try backend.sideBySide(Array(0..<5)) { item, each in
      shares.withLock { _ = $0.insert(each.threads) }
      return each.map(item) { $0 }.reduce(item) { $0 + $1 }
    }
    #expect(results == [0, 1, 3, 6, 10])
    #expect(shares.withLock { $0 } == [max(1, threads / min(5, threads))])
    let seen = Mutex<[Int]>([])
    try backend.sideBySide(Array(0..<9), alike: { _ in 0 }, leavesPages: true) { item, _ in
      seen.withLock { $0.append(item) }
    }
    #expect(seen.withLock { $0.sorted() } == Array(0..<9))
    let none: [Int] = try backend.sideBySide([Int]()) { item, _ in item }
    #expect(none.isEmpty)
  }

  @Test(arguments: [1, 2, 8])
  func `the first error of the items is thrown, whichever came first on the clock`(
    threads: Int
  ) throws {
    #expect(throws: Failed(item: 3)) {
      _ = try backend(threads: threads).sideBySide(Array(0..<8)) { item, _ in
        if item >= 3 { throw Failed(item: item) }
        return item
      }
    }
  }

  /// What a step might do for an item: a buffer for a moment, one that stays, one of others that goes, pages.
  private func work(_ item: Int, of others: Held, _ backend: Backend) -> Matrix {
    let ledger = backend.ledger
    ledger.note(Operation(.elements, [100]))
    ledger.read("item \(item)", 1000)
    ledger.map("item \(item)", 5 << 20, as: "weights")
    backend.forEach(6, each: [TaskBuffer("tiles", floats: 1 << 18)]) { _ in }
    let moment = backend.matrix("for a moment", rows: 1 << 10, columns: 1 << 10)
    let result = backend.matrix("result", rows: 1 << 9, columns: 1 << 10)
    withExtendedLifetime(moment) { others.take(item) }
    return result
  }

  /// Matrices that items use up.
  private final class Held: Sendable {
    private let matrices: Mutex<[Matrix?]>

    init(_ count: Int, _ backend: Backend) {
      matrices = Mutex(
        (0..<count).map { _ in backend.matrix("used up", rows: 1 << 8, columns: 1 << 10) })
    }

    func take(_ item: Int) { matrices.withLock { $0[item] = nil } }
  }

  private func book(threads: Int, computes: Bool) throws -> Ledger {
    let backend = backend(threads: threads, computes: computes)
    let held = Held(9, backend)
    let results = try backend.sideBySide(Array(0..<9)) { item, each in
      work(item, of: held, each)
    }
    #expect(results.count == 9)
    for item in 0..<9 { backend.ledger.letGo("item \(item)") }
    return backend.ledger
  }

  @Test(arguments: [1, 2, 3, 4, 8])
  func `the book of a run is that of its plan`(threads: Int) throws {
    let plan = try book(threads: threads, computes: false)
    for _ in 0..<5 {
      let run = try book(threads: threads, computes: true)
      for pool in Ledger.Pool.allCases {
        #expect(run.balance(of: pool) == plan.balance(of: pool))
        #expect(run.balance(of: pool).bytes == 0)
      }
      #expect(run.operations == plan.operations)
      #expect(run.bytes(.source) == 9000 && plan.bytes(.source) == 9000)
    }
  }

  @Test func `what an item holds for itself counts for all that are at work, what it leaves once`()
    throws
  {
    let mib = 1 << 20
    for threads in [1, 2, 3] {
      let book = try book(threads: threads, computes: false).balance(of: .buffers)
      // With the last item: its own, what it uses up, and what the eight before it left.
      #expect(book.peak == threads * 4 * mib + 9 * 2 * mib + mib)
    }
  }

  @Test func `pages that items leave are counted once each, where one stands for all`() throws {
    for threads in [1, 4] {
      var pages: [Ledger.Balance] = []
      for computes in [false, true] {
        let backend = backend(threads: threads, computes: computes)
        try backend.sideBySide(Array(0..<10), alike: { _ in 0 }, leavesPages: true) { item, each in
          each.ledger.map("item \(item)", 1 << 20, as: "weights")
        }
        pages.append(backend.ledger.balance(of: .mapped))
      }
      #expect(pages[0] == pages[1] && pages[0].peak == 10 << 20)
    }
  }

  /// Takes some time of the processor.
  private func work() -> Double {
    var sum = 0.0
    for index in 1...200_000 { sum += 1 / Double(index) }
    return sum
  }

  @Test(arguments: [2, 4])
  func `loops of items are timed with them`(threads: Int) throws {
    let backend = backend(threads: threads)
    backend.ledger.loops.start()
    let sums = try backend.sideBySide([1, 2]) { _, each in
      let before = work()
      return each.map(6) { Double($0) + work() }.reduce(before, +)
    }
    #expect(sums.count == 2)
    let times = backend.ledger.loops.take()
    #expect(times.tasks.isEmpty && times.sideBySideSeconds > 0)
    #expect(times.sideBySideSeconds <= times.processorSeconds)
    // Both at once, each on half of the threads.
    let (one, all) = (times.seconds(threads: 1), times.seconds(threads: threads))
    #expect(abs(one - times.processorSeconds) < 1e-9 && all < 0.7 * one)
    #expect((threads == 2) == (times.serialSeconds(threads: threads) == times.outside))
  }
}
