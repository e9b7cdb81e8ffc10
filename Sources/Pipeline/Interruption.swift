// A wish to stop, from a signal handler or a test.

import Synchronization

/// Set once, read between units of work.
package final class Interruption: Sendable {
  private let flag = Atomic<Bool>(false)

  package init() {}

  package func request() { flag.store(true, ordering: .relaxed) }

  package var isRequested: Bool { flag.load(ordering: .relaxed) }
}

/// The run stopped at a commit because it was asked to; the same command goes on from there.
package struct Interrupted: Error, Equatable {
  package let output: String
}
