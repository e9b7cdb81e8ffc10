// How far a check of an output is: by the bytes that it reads.

package import Planning
internal import SystemIO

package struct VerifyProgress: Sendable, Equatable {
  package let part: VerifyStep
  /// The share of all that is read, 0 to 1.
  package let share: Double
  /// As what was read so far lets expect; nil while that is too little.
  package let secondsLeft: Double?
}

/// Counts bytes.
final class VerifyMeter {
  var part = VerifyStep.load
  private let all: Int
  private var done = 0
  private let clock = Clock()
  private let report: (VerifyProgress) -> Void

  init(bytes: Int, _ report: @escaping (VerifyProgress) -> Void) {
    all = max(1, bytes)
    self.report = report
  }

  func add(bytes: Int) {
    done = min(done + bytes, all)
    let share = Double(done) / Double(all)
    report(
      VerifyProgress(
        part: part, share: share,
        secondsLeft: clock.seconds > 1 ? clock.seconds * (1 - share) / share : nil))
  }
}
