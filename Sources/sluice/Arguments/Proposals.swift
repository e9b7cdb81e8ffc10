// Shorter runs in the words of sluice plan: where a run is long, or a time was named.

internal import JSON
internal import Pipeline
internal import Reporting

/// A time that no settings keep.
struct TimeTooShort: Error, CustomStringConvertible {
  let description: String
}

struct Proposals {
  private let asked: Double
  private let within: Double?
  /// Proposals that are shown, best first.
  private let runs: [ShorterRun]
  /// The best that keeps the time.
  private let chosen: ShorterRun?

  /// A run that takes longer gets proposals although nobody asked for them.
  private static let long = 12.0 * 3600
  /// A proposal is shown where it takes less than this share of the one before it.
  private static let worthwhile = 0.75

  init(_ shorter: ShorterRuns, within: Double?) throws {
    asked = shorter.time.total
    self.within = within
    if asked <= within ?? Self.long {
      (runs, chosen) = ([], nil)
      return
    }
    let all = try shorter.all()
    chosen = within.flatMap { limit in all.first { $0.seconds <= limit } }
    var shown: [ShorterRun] = []
    for run in all where run.seconds < Self.worthwhile * (shown.last?.seconds ?? asked) {
      shown.append(run)
    }
    runs = shown
  }

  private var isKept: Bool { within.map { asked <= $0 } ?? false }

  var lines: [String] {
    var lines: [String] = []
    if let within {
      lines.append(
        "within    \(durationText(within)): "
          + (isKept
            ? "these settings do"
            : chosen.map { "\($0.text), \(durationText($0.seconds))" }
              ?? "no settings do"))
    }
    if let chosen { lines.append("gives up  \(chosen.losses)") }
    if chosen != nil || runs.isEmpty { return lines }
    let width = runs.map { $0.text.count }.max() ?? 0
    for (index, run) in runs.enumerated() {
      lines.append(
        (index == 0 ? "shorter   " : "          ") + padded(run.text, to: width + 2)
          + padded(durationText(run.seconds), to: 14) + ShorterRun.words(run.growth)
      )
    }
    return lines
  }

  /// The run that keeps the time, whole; nil where none does, or no time was named.
  var command: [String]? {
    if isKept { return runCommand(planned: CommandLine.arguments, with: []) }
    return chosen.map { runCommand(planned: CommandLine.arguments, with: $0.flags) }
  }

  /// Refuses a time that no settings keep, once all is said.
  func check() throws {
    guard let within, asked > within, chosen == nil else { return }
    let shortest = runs.min { $0.seconds < $1.seconds }
    throw TimeTooShort(
      description: "--within \(durationText(within)): "
        + (shortest.map { "the shortest run, with \($0.text), takes \(durationText($0.seconds))" }
          ?? "the run takes \(durationText(asked)), and no settings make it much shorter")
        + "; allow more time, or use a machine with more cores")
  }

  var json: JSONObject {
    func object(_ run: ShorterRun) -> JSONObject {
      JSONObject([
        ("flags", .string(run.text)), ("seconds", .double(run.seconds)),
        ("kl_factor", .double(run.growth)),
      ])
    }
    var best: JSONObject?
    if let command {
      best =
        chosen.map(object)
        ?? JSONObject([("flags", ""), ("seconds", .double(asked)), ("kl_factor", 1)])
      best?["command"] = .array(command.map { .string($0) })
    }
    return JSONObject([
      ("proposals", .array(runs.map { .object(object($0)) })),
      ("best_within", best.map { .object($0) } ?? .null),
    ])
  }
}
