// Real MPI jobs: as many ranks as are asked for, killed, stopped and begun again, and always the same bytes.

import Glibc
import JSON
import Ranks
import SystemIO
import Testing
import TestSupport

/// Whether the program was built for MPI, and a launcher is here.
private let hasLauncher =
  Launcher.isBuiltIn && (try? Program.run([], script: "command -v mpirun"))?.end == .exit(0)

@Suite(.serialized, .enabled(if: hasLauncher)) struct RanksTests {
  private static let launcher =
    "exec mpirun --allow-run-as-root --oversubscribe -n"

  private func command(_ output: String, _ more: [String] = []) -> [String] {
    [
      "quantize", fixturePath("glm4-moe-4m"), "-o", output, "--calibration",
      fixturePath("calibration.jsonl"), "--samples", "12", "--memory", "256MiB", "--threads", "1",
      "--ignore", "model.layers.0.*",
    ] + more
  }

  private static let reference = Result {
    try withTemporaryFolder { folder in
      let begun = ContinuousClock.now
      let outcome = try Program.run(RanksTests().command(folder + "/out"))
      try #require(outcome.end == .exit(0), "\(outcome)")
      let seconds = Double((ContinuousClock.now - begun).components.seconds) + 1
      return (files: try files(folder + "/out"), seconds: seconds)
    }
  }

  /// Everything of an output that is not about its run.
  private static func files(_ output: String) throws -> [String: [UInt8]] {
    var result: [String: [UInt8]] = [:]
    for name in try FileSystem.list(output) where FileSystem.isFile("\(output)/\(name)") {
      result[name] = try FileSystem.readFile("\(output)/\(name)")
    }
    for name in ["choices.jsonl", "checksums.txt"] {
      result[name] = try FileSystem.readFile("\(output)/.sluice/\(name)")
    }
    return result
  }

  private func start(_ ranks: Int, _ arguments: [String]) throws -> Program {
    try Program(arguments, script: "\(Self.launcher) \(ranks) \"$@\"")
  }

  private func expectSame(_ output: String) throws {
    let expected = try Self.reference.get().files
    let found = try Self.files(output)
    #expect(found.keys.sorted() == expected.keys.sorted())
    for (name, bytes) in expected { #expect(found[name] == bytes, "\(name)") }
  }

  /// Processes of a job that have an output among their words, by rank.
  private func ranks(of output: String) throws -> [Int: pid_t] {
    var result: [Int: pid_t] = [:]
    for entry in try FileSystem.list("/proc") {
      guard let process = pid_t(entry),
        let words = try? FileSystem.readFile("/proc/\(entry)/cmdline"),
        let variables = try? FileSystem.readFile("/proc/\(entry)/environ")
      else { continue }
      let isProgram = words.starts(with: Array(Program.path.utf8))
      guard isProgram, String(decoding: words, as: UTF8.self).contains(output) else { continue }
      for variable in variables.split(separator: 0) {
        let text = String(decoding: variable, as: UTF8.self)
        if text.hasPrefix("OMPI_COMM_WORLD_RANK="), let rank = Int(text.dropFirst(21)) {
          result[rank] = process
        }
      }
    }
    return result
  }

  /// Until a task of a window is done.
  private func waitForTask(_ output: String, of job: Program) throws {
    let isDone = try job.waitUntil {
      let names = (try? FileSystem.list(output + "/.sluice/tasks")) ?? []
      return names.contains { $0.hasSuffix(".json") }
    }
    let told = try job.stderr
    if !isDone { Issue.record("no task was done: \(told)") }
  }

  /// Halts a rank and waits for that by its state: it is no child of this process.
  private func halt(_ process: pid_t) {
    kill(process, SIGSTOP)
    while let bytes = try? FileSystem.readFile("/proc/\(process)/stat") {
      let text = String(decoding: bytes, as: UTF8.self)
      if text.contains(") T ") || text.contains(") Z ") { return }
      usleep(1000)
    }
  }

  @Test(arguments: [2, 4])
  func aJobGivesTheBytesOfOneProcess(ranks: Int) throws {
    try withTemporaryFolder { folder in
      let own = folder + "/own"
      let local = ranks == 2 ? [] : ["--local-scratch", own]
      let tokens = folder + "/tokens.jsonl"
      let outcome = try start(
        ranks, command(folder + "/out", local + ["--save-tokens", tokens])
      ).wait()
      #expect(outcome.end == .exit(0), "\(outcome)")
      try expectSame(folder + "/out")
      // By one of them, whole.
      let rows = try FileSystem.readFile(tokens).split(separator: UInt8(ascii: "\n"))
      #expect(rows.count == 12)
      if ranks > 2 { #expect(try FileSystem.list(own) == []) }
      let status = try Program.run(["status", folder + "/out"])
      #expect(status.stdout.contains("\(ranks) ranks"), "\(status)")
      // The last lines of the run and its report speak of all ranks.
      let report = try JSONValue.parse(FileSystem.readFile(folder + "/out/.sluice/report.json"))
      let all = try #require(report.object?["cost"]?.object?["processor_seconds"]?.double)
      let told = try #require(processorSeconds(toldIn: outcome.stdout + outcome.stderr))
      #expect(abs(told - all) < 0.2 * all, "\(told) s told, \(all) s in the report")
    }
  }

  /// `1 min 2 s of processor time` in seconds.
  private func processorSeconds(toldIn text: String) -> Double? {
    guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("done: ") }),
      let words = line.split(separator: ", ").last?.split(separator: " ")
    else { return nil }
    let units = ["ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0]
    var sum: Double?
    for (number, unit) in zip(words, words.dropFirst()) {
      if let value = Double(number), let unit = units[String(unit)] {
        sum = (sum ?? 0) + value * unit
      }
    }
    return sum
  }

  /// Any rank, at any time; then the same command with another number of ranks, or alone.
  @Test(arguments: [(0, 0.2, 2), (1, 0.4, 1), (1, 0.6, 3), (0, 0.8, 2), (2, 0.5, 2)])
  func aJobWhoseRankIsKilledGoesOn(rank: Int, part: Double, next: Int) throws {
    let seconds = try Self.reference.get().seconds
    try withTemporaryFolder { folder in
      let output = folder + "/out"
      let job = try start(3, command(output))
      usleep(UInt32(part * seconds * 1e6))
      if let process = try ranks(of: output)[rank] { kill(process, SIGKILL) }
      let outcome = try job.wait()
      let again =
        try next == 1 ? Program.run(command(output)) : start(next, command(output)).wait()
      #expect(again.end == .exit(0), "\(outcome)\n\(again)")
      try expectSame(output)
    }
  }

  @Test func aJobWhoseLauncherIsKilledStopsAndGoesOn() throws {
    try withTemporaryFolder { folder in
      let output = folder + "/out"
      let job = try start(2, command(output))
      try waitForTask(output, of: job)
      job.send(SIGKILL)
      _ = try job.wait()
      for _ in 0..<200 where try !ranks(of: output).isEmpty { usleep(100_000) }
      #expect(try ranks(of: output).isEmpty)
      let again = try Program.run(command(output))
      #expect(again.end == .exit(0), "\(again)")
      try expectSame(output)
    }
  }

  @Test func aRankThatHangsStopsTheOthersByItsName() throws {
    try withTemporaryFolder { folder in
      let output = folder + "/out"
      let job = try start(2, command(output, ["--samples", "48"]))
      try waitForTask(output, of: job)
      let hanging = try #require(try ranks(of: output)[1])
      halt(hanging)
      let outcome = try job.wait()
      kill(hanging, SIGKILL)
      #expect(outcome.end != .exit(0))
      #expect(outcome.stderr.contains("rank 1 on "), "\(outcome)")
      #expect(outcome.stderr.contains("no sign of life"), "\(outcome)")
    }
  }

  @Test func aSecondJobOnOneOutputIsRefused() throws {
    try withTemporaryFolder { folder in
      let output = folder + "/out"
      let job = try start(2, command(output, ["--samples", "48"]))
      try waitForTask(output, of: job)
      // Else the first job may end, and give the lock back, before the second asks for it.
      let halted = try Array(ranks(of: output).values)
      for process in halted { halt(process) }
      #expect(halted.count == 2)
      let second = try start(2, command(output, ["--samples", "48"])).wait()
      #expect(second.end != .exit(0))
      #expect(second.stderr.contains("another process is writing there"), "\(second)")
      for process in halted { kill(process, SIGCONT) }
      job.send(SIGTERM)
      _ = try job.wait()
    }
  }

  @Test func otherWorkThanTheFirstRankIsRefusedByItsHost() throws {
    try withTemporaryFolder { folder in
      let words = command(folder + "/out")
      let outcome = try Program.run(
        words,
        script: "\(Self.launcher) 1 \"$@\" : -n 1 \"$@\" --rounding nearest")
      #expect(outcome.end != .exit(0))
      #expect(outcome.stderr.contains("rank 1 on "), "\(outcome)")
      #expect(outcome.stderr.contains("all ranks need the same"), "\(outcome)")
      #expect(!FileSystem.exists(folder + "/out/config.json"))
    }
  }

  @Test func commandsOfOneProcessAreRefusedToSeveral() throws {
    let outcome = try start(2, ["verify", fixturePath("glm4-moe-4m")]).wait()
    #expect(outcome.end != .exit(0))
    #expect(outcome.stderr.contains("only `sluice quantize` shares its work"), "\(outcome)")
  }
}
