// A wish to stop, from a signal handler or a test.

internal import Planning
internal import Safetensors
import Synchronization
internal import SystemIO

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

/// A disk or a file that failed a run in the middle of its work.
package struct StoppedRun: Error, CustomStringConvertible {
  let error: any Error
  /// The share of the run's arithmetic that was done at its last commit.
  let share: Double?

  package var description: String {
    let done = share.map { " (\(percentText($0)))" } ?? ""
    return
      "\(error); what was done until the last commit\(done) is kept, and the same command goes on from there"
  }

  /// What the user is told of an error: of those that are not the run's own also that its work is kept.
  static func telling(_ error: any Error, share: Double?) -> any Error {
    let isSystem =
      if case SafetensorsError.system = error { true } else { error is SystemError }
    return isSystem ? StoppedRun(error: error, share: share) : error
  }
}
