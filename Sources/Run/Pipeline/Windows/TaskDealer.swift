// Who does which task of a window: whoever is free takes the next one that can begin.

internal import Synchronization

/// Hands out tasks. Any number of threads may ask.
package final class TaskDealer: Sendable {
  private struct State {
    var open: [WindowTask]
    /// Not done, by layer and turn.
    var left: [[Int]: Int] = [:]
    var undone = 0
  }

  private static let wait = "wait"

  private let state: Mutex<State>

  /// - Parameter tasks: that are not done, in the order in which they are best begun.
  package init(_ tasks: [WindowTask]) {
    var state = State(open: tasks)
    for task in tasks { state.left[[task.layer, task.turn], default: 0] += 1 }
    state.undone = tasks.count
    self.state = Mutex(state)
  }

  /// - Parameter finished: the name of the task that was done; nothing for the first one.
  /// - Returns: the name of the next one; nothing where all are done.
  package func answer(_ finished: [UInt8]) -> [UInt8] {
    state.withLock { state in
      if let task = WindowTask(name: String(decoding: finished, as: UTF8.self)) {
        state.left[[task.layer, task.turn], default: 1] -= 1
        state.undone -= 1
      }
      if state.undone == 0 { return [] }
      let next = state.open.firstIndex { task in
        (0..<task.turn).allSatisfy { state.left[[task.layer, $0], default: 0] == 0 }
      }
      return Array((next.map { state.open.remove(at: $0).name } ?? Self.wait).utf8)
    }
  }

  /// What an answer says; nil where nothing can begin yet.
  package static func task(_ answer: [UInt8]) -> WindowTask? {
    WindowTask(name: String(decoding: answer, as: UTF8.self))
  }
}
