// Stopped, killed, started again: the same bytes, or a refusal that says why.

import Glibc
import LinearAlgebra
import SystemIO
import Testing
import TestSupport

private let options = [
  "--calibration", fixtureCalibration, "--samples", "16", "--ignore", "model.layers.0.*",
  "--max-shard-size", "2MB", "--memory", "256MiB",
]

private func command(_ output: String, _ more: [String] = []) -> [String] {
  ["quantize", fixtureModel, "--output", output] + options + more
}

@Suite struct ResumeTests {
  /// An uninterrupted run and the milliseconds it took.
  private static let reference = Result {
    try withTemporaryFolder { folder in
      let start = ContinuousClock.now
      try quantize(to: "\(folder)/out", options)
      let time = ContinuousClock.now - start
      return (
        files: try result("\(folder)/out"),
        milliseconds: time / .milliseconds(1)
      )
    }
  }

  /// Starts a run and stops it by a signal when the first layer is done.
  private func stop(
    _ output: String, _ more: [String] = [], by signal: Int32 = SIGINT, in folder: String? = nil
  ) throws -> Outcome {
    while true {
      let program = try Program(command(output, more), in: folder)
      try program.waitForFirstLayer()
      program.send(signal)
      let outcome = try program.wait()
      // On a busy machine the run may be over before the signal comes: then once more.
      if outcome.end != .exit(0) { return outcome }
      try FileSystem.remove(folder.map { "\($0)/\(output)" } ?? output)
    }
  }

