// What loops over tasks take of the processor, and what more threads would make of it.

internal import Glibc
internal import Synchronization

/// Processor time of some work: of its loops, by how many tasks they had, of what lies between them, and of work that is
/// done side by side, with loops of its own.
package struct LoopTimes: Sendable, Equatable {
  /// Seconds of all tasks together, of loops with so many.
  package private(set) var tasks: [Int: Double] = [:]
  /// Seconds of the thread that begins loops, outside of them: the others have nothing to do.
  package private(set) var outside = 0.0
  /// Of all items together that were worked on side by side.
  private var items: [SideBySide: LoopTimes] = [:]

  private struct SideBySide: Hashable, Comparable {
    /// How many, and how many of them at once.
    let count: Int
    let together: Int

    static func < (a: SideBySide, b: SideBySide) -> Bool {
      (a.count, a.together) < (b.count, b.together)
    }

    /// How many of so many threads do one item, and how often as many items as can be are done at once.
    func share(of threads: Int) -> (threads: Int, together: Int, full: Int) {
      let together = min(together, threads)
      return (threads / together, together, count / together)
    }
  }

  package init(tasks: [Int: Double] = [:], outside: Double = 0) {
    self.tasks = tasks
    self.outside = outside
  }

  package mutating func add(_ seconds: Double, tasks count: Int) {
    tasks[count, default: 0] += seconds
  }

  /// Adds items that were worked on side by side.
  ///
  /// - Parameter together: how many at once.
  package mutating func add(_ items: [LoopTimes], together: Int) {
    let key = SideBySide(count: items.count, together: together)
    for item in items { self.items[key, default: LoopTimes()].add(item) }
  }

  fileprivate mutating func addOutside(_ seconds: Double) { outside += seconds }

  package mutating func add(_ other: LoopTimes) {
    tasks.merge(other.tasks, uniquingKeysWith: +)
    outside += other.outside
    for (key, times) in other.items { items[key, default: LoopTimes()].add(times) }
  }

  /// Of all threads together.
  package var processorSeconds: Double {
    inOrder.reduce(outside) { $0 + $1.seconds } + sideBySideSeconds
  }

  /// Of all that was done side by side.
  package var sideBySideSeconds: Double {
    itemsInOrder.reduce(0) { $0 + $1.times.processorSeconds }
  }

  /// On the clock, where each of so many threads has a core, tasks of a loop are equally long, and nothing waits.
  package func seconds(threads: Int) -> Double {
    let loops = inOrder.reduce(outside) { sum, loop in
      let rounds = (loop.count + threads - 1) / threads
      return sum + loop.seconds / Double(loop.count) * Double(rounds)
    }
    return itemsInOrder.reduce(loops) { sum, items in
      let share = items.key.share(of: threads)
      let rounds = (items.key.count + share.together - 1) / share.together
      let each = items.times.seconds(threads: share.threads) / Double(items.key.count)
      return sum + each * Double(rounds)
    }
  }

  /// Of those, the ones in which fewer than all threads have something to do.
  package func serialSeconds(threads: Int) -> Double {
    let loops = inOrder.filter { !$0.count.isMultiple(of: threads) }.reduce(outside) {
      $0 + $1.seconds / Double($1.count)
    }
    return itemsInOrder.reduce(loops) { sum, items in
      let share = items.key.share(of: threads)
      let whole = items.times.seconds(threads: share.threads)
      let full =
        if !threads.isMultiple(of: share.together) {
          whole
        } else if share.threads == 1 {
          0.0
        } else {
          items.times.serialSeconds(threads: share.threads)
        }
      let last = items.key.count.isMultiple(of: share.together) ? 0 : whole
      return sum + (full * Double(share.full) + last) / Double(items.key.count)
    }
  }

  /// A fixed order, so that sums have the same last bit every time.
  private var inOrder: [(count: Int, seconds: Double)] {
    tasks.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  private var itemsInOrder: [(key: SideBySide, times: LoopTimes)] {
    items.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
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

  /// Whether somebody asked.
  package var times: Bool { isOn.load(ordering: .relaxed) }

  /// - Returns: whether the loop that begins is timed: not one within another.
  package func begin() -> Bool {
    if !times { return false }
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

  /// Ends a loop over items that were worked on side by side, each timed by itself.
  package func end(_ items: [LoopTimes], together: Int) {
    state.withLock { state in
      state.times.add(items, together: together)
      state.seconds = nil
      state.mark = Self.now
    }
  }

  /// What was timed since the last call.
  package func take() -> LoopTimes {
    if !times { return LoopTimes() }
    return state.withLock { state in
      let now = Self.now
      state.times.addOutside(now - state.mark)
      state.mark = now
      defer { state.times = LoopTimes() }
      return state.times
    }
  }
}
