// Progress on stderr: on a terminal one line that is replaced, elsewhere a line a minute.

internal import Glibc
internal import JSON
internal import Planning
internal import Reporting

/// Shows the first parts of a line, as many as fit, so that none is ever cut. The most important come first.
func fitting(_ parts: [String], columns: Int) -> String {
  var line = ""
  for part in parts {
    let longer = line.isEmpty ? part : line + "  " + part
    if longer.count > columns { break }
    line = longer
  }
  return line
}

struct LiveLine {
  private static let betweenUpdates = Duration.milliseconds(100)
  private static let betweenLines = Duration.seconds(60)

  private let isLive = Console.takesEscapes
  private var last: ContinuousClock.Instant?

  /// - Parameters:
  ///   - details: what stands after the percentage and the time that is left, the most important first.
  mutating func show(share: Double, secondsLeft: Double?, details: () -> [String]) {
    let now = ContinuousClock.now
    if let last, now - last < (isLive ? Self.betweenUpdates : Self.betweenLines) { return }
    // Where lines stay, one that has no time to tell is not worth a line.
    if !isLive, secondsLeft == nil { return }
    last = now
    let parts =
      [percentText(share)] + (secondsLeft.map { ["ETA \(durationText($0))"] } ?? []) + details()
    if isLive {
      // A terminal wraps what reaches its last column.
      Console.live(fitting(parts, columns: Console.columns - 1))
    } else {
      Console.error(([dateText(Int(time(nil)))] + parts).joined(separator: "  "))
    }
  }

  /// What is being done, on a terminal that can replace it.
  static func say(_ text: String) {
    if Console.takesEscapes { Console.live(fitting([text], columns: Console.columns - 1)) }
  }

  /// Another line went to the terminal: the next update is due at once.
  mutating func interrupted() {
    if isLive { last = nil }
  }
}
