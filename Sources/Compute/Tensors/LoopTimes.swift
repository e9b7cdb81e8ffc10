// What loops over tasks take of the processor, and what more threads would make of it.

internal import Glibc
internal import Synchronization

/// Processor time of some work: of its loops, by how many tasks they had, and of what lies between them.
package struct LoopTimes: Sendable, Equatable {
  /// Seconds of all tasks together, of loops with so many.
  package private(set) var tasks: [Int: Double] = [:]
  /// Seconds of the thread that begins loops, outside of them: the others have nothing to do.
  package private(set) var outside = 0.0

  package init(tasks: [Int: Double] = [:], outside: Double = 0) {
    self.tasks = tasks
    self.outside = outside
  }

  package mutating func add(_ seconds: Double, tasks count: Int) {
    tasks[count, default: 0] += seconds
  }

  fileprivate mutating func addOutside(_ seconds: Double) { outside += seconds }

  package mutating func add(_ other: LoopTimes) {
    tasks.merge(other.tasks, uniquingKeysWith: +)
    outside += other.outside
  }

  /// Of all threads together.
  package var processorSeconds: Double { outside + inOrder.reduce(0) { $0 + $1.seconds } }

  /// On the clock, where each of so many threads has a core, tasks of a loop are equally long, and nothing waits.
  package func seconds(threads: Int) -> Double {
    inOrder.reduce(outside) { sum, loop in
      let rounds = (loop.count + threads - 1) / threads
      return sum + loop.seconds / Double(loop.count) * Double(rounds)
    }
  }

  /// Of those, the ones in which fewer than all threads have something to do.
  package func serialSeconds(threads: Int) -> Double {
    inOrder.filter { !$0.count.isMultiple(of: threads) }.reduce(outside) {
      $0 + $1.seconds / Double($1.count)
    }
  }

  /// A fixed order, so that sums have the same last bit every time.
  private var inOrder: [(count: Int, seconds: Double)] {
    tasks.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }
}

/// Times loops, once somebody asked for it: until then it costs nothing. Loops begin on one thread.
package final class LoopWatch: Sendable {
  private struct State {
    var times = LoopTimes()
    /// Processor time of the thread that begins loops, when it was last looked at.
    var mark = 0.0
    /// Of the loop that is running.
    var seconds: Double?
  }

  private let isOn = Atomic<Bool>(false)
  private let state = Mutex(State())

  package func start() {
    state.withLock { $0.mark = Self.now }
    isOn.store(true, ordering: .relaxed)
  }

  /// - Returns: whether the loop that begins is timed: not one within another.
  package func begin() -> Bool {
    if !isOn.load(ordering: .relaxed) { return false }
    return state.withLock { state in
      if state.seconds != nil { return false }
      state.times.addOutside(Self.now - state.mark)
      state.seconds = 0
      return true
    }
  }

  /// Processor time of the thread that calls.
  package static var now: Double {
    var now = timespec()
    unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) * 1e-9
  }

  package func add(since start: Double) {
    let seconds = Self.now - start
    state.withLock { $0.seconds? += seconds }
  }

  /// Ends a loop that is timed.
  package func end(tasks: Int) {
    state.withLock { state in
      state.times.add(state.seconds ?? 0, tasks: tasks)
      state.seconds = nil
      state.mark = Self.now
    }
  }

  /// What was timed since the last call.
  package func take() -> LoopTimes {
    if !isOn.load(ordering: .relaxed) { return LoopTimes() }
    return state.withLock { state in
      let now = Self.now
      state.times.addOutside(now - state.mark)
      state.mark = now
      defer { state.times = LoopTimes() }
      return state.times
    }
  }
}
