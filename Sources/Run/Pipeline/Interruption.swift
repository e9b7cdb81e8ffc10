// A wish to stop, from a signal handler or a test.

internal import Planning
internal import Safetensors
internal import ScratchStore
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

  /// What the user is told of an error of a run's work: of files that do not hold what was written that starting over is
  /// the way out, and of a failure of the system that the work is kept.
  ///
  /// - Parameter state: the file that says what was written.
  static func telling(_ error: any Error, state: String, share: Double?) -> any Error {
    switch error {
    case ScratchError.system(let error): StoppedRun(error: error, share: share)
    case SafetensorsError.system(let error): StoppedRun(error: error, share: share)
    case let error as SystemError: StoppedRun(error: error, share: share)
    case let error as ScratchError: RunStateError.scratchChanged(error)
    case ScratchLost.unspoken(let name):
      RunStateError.damaged(path: state, problem: "it does not speak of \(name)")
    case ScratchLost.short(let path, let bytes):
      RunStateError.filesChanged(path: state, problem: "\(path): less than \(bytes) bytes")
    case let error as JournalChanged:
      RunStateError.filesChanged(path: state, problem: "\(error)")
    default: error
    }
  }
}
