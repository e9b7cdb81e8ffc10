// sluice status: what it says of runs that go on, were stopped, were killed, are done.

import Glibc
import JSON
import SystemIO
import Testing
import TestSupport

private let options = [
  "--calibration", fixtureCalibration, "--samples", "16", "--memory", "128MiB",
]

@Suite struct StatusTests {
  private func status(_ output: String) throws -> JSONObject {
    let outcome = try Program.run(["status", output, "--json"])
    try #require(outcome.end == .exit(0), "\(outcome)")
    return try #require(try JSONValue.parse(Array(outcome.stdout.utf8)).object)
  }

  /// A run that was halted after its first layer, as a whole.
  private func withHaltedRun(_ output: String, _ body: (Program) throws -> Void) throws {
    let program = try Program.halted(
      ["quantize", fixtureModel, "--output", output] + options, output: output)
    defer { program.send(SIGKILL) }
    try body(program)
  }

  @Test func aRunIsFollowedFromOutsideAlsoAfterItsDeath() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try withHaltedRun(output) { program in
        let running = try status(output)
        #expect(running["state"]?.string == "running")
        #expect(running["layers"]?.int == 4)
        #expect((running["share"]?.double).map { $0 >= 0 && $0 < 1 } == true)
        #expect(running["budget_bytes"]?.int == 128 << 20)
        #expect((running["peak_bytes"]?.int).map { $0 > 10 << 20 && $0 < 128 << 20 } == true)
        let text = try Program.run(["status", output])
        #expect(text.stdout.contains("running (process"))
        #expect(text.stdout.contains("last commit"))

        program.send(SIGKILL)
        _ = try program.wait()
        let object = try status(output)
        #expect(object["state"]?.string == "stopped")
        #expect(object["reason"] == .null)
        #expect((object["share"]?.double).map { $0 > 0 && $0 < 1 } == true)
        let stopped = try Program.run(["status", output])
        #expect(stopped.stdout.contains("\(Program.path) quantize \(fixtureModel)"))
        #expect(stopped.stdout.contains("because      it was killed"))
        #expect(stopped.stdout.contains("% done"))
        // A process that got nowhere takes nothing away.
        let refused = try Program.run(
          ["quantize", fixtureModel, "--output", output] + options + ["--group-size", "32"])
        #expect(refused.end == .exit(1), "\(refused)")
        let later = try status(output)
        for key in ["share", "layers", "peak_bytes", "position", "command", "last_commit"] {
          #expect(later[key] == object[key], "\(key)")
        }
      }
      try quantize(to: output, options)
      let finished = try status(output)
      #expect(finished["state"]?.string == "finished")
      #expect(finished["share"]?.double == 1)
      #expect(finished["layers"]?.int == 4)
    }
  }

  @Test func `a run is watched to its end with the bar of its own terminal`() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try withHaltedRun(output) { program in
        let terminal = try Terminal(columns: 80)
        let watch = try Program(
          ["status", "--watch", output],
          environment: ["TERM=xterm", "NO_COLOR=1", "LC_ALL=C.UTF-8"], errors: terminal.path)
        // Before the first layer the source is checked, and a run that is halted may have told no more than that, or
        // so much that it knows when it ends.
        let bar = #/\d+ %  [━╸─]+  (ETA [0-9][^━]*?  )?(layer \d of 0-3  [a-z]+|check)/#
        func last() -> Substring { terminal.text.suffix(400) }
        try watch.waitUntil { last().contains(bar) }
        #expect(last().contains(bar), "\(last())")
        program.send(SIGCONT)
        // Until the run has ended, and then until the watch has seen it.
        #expect(try program.wait(reading: terminal).end == .exit(0))
        let outcome = try watch.wait(reading: terminal)
        #expect(outcome.end == .exit(0) && outcome.stdout.contains("\(output): finished"))
      }
      try FileSystem.remove(output)
      try withHaltedRun(output) { program in
        let watch = try Program(["status", "--watch", output])
        program.send(SIGKILL)
        _ = try program.wait()
        let outcome = try watch.wait()
        #expect(outcome.end == .exit(1) && outcome.stdout.contains(": stopped in layer "))
      }
    }
  }

  @Test func aStoppedRunSaysWhyAndHowFar() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try withHaltedRun(output) { program in
        program.send(SIGINT)
        program.send(SIGCONT)
        #expect(try program.wait().end == .exit(130))
        let text = try Program.run(["status", output]).stdout
        #expect(text.contains("because      a signal asked it to"), "\(text)")
        #expect(text.contains("stopped in layer "), "\(text)")
        #expect(text.contains("% done"), "\(text)")
      }
      #expect(try status(output)["reason"]?.string == "a signal asked it to")
    }
  }

  /// Also one that is still written to.
  @Test func anUnfinishedOutputIsSaidToBeOne() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let readings = [
        ["verify", output], ["verify", output, "--source", fixtureModel],
        ["evaluate", output, "--text", fixtureCalibration],
        ["evaluate", fixtureModel, "--reference", output, "--text", fixtureCalibration],
      ]
      try withHaltedRun(output) { program in
        for reading in readings {
          expectRefusal(
            try Program.run(reading), [output, "unfinished", "a run is writing", "sluice status"])
        }
        program.send(SIGKILL)
        _ = try program.wait()
        for reading in readings {
          expectRefusal(
            try Program.run(reading),
            [
              output, "unfinished", "% done", "go on with `cd ",
              "\(Program.path) quantize \(fixtureModel)",
            ])
        }
      }
    }
  }

  @Test func lookingChangesNothing() throws {
    try withTemporaryFolder { folder in
      try quantize(to: "\(folder)/out", options)
      let before = try contents(folder)
      _ = try status("\(folder)/out")
      #expect(try contents(folder) == before)
    }
  }

  @Test func whatIsNoRunIsSaidToBeNone() throws {
    try withTemporaryFolder { folder in
      expectRefusal(try Program.run(["status", "\(folder)/none"]), ["none", "no such folder"])
      expectRefusal(try Program.run(["status", folder]), [folder, "not an output of Sluice"])
      try quantize(to: "\(folder)/out", options)
      try write("{}".utf8, to: "\(folder)/out/.sluice/state.json")
      expectRefusal(try Program.run(["status", "\(folder)/out"]), ["state.json", "--restart"])
    }
  }
}
