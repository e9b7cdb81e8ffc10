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
    while true {
      let program = try Program(["quantize", fixtureModel, "--output", output] + options)
      try program.waitForFirstLayer()
      program.send(SIGSTOP)
      // On a busy machine the run may be over before the signal comes: then once more.
      if FileSystem.exists("\(output)/config.json") {
        program.send(SIGCONT)
        _ = try program.wait()
        try FileSystem.remove(output)
        continue
      }
      defer { program.send(SIGKILL) }
      return try body(program)
    }
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
        #expect(try status(output)["state"]?.string == "stopped")
        let stopped = try Program.run(["status", output])
        #expect(stopped.stdout.contains("\(Program.path) quantize \(fixtureModel)"))
      }
      try quantize(to: output, options)
      #expect(try status(output)["state"]?.string == "finished")
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
