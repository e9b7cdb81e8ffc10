// A size on the command line: plan, measure, choose, write; killed, resumed, refused.

import Glibc
import JSON
import SystemIO
import Testing
import TestSupport

private let options = [
  "--calibration", fixtureCalibration, "--samples", "6", "--memory", "256MiB",
]
private let sized = options + ["--target-size", "5MB"]

@Suite struct SizeTests {
  /// All that is for the user, what was measured, the output as it is, and the milliseconds that it took.
  private static let reference = Result {
    try withTemporaryFolder { folder in
      let start = ContinuousClock.now
      let outcome = try quantize(to: "\(folder)/out", sized)
      return (
        milliseconds: (.now - start) / .milliseconds(1), files: try files("\(folder)/out"),
        output: try outputFiles("\(folder)/out"), outcome: outcome
      )
    }
  }

  private static func files(_ output: String) throws -> [String: [UInt8]] {
    var files = try result(output)
    files["measurements.json"] = try FileSystem.readFile("\(output)/.sluice/measurements.json")
    return files
  }

  @Test func `a run tells what it measures and what it chose`() throws {
    let outcome = try Self.reference.get().outcome
    for words in [
      "measuring: what W4A16, W8A16, BF16 would do to 19 groups of Linears",
      "layer 3 of 0-3: measured", "chosen: ", "W8A16 for ",
      "MiB of 4.77 MiB allowed, predicted loss 0.0",
      "done: ",
    ] {
      #expect(outcome.stderr.contains(words), "\(words) in \(outcome)")
    }
    // Once for both passes.
    #expect(outcome.messages.count { $0.hasPrefix("data: ") } == 1)
  }

  @Test(arguments: (0..<12).map { Double($0) / 11 })
  func `a killed run goes on to the same bytes`(part: Double) throws {
    let reference = try Self.reference.get()
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let command = ["quantize", fixtureModel, "--output", output] + sized
      _ = try Program(command).kill(after: part * reference.milliseconds)
      let second = try Program.run(command)
      #expect(second.end == .exit(0), "\(second)")
      #expect(differences(try Self.files(output), reference.files) == [])
    }
  }

  /// Stops the first pass.
  private func stopMeasuring(_ output: String) throws {
    let program = try Program.halted(
      ["quantize", fixtureModel, "--output", output] + sized, output: output)
    program.send(SIGINT)
    program.send(SIGCONT)
    _ = try program.wait()
  }

  @Test func `status tells of a pass that measures, and its share is of both`() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try stopMeasuring(output)
      let status = try Program.run(["status", output])
      #expect(status.stdout.contains("stopped, measuring in layer "), "\(status)")
      #expect(status.stdout.contains("to go on") && status.stdout.contains("--target-size 5MB"))
      let json = try Program.run(["status", output, "--json"]).stdout
      let object = try #require(try JSONValue.parse(Array(json.utf8)).object)
      #expect(object["measures"]?.bool == true && object["state"]?.string == "stopped")
      let share = try #require(object["share"]?.double)
      #expect(share > 0 && share < 0.7)
      for command in [
        ["report", output], ["verify", output], ["evaluate", output, "--text", fixtureCalibration],
      ] {
        let outcome = try Program.run(command)
        #expect(outcome.end == .exit(1), "\(outcome)")
        #expect(outcome.stderr.contains(output), "\(outcome)")
      }
    }
  }

  @Test func `a plan tells of both passes, and of the choice where it was measured`() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let plan = ["plan", fixtureModel, "--output", output] + sized
      let before = try Program.run(plan)
      for words in [
        "size      4.77 MiB allowed", "19 groups choose among W4A16, W8A16, BF16",
        "after a pass that measures", "both  ",
      ] {
        #expect(before.stdout.contains(words), "\(words) in \(before)")
      }
      try writeOutput(Self.reference.get().output, to: output)
      let after = try Program.run(plan)
      #expect(after.stdout.contains("from the measurements in the output folder"), "\(after)")
      let json = try Program.run(plan + ["--json"]).stdout
      let size = try #require(try JSONValue.parse(Array(json.utf8)).object?["size"]?.object)
      #expect(size["is_measured"]?.bool == true)
      let bytes = try #require(size["choice"]?.object?["bytes"]?.int)
      #expect(bytes <= 5_000_000 && bytes > 4_900_000)
      // The frontier serves any other size.
      let other = try Program.run(
        ["plan", fixtureModel, "--output", output, "--json"] + options + ["--target-bits", "5"])
      #expect(other.stdout.contains("\"is_measured\": true"), "\(other)")
    }
  }

  @Test func `another size goes on from what was measured`() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try writeOutput(Self.reference.get().output, to: output)
      let command =
        ["quantize", fixtureModel, "--output", output] + options + ["--target-size", "5.5MB"]
      let refused = try Program.run(command)
      #expect(refused.end == .exit(1), "\(refused)")
      #expect(refused.stderr.contains("--target-size 5000000, this run has 5500000"))
      #expect(refused.stderr.contains("--restart to start over; what was measured stays"))
      let second = try Program.run(command + ["--restart"])
      #expect(second.end == .exit(0), "\(second)")
      #expect(!second.stderr.contains("measuring"))
      let verify = try Program.run(["verify", output, "--source", fixtureModel])
      #expect(verify.end == .exit(0), "\(verify)")
    }
  }

  /// What is asked for beside the data, and what the refusal says.
  private static let usage: [(options: [String], words: [String])] = [
    (["--target-size", "5MB", "--target-bits", "4.5"], ["say the same"]),
    (["--target-size", "5MB", "--scheme", "W4A16"], ["--target-size", "--scheme", "--choices"]),
    (["--target-bits", "5", "--scheme", "attention=W8A16"], ["--target-bits", "--scheme"]),
    (["--choices", "W4A16"], ["--choices", "--target-size"]),
    (["--target-bits", "0"], ["more than 0"]), (["--target-bits", "nan"], ["more than 0"]),
    (["--target-size", "12"], ["12 bytes"]),
    (["--target-size", "5MB", "--choices", "W4A16,W9A16"], ["'W9A16'", "no scheme"]),
    (["--target-size", "5MB", "--choices", "W4A16,,BF16"], ["''", "no scheme"]),
    (["--target-size", "5MB", "--choices", "NVFP4"], ["NVFP4", "quantizes activations"]),
    (["--target-size", "5MB", "--choices", "bf16"], ["quantizes nothing"]),
  ]

  @Test(arguments: usage)
  func `what says nothing or two things is refused as usage`(
    options: [String], words: [String]
  ) throws {
    let outcome = try Program.run(["quantize", fixtureModel, "--output", "/nowhere"] + options)
    #expect(outcome.end == .exit(64), "\(outcome)")
    for word in words { #expect(outcome.stderr.contains(word), "\(word) in \(outcome)") }
  }

  @Test func `a size that is too small is refused with the smallest that is possible`() throws {
    try withTemporaryFolder { folder in
      let outcome = try Program.run(
        ["quantize", fixtureModel, "--output", "\(folder)/out"] + options + [
          "--target-size", "1MB",
        ])
      #expect(outcome.end == .exit(1), "\(outcome)")
      let named = try #require(
        outcome.stderr.firstMatch(of: /smallest output has .* \((\d+) bytes\)/))
      #expect(!FileSystem.exists("\(folder)/out"))
      let plan = try Program.run(
        ["plan", fixtureModel, "--json"] + options + ["--target-size", "\(named.1)"])
      #expect(plan.end == .exit(0), "\(plan)")
    }
  }
}
