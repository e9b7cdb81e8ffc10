// What loops take of the processor, and what more threads would make of it.

import LinearAlgebra
import Synchronization
import Tensors
import Testing

@Suite struct LoopTimesTests {
  /// Four tasks of a second each, one of three, and a second between.
  private let times = LoopTimes(tasks: [4: 4, 1: 3], outside: 1)

  @Test(arguments: [(1, 8.0), (2, 6.0), (3, 6.0), (4, 5.0), (64, 5.0)])
  func `a loop takes as many rounds as its tasks need on so many threads`(
    threads: Int, seconds: Double
  ) {
    #expect(times.processorSeconds == 8)
    #expect(times.seconds(threads: threads) == seconds)
  }

  @Test(arguments: [(1, 1.0), (2, 4.0), (3, 5.0), (4, 4.0), (64, 5.0)])
  func `in a last round that is not full, and between loops, threads have nothing to do`(
    threads: Int, seconds: Double
  ) {
    #expect(times.serialSeconds(threads: threads) == seconds)
  }

  @Test func `times of parts add up`() {
    var sum = times
    sum.add(LoopTimes(tasks: [4: 1, 7: 2], outside: 0.5))
    #expect(sum == LoopTimes(tasks: [4: 5, 1: 3, 7: 2], outside: 1.5))
  }

  @Test func `items that are done side by side share the threads`() {
    var sum = LoopTimes(outside: 1)
    // Five items of two seconds, three at once: a loop of two tasks, and half a second before it.
    let item = LoopTimes(tasks: [2: 1.5], outside: 0.5)
    sum.add(Array(repeating: item, count: 5), together: 3)
    #expect(sum.processorSeconds == 11 && sum.sideBySideSeconds == 10)
    #expect(sum.seconds(threads: 1) == 11)
    // Two at once, one thread each.
    #expect(sum.seconds(threads: 2) == 7 && sum.serialSeconds(threads: 2) == 3)
    #expect(sum.seconds(threads: 3) == 5 && sum.serialSeconds(threads: 3) == 3)
    // Three at once, two threads each, which are both busy in the loop.
    #expect(sum.seconds(threads: 6) == 3.5)
    #expect(sum.serialSeconds(threads: 6) == 1 + 0.5 + 1.25)
    // One thread too many is idle all the time.
    #expect(sum.serialSeconds(threads: 7) == 3.5)
  }

  /// Takes some time of the processor.
  private func work() -> Double {
    var sum = 0.0
    for index in 1...200_000 { sum += 1 / Double(index) }
    return sum
  }

  @Test(arguments: [1, 3])
  func `every loop is timed by its number of tasks, and one within another with that one`(
    threads: Int
  ) {
    let backend = Backend(threads: threads)
    #expect(backend.ledger.loops.take() == LoopTimes())
    backend.forEach(9) { _ in _ = work() }
    #expect(backend.ledger.loops.take() == LoopTimes(), "nobody asked for it")
    backend.ledger.loops.start()
    _ = work()
    backend.forEach(5) { _ in _ = work() }
    #expect(backend.map(6) { Double($0) + work() }.count == 6)
    backend.forEach(0) { _ in }
    backend.forEach(7) { _ in backend.forEach(2) { _ in _ = work() } }
    let times = backend.ledger.loops.take()
    #expect(times.tasks.keys.sorted() == [5, 6, 7])
    #expect(times.tasks.values.allSatisfy { $0 > 0 } && times.outside > 0)
    #expect(backend.ledger.loops.take().tasks.isEmpty)
  }

  @Test func `all tasks are done once, whatever the number of threads`() {
    for threads in [1, 2, 7] {
      let counts = Mutex([Int](repeating: 0, count: 20))
      Backend(threads: threads).forEach(20) { index in counts.withLock { $0[index] += 1 } }
      #expect(counts.withLock { $0.allSatisfy { $0 == 1 } })
    }
  }
}
