// sluice status: where a run is, from another terminal or after a crash.

import ArgumentParser
internal import Glibc
internal import JSON
internal import Pipeline
internal import Planning
internal import Reporting
internal import SystemIO

struct Status: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Tell where a run is: layer and step, share done, memory, time left, last commit.",
    discussion: """
      Works from another terminal while a run goes on, and after it ended in whatever way. Looks \
      only; disturbs nothing. --watch follows a run to its end with the bar that its own terminal \
      shows; the exit code is then 1 where the run stopped before it was done.

      EXAMPLES
        sluice status GLM-4.6-W4A16
        sluice status --watch GLM-4.6-W4A16
      """)

  @Argument(help: "The output folder of sluice quantize.", completion: .directory)
  var output: String

  @Flag(help: "Follow the run to its end.")
  var watch = false

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    if watch, json {
      throw ValidationError("--watch is for people, and --json for programs; leave one of them out")
    }
  }

  func run() throws {
    if watch { try follow() }
    let status = try RunStatus(output: trimmed(output))
    json ? Console.out(Self.json(status).serialized(indent: 2)) : Console.show(text(status))
    if watch, status.phase != .finished { throw ExitCode(1) }
  }

  /// Until no process works on it.
  private func follow() throws {
    var line = LiveLine()
    defer { Console.endLive() }
    // One pass may end a moment before the next begins.
    var idle = 0
    while idle < 3 {
      idle += 1
      do {
        let status = try RunStatus(output: trimmed(output))
        if status.phase == .finished { return }
        if status.phase == .running { idle = 0 }
        if let record = status.record, let progress = record.progress, idle == 0 {
          line.show(ProgressMoment(progress, residentBytes: record.residentBytes))
        }
      } catch let error as NoRun where error.isBeginning {
        idle = 0
      }
      usleep(250_000)
    }
  }

  private func text(_ status: RunStatus) -> String {
    var first =
      "\(trimmed(output)): \(status.phase.rawValue)" + (status.isMeasuring ? ", measuring" : "")
    let share = status.share.map { ", \(percentText($0)) done" } ?? ""
    switch status.phase {
    case .finished: first += " \(dateText(status.lastCommit))"
    case .stopped:
      first += status.position.layer.map { " in \(status.layers.place(of: $0))" } ?? ""
      first += share
    case .running:
      if let record = status.record {
        first += " (process \(record.process) on \(TerminalText.line(record.host)))"
        if let progress = record.progress {
          first += progress.layer.map { ", \(progress.layers.place(of: $0))" } ?? ""
          first += ", \(progress.step.rawValue)"
        }
      }
      first += share
      if let left = status.record?.progress?.secondsLeft {
        first += ", about \(durationText(left)) left"
      }
    }
    var lines = [first]
    if status.phase == .stopped {
      lines.append("because      \(TerminalText.line(status.reason ?? Self.noReason))")
    }
    if let record = status.record {
      let now = status.phase == .running ? "\(bytesText(record.residentBytes)) now, " : ""
      let each = record.ranks > 1 ? " for each of \(record.ranks) ranks" : ""
      lines.append(
        "memory       \(now)\(bytesText(status.peakBytes)) at the peak, of \(bytesText(record.budget))\(each)"
      )
    }
    if status.phase != .finished {
      lines.append(
        "last commit  \(dateText(status.lastCommit)) (\(durationText(Double(time(nil)) - Double(status.lastCommit))) "
          + "ago): \(status.position) is next")
    }
    if !status.filesGone.isEmpty {
      lines.append(
        "gone         \(TerminalText.line(status.filesGone.joined(separator: ", "))); the command that made the "
          + "output makes it again")
    }
    if status.phase == .stopped {
      if let record = status.record {
        lines.append(
          "to go on     cd \(TerminalText.escaped(shellText([record.workingFolder]), keepsLines: false))"
        )
        lines.append(
          "             \(TerminalText.escaped(shellText(record.command), keepsLines: false))")
      } else {
        lines.append("to go on     give the command of that run again")
      }
    }
    if let another {
      let command = TerminalText.escaped(
        shellText(["sluice", "status", another]), keepsLines: false)
      lines.append("another one is being made: \(command)")
    }
    return lines.joined(separator: "\n")
  }

  /// The folder where sluice requantize makes what will take this one's place; nil where there is none.
  private var another: String? {
    let output = trimmed(output)
    // It lies beside what a link leads to.
    let real = FileSystem.resolved(output)
    let place = ".\(FileSystem.name(real)).requantize/\(FileSystem.name(real))"
    let typed = output.contains("/") ? "\(FileSystem.parent(output))/\(place)" : place
    return [typed, "\(FileSystem.parent(real))/\(place)"].first {
      FileSystem.exists("\($0)/.sluice")
    }
  }

  private static let noReason = "it was killed, or the machine went down: it left no word"

  private static func json(_ status: RunStatus) -> JSONValue {
    var object = JSONObject(
      [
        ("state", .string(status.phase.rawValue)), ("measures", .bool(status.isMeasuring)),
        ("position", .string("\(status.position)")),
        ("last_commit", .string(dateText(status.lastCommit))),
        ("share", .double(status.share)),
      ] + status.layers.fields + [
        ("peak_bytes", .int(status.peakBytes)),
        ("files_gone", .array(status.filesGone.map { .string($0) })),
      ])
    if status.phase == .stopped { object["reason"] = .text(status.reason) }
    guard let record = status.record else { return .object(object) }
    object["process"] = .int(record.process)
    object["host"] = .string(record.host)
    object["ranks"] = .int(record.ranks)
    object["started"] = .string(dateText(record.started))
    object["command"] = .array(record.command.map { .string($0) })
    object["folder"] = .string(record.workingFolder)
    object["threads"] = .int(record.threads)
    object["budget_bytes"] = .int(record.budget)
    object["resident_bytes"] = .int(record.residentBytes)
    if let progress = record.progress {
      object["layer"] = .int(progress.layer)
      object["step"] = .string(progress.step.rawValue)
      object["tokens_done"] = .int(progress.tokensDone)
      object["tokens_in_step"] = .int(progress.tokensInStep)
      object["seconds_left"] = .double(progress.secondsLeft)
      object["tokens_per_second"] = .double(progress.tokensPerSecond)
    }
    return .object(object)
  }
}
