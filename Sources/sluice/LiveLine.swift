// Progress on stderr: on a terminal one line that is replaced, elsewhere a line a minute, as events one a second.

internal import Glibc
internal import JSON
internal import Reporting

struct LiveLine {
  private static let betweenUpdates = Duration.milliseconds(100)
  private static let betweenLines = Duration.seconds(60)
  private static let betweenEvents = Duration.seconds(1)

  private let isLive = Console.takesEscapes
  private var last: ContinuousClock.Instant?

  /// - Parameters:
  ///   - fields: what an event says beside what every progress has.
  mutating func show(
    _ moment: @autoclosure () -> ProgressMoment, fields: () -> [(String, JSONValue)] = { [] }
  ) {
    if Console.level == .quiet { return }
    let isEvent = Console.form == .json
    let now = ContinuousClock.now
    let pause =
      isEvent ? Self.betweenEvents : isLive ? Self.betweenUpdates : Self.betweenLines
    if let last, now - last < pause { return }
    let moment = moment()
    // Where lines stay, one that has no time to tell is not worth a line.
    if !isEvent, !isLive, moment.secondsLeft == nil { return }
    last = now
    if isEvent {
      Console.event("progress", moment.fields + fields())
    } else if isLive {
      Console.live(moment.pieces(columns: Console.columns, cells: Console.cells))
    } else {
      Console.error(([dateText(Int(time(nil)))] + moment.words).joined(separator: "  "))
    }
  }

  /// What is being done, on a terminal that can replace it.
  static func say(_ text: String) {
    if Console.takesEscapes {
      Console.live([Piece(fitting([text], columns: Console.columns - 1))])
    }
  }

  /// Another line went to the terminal: the next update is due at once.
  mutating func interrupted() {
    if isLive, Console.form == .text { last = nil }
  }
}

extension ProgressMoment {
  fileprivate var fields: [(String, JSONValue)] {
    [
      ("share", .double(share)), ("seconds_left", .double(secondsLeft)),
      ("step", .text(step)), ("layer", .int(layer?.index)), ("layers", .int(layer?.count.own)),
      ("prediction_layers", .int(layer?.count.predictions)),
      ("tokens_done", .int(tokens?.done)), ("tokens_in_step", .int(tokens?.all)),
      ("tokens_per_second", .double(tokensPerSecond)), ("share_read", .double(read)),
      ("resident_bytes", .int(residentBytes)),
    ]
  }
}