  @Test(arguments: [SIGINT, SIGTERM, SIGHUP])
  func aStoppedRunSaysSoAndGoesOn(signal: Int32) throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let stopped = try stop(output, by: signal)
      #expect(stopped.end == .exit(130), "\(stopped)")
      #expect(stopped.stderr.contains("the same command goes on"))
      // Copied into a shell, that is what was called.
      let words = [Program.path] + command(output).map { $0.contains("*") ? "'\($0)'" : $0 }
      #expect(stopped.messages.last == "  " + words.joined(separator: " "))
      #expect(!FileSystem.exists("\(output)/config.json"))
      let second = try Program.run(command(output))
      #expect(second.end == .exit(0), "\(second)")
      #expect(second.stderr.contains("going on"))
      #expect(differences(try result(output), try Self.reference.get().files) == [])
    }
  }

  /// Instants from before the first file to after the last, as parts of an uninterrupted run.
  @Test(arguments: (0..<25).map { Double($0) / 24 })
  func aKilledRunGoesOnToTheSameBytes(part: Double) throws {
    let reference = try Self.reference.get()
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      _ = try Program(command(output)).kill(after: part * reference.milliseconds)
      let second = try Program.run(command(output))
      #expect(second.end == .exit(0), "\(second)")
      #expect(differences(try result(output), reference.files) == [])
    }
  }

  @Test func killedAgainAndAgainItStillGetsThere() throws {
    let reference = try Self.reference.get()
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      var kills = 0
      var milliseconds = 10.0
      while true {
        let outcome = try Program(command(output)).kill(after: milliseconds)
        if outcome.end == .exit(0) { break }
        try #require(outcome.end == .signal(SIGKILL), "\(outcome)")
        kills += 1
        // Longer each time, so that a slow machine gets there too.
        milliseconds *= 1.1
      }
      #expect(kills > 3)
      #expect(differences(try result(output), reference.files) == [])
    }
  }

  @Test func memoryThreadsAndPathsMayChangeOnTheWay() throws {
    try withTemporaryFolder { folder in
      let stopped = try stop("out", in: folder)
      #expect(stopped.end == .exit(130), "\(stopped)")
      let second = try Program.run(
        command("\(folder)/out", ["--threads", "1", "--memory", "1GiB"]), in: "/")
      #expect(second.end == .exit(0), "\(second)")
      #expect(differences(try result("\(folder)/out"), try Self.reference.get().files) == [])
    }
  }

  @Test func aMovedOutputGoesOn() throws {
    try withTemporaryFolder { folder in
      _ = try stop("\(folder)/out")
      #expect(unsafe rename("\(folder)/out", "\(folder)/moved") == 0)
      let second = try Program.run(command("\(folder)/moved"))
      #expect(second.end == .exit(0), "\(second)")
      #expect(differences(try result("\(folder)/moved"), try Self.reference.get().files) == [])
    }
  }

  @Test(arguments: [
    (["--group-size", "64"], ["--group-size", "128", "64"]),
    (["--ignore", "lm_head"], ["--ignore", "model.layers.0.* lm_head"]),
    (["--samples", "15"], ["--samples 16", "15"]),
    (["--sequence-length", "20"], ["--sequence-length 2048", "20"]),
    (["--shuffle-seed", "3"], ["--shuffle-seed (not given)", "3"]),
    (["--pack"], ["--pack off", "on"]),
    (["--scheme", "W8A16"], ["--scheme W4A16", "W8A16"]),
    (["--no-smoothing"], ["--no-smoothing off", "on"]),
    (["--damping", "0.01"], ["--damping 0.005", "0.01"]),
    (["--loss", "gram"], ["--loss", "diagonal", "gram"]),
    (["--expert-tokens", "256"], ["--expert-tokens", "all", "256"]),
    (["--max-shard-size", "3MB"], ["--max-shard-size", "2000000", "3000000"]),
  ])
  func otherOptionsAreRefusedByName(more: [String], named: [String]) throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      _ = try stop(output)
      let before = try contents(output)
      let refused = try Program.run(command(output, more))
      expectRefusal(refused, named + ["this run has", "--restart"])
      #expect(try contents(output) == before)
    }
  }

  @Test(.enabled(if: Engine.bf16.isAvailable)) func anotherEngineIsRefusedByName() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      _ = try stop(output)
      let before = try contents(output)
      let refused = try Program.run(command(output, ["--engine", "f32"]))
      expectRefusal(
        refused, ["--engine \(Engine.bf16.name)", "this run has \(Engine.f32.name)", "--restart"])
      #expect(try contents(output) == before)
      // What was chosen by itself may be named.
      let second = try Program.run(command(output, ["--engine", "bf16"]))
      #expect(second.end == .exit(0), "\(second)")
      #expect(differences(try result(output), try Self.reference.get().files) == [])
    }
  }

  @Test func theFolderForHiddenStatesMayChangeOnTheWay() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      _ = try stop(output)
      for scratch in ["first", "second"] {
        let program = try Program(command(output, ["--scratch", "\(folder)/\(scratch)"]))
        usleep(150_000)
        program.send(SIGINT)
        _ = try program.wait()
        #expect(!FileSystem.exists("\(output)/.sluice/scratch"))
      }
      let last = try Program.run(command(output, ["--scratch", "\(folder)/first"]))
      #expect(last.end == .exit(0), "\(last)")
      #expect(differences(try result(output), try Self.reference.get().files) == [])
      #expect(try FileSystem.list("\(folder)/first") == [])
      #expect(try FileSystem.list("\(folder)/second") == [])
    }
  }

  /// The pipe that stderr goes to closes after a line, as with `| head -1`.
  @Test func aReaderThatGoesAwayStopsNothing() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let words = (["'\(Program.path)'"] + command(output).map { "'\($0)'" })
        .joined(separator: " ")
      #expect(unsafe system("\(words) 2>&1 | head -n 1 > '\(folder)/log'") == 0)
      let files = try result(output)
      #expect(differences(files, try Self.reference.get().files) == [])
    }
  }

  /// What has no flag is named by its file, with both values or with what may have changed.
  @Test func inputsWithoutAFlagAreRefusedByTheirFile() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let model = try SpoiledModel("\(folder)/model")
      let data = "\(folder)/data.jsonl"
      try write(try FileSystem.readFile(fixtureCalibration), to: data)
      let run =
        ["quantize", model.path, "--output", output] + options + ["--calibration", data]
      let program = try Program.halted(run, output: output)
      program.send(SIGINT)
      program.send(SIGCONT)
      try #require(try program.wait().end == .exit(130))

      let config = try FileSystem.readFile("\(model.path)/config.json")
      try model.change(
        "config.json", replacing: "\"use_cache\": true", with: "\"use_cache\": false")
      expectRefusal(
        try Program.run(run),
        ["`use_cache` in \(model.path)/config.json true, this run has false", "--restart"])
      try write(config, to: "\(model.path)/config.json")

      let rows = try FileSystem.readFile(fixtureCalibration).split(separator: UInt8(ascii: "\n"))
      try write(Array(rows.dropFirst().joined(separator: [UInt8(ascii: "\n")])), to: data)
      expectRefusal(
        try Program.run(run), ["calibration tokens", data, "tokenizer", model.path, "--restart"])
      // Another name for the same rows is none of these.
      try write(try FileSystem.readFile(fixtureCalibration), to: "\(folder)/moved.jsonl")
      let moved = try Program.run(run + ["--calibration", "\(folder)/moved.jsonl"])
      #expect(moved.end == .exit(0), "\(moved)")
    }
  }

  /// `nohup`, and a job in the background of a script, leave signals ignored.
  @Test(arguments: ["HUP", "INT", "TERM"])
  func aSignalThatIsIgnoredFromTheStartStaysIgnored(name: String) throws {
    let number = try #require(["HUP": SIGHUP, "INT": SIGINT, "TERM": SIGTERM][name])
    try withTemporaryFolder { folder in
      let evaluation = [
        "evaluate", fixtureModel, "--text", fixtureCalibration, "--samples", "16",
      ]
      for arguments in [command("\(folder)/out"), evaluation] {
        let program = try Program(arguments, environment: ["--ignore-signal=\(name)"])
        try program.waitForFirstLayer()
        program.send(number)
        let outcome = try program.wait()
        #expect(outcome.end == .exit(0), "\(outcome)")
        #expect(!outcome.stderr.contains("stopp"), "\(outcome)")
      }
    }
  }

  @Test func restartStartsOver() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      _ = try stop(output, ["--scheme", "W8A16"])
      let again = try Program.run(command(output, ["--restart"]))
      #expect(again.end == .exit(0), "\(again)")
      #expect(again.stderr.contains("starting"))
      #expect(differences(try result(output), try Self.reference.get().files) == [])
    }
  }

  @Test func aDamagedStateIsNotTrusted() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      _ = try stop(output)
      try write("{\"format\": 1".utf8, to: "\(output)/.sluice/state.json")
      expectRefusal(try Program.run(command(output)), ["state.json", "--restart"])
    }
  }

  @Test func aSecondProcessIsTurnedAway() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      _ = try stop(output)
      let lock = try #require(try FileLock(path: "\(output)/.sluice/lock"))
      expectRefusal(try Program.run(command(output)), [output, "another process"])
      withExtendedLifetime(lock) {}
    }
  }
}
