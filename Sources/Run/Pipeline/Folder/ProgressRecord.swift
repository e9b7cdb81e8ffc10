// progress.json: news of a run for `sluice status`. The truth about progress is state.json; this file may be lost.

internal import Glibc
internal import JSON
internal import Planning
internal import Reporting
internal import SystemIO

/// Where a run is, or was when its process was last heard of.
package struct ProgressRecord: Sendable, Equatable {
  package var process: Int
  package var host: String
  /// The words of the command line.
  package var command: [String]
  package var workingFolder: String
  /// Seconds since 1970.
  package var started: Int
  package var ranks: Int
  package var threads: Int
  package var budget: Int
  package var residentBytes: Int
  package var peakBytes: Int
  /// nil before the first step and after the last.
  package var progress: RunProgress?

  package init(command: [String], ranks: Int, threads: Int, budget: Int) {
    process = Int(getpid())
    host = FileSystem.hostName()
    self.command = command
    workingFolder = FileSystem.resolved(".")
    started = time(nil)
    self.ranks = ranks
    self.threads = threads
    self.budget = budget
    residentBytes = 0
    peakBytes = 0
  }

  /// Replaces the file. What cannot be written is not worth a run: a failure is passed over.
  func write(to path: String) {
    var object = JSONObject([
      ("process", .int(process)), ("host", .string(host)),
      ("command", .array(command.map { .string($0) })), ("folder", .string(workingFolder)),
      ("started", .int(started)), ("ranks", .int(ranks)), ("threads", .int(threads)),
      ("budget_bytes", .int(budget)),
      ("resident_bytes", .int(residentBytes)), ("peak_bytes", .int(peakBytes)),
    ])
    if let progress {
      object["step"] = .string(progress.step.rawValue)
      object["layer"] = .int(progress.layer)
      for (key, value) in progress.layers.fields { object[key] = value }
      object["tokens_done"] = .int(progress.tokensDone)
      object["tokens_in_step"] = .int(progress.tokensInStep)
      object["share"] = .double(progress.share)
      object["seconds_left"] = .double(progress.secondsLeft)
      object["tokens_per_second"] = .double(progress.tokensPerSecond)
      object["share_read"] = .double(progress.checked)
    }
    let text = JSONValue.object(object).serialized(indent: 2) + "\n"
    try? replaceFile(path, with: Array(text.utf8), durably: false)
  }

  /// - Returns: nil where there is no such file, or none that can be read.
  package init?(readingFrom path: String) {
    guard let bytes = try? FileSystem.readFile(path),
      let object = (try? JSONValue.parse(bytes))?.object,
      let process = object["process"]?.size, let host = object["host"]?.string,
      let command = object["command"]?.array, let folder = object["folder"]?.string,
      let started = object["started"]?.size, let threads = object["threads"]?.size,
      let budget = object["budget_bytes"]?.size, let resident = object["resident_bytes"]?.size,
      let peak = object["peak_bytes"]?.size
    else { return nil }
    self.process = process
    self.host = host
    self.command = command.compactMap(\.string)
    workingFolder = folder
    self.started = started
    ranks = object["ranks"]?.size ?? 1
    self.threads = threads
    self.budget = budget
    residentBytes = resident
    peakBytes = peak
    if let step = object["step"]?.string.flatMap(RunStep.init), let layers = LayerCount(object),
      let done = object["tokens_done"]?.size, let all = object["tokens_in_step"]?.size,
      let share = object["share"]?.double
    {
      progress = RunProgress(
        step: step, layer: object["layer"]?.size, layers: layers, tokensDone: done,
        tokensInStep: all, share: share, secondsLeft: object["seconds_left"]?.double,
        tokensPerSecond: object["tokens_per_second"]?.double, checked: object["share_read"]?.double)
    }
  }
}
