// What the tasks of a loop hold of a budget, each for itself: the peak of the loop is then the same however its threads
// come to meet.

internal import Synchronization

/// Bytes in use, and the most of them.
struct BufferUse {
  private(set) var bytes = 0
  private(set) var peak = 0

  init(_ bytes: Int = 0) { (self.bytes, peak) = (bytes, bytes) }

  mutating func add(_ count: Int) {
    bytes += count
    peak = max(peak, bytes)
  }

  /// Adds tasks of which so many are at work at once. At worst those that take most come last, when all others have ended
  /// and what they left is held.
  mutating func add(_ tasks: [BufferUse], together: Int) {
    let left = tasks.reduce(0) { $0 + max(0, $1.bytes) }
    let more = tasks.map { $0.peak - max(0, $0.bytes) }.sorted(by: >)
    peak = max(peak, bytes + left + more.prefix(together).reduce(0, +))
    add(tasks.reduce(0) { $0 + $1.bytes })
  }
}

/// The tasks of one loop.
package final class TaskUses: Sendable {
  private let budget: MemoryBudget
  private let ended = Mutex<[BufferUse]>([])

  package init(of budget: MemoryBudget) { self.budget = budget }

  /// Runs a task on this thread: what it takes of the budget is its own.
  package func count(_ task: () -> Void) {
    let own = TaskUse(of: budget)
    TaskUse.$current.withValue(own, operation: task)
    let use = own.use
    if use.peak > 0 || use.bytes != 0 { ended.withLock { $0.append(use) } }
  }

  /// Adds them up, where so many were at work at once.
  package func end(together: Int) { budget.add(ended.withLock { $0 }, together: together) }
}

/// The task that a thread is at.
final class TaskUse: Sendable {
  @TaskLocal static var current: TaskUse?

  private let budget: MemoryBudget
  private let state = Mutex(BufferUse())

  init(of budget: MemoryBudget) { self.budget = budget }

  var use: BufferUse { state.withLock { $0 } }

  /// The one of this thread, where it takes from `budget`.
  static func current(of budget: MemoryBudget) -> TaskUse? {
    current.flatMap { $0.budget === budget ? $0 : nil }
  }

  func add(_ bytes: Int) { state.withLock { $0.add(bytes) } }

  func add(_ tasks: [BufferUse], together: Int) {
    state.withLock { $0.add(tasks, together: together) }
  }
}
