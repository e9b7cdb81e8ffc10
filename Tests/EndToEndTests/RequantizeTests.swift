// sluice requantize as a user runs it: from any folder, with paths that are relative to another one.

import SystemIO
import Testing
import TestSupport

@Suite struct RequantizeTests {
  @Test
  func `an output is changed from another folder, twice, and is what a run from scratch makes`()
    throws
  {
    try withTemporaryFolder { folder in
      for name in ["there", "here"] { try FileSystem.createFolder("\(folder)/\(name)") }
      try FileSystem.copyFile(from: fixtureCalibration, to: "\(folder)/there/rows.jsonl")
      let options = ["--calibration", "rows.jsonl", "--samples", "6", "--memory", "256MiB"]
      func quantize(_ words: [String]) throws {
        let outcome = try Program.run(
          ["quantize", fixtureModel] + options + words, in: folder + "/there")
        #expect(outcome.end == .exit(0), "\(outcome)")
      }
      try quantize(["--scheme", "W4A16", "-o", "first/out", "--keep-states", "states"])
      func requantize(_ words: [String]) throws -> Outcome {
        try Program.run(["requantize", "../there/first/out"] + words, in: folder + "/here")
      }
      let change = try requantize(["--scheme", "W8A16", "--layers", "1"])
      #expect(change.end == .exit(0), "\(change)")
      #expect(change.stderr.contains("layer 0 of 0-3: as it was"), "\(change)")
      let again = try requantize([
        "--rounding", "fast", "--ignore", "model.layers.0.*", "--expert-tokens", "200",
      ])
      #expect(again.end == .exit(0), "\(again)")
      try quantize([
        "--scheme", "W4A16", "--scheme", #"re:model\.layers\.(1)\..*=W8A16"#, "-o", "second/out",
        "--rounding", "fast", "--ignore", "model.layers.0.*", "--expert-tokens", "200",
      ])
      #expect(try result("\(folder)/there/first/out") == result("\(folder)/there/second/out"))
      let same = try requantize(["--rounding", "fast"])
      #expect(same.end == .exit(0) && same.stderr.contains("nothing to do"), "\(same)")
      expectRefusal(
        try requantize(["--scheme", "W4A16", "--layers", "1-7"]),
        ["--layers 1-7", "the layers 0 to 3"])
      #expect(try requantize([]).stderr.contains("nothing to change"))
    }
  }

  /// Not of the run that made the old one: `sluice quantize --restart` would remove that.
  @Test func `a new output that was damaged is begun anew by the command that makes it`() throws {
    try withTemporaryFolder { folder in
      let output = folder + "/out"
      try quantize(to: output)
      let work = folder + "/.out.requantize/out/.sluice"
      try FileSystem.createFolder(work)
      try write("{}".utf8, to: work + "/state.json")
      let change = ["requantize", output, "--scheme", "W8A16", "--memory", "256MiB"]
      expectRefusal(
        try Program.run(change),
        [
          ".out.requantize/out/.sluice/state.json",
          "sluice requantize --restart where that makes it",
        ])
      #expect(FileSystem.exists(output + "/config.json"))
      let again = try Program.run(change + ["--restart"])
      #expect(again.end == .exit(0), "\(again)")
    }
  }

  /// `--restart` of the command that changes it would leave its state as it is, and that of the one that made it would
  /// remove an output that may be whole.
  @Test func `an output whose state is damaged is made again beside it`() throws {
    let made = try QuickRun.made.get()
    try withTemporaryFolder { folder in
      let output = folder + "/out"
      try writeOutput(made.output, to: output)
      let change = ["requantize", output, "--scheme", "W8A16", "--memory", "256MiB"]
      for (state, problem) in [
        ("{}", "it names no format"), ("{\"format\":1}", "written by another version of Sluice"),
      ] {
        try write(state.utf8, to: output + "/.sluice/state.json")
        for words in [change, change + ["--restart"]] {
          let outcome = try Program.run(words)
          expectRefusal(
            outcome,
            ["out/.sluice/state.json: \(problem)", "again in another folder with sluice quantize"])
          #expect(!outcome.stderr.contains("--restart"), "\(outcome)")
        }
      }
      // What it advises.
      try quantize(to: folder + "/another", quickly)
      let changed = try Program.run(
        ["requantize", folder + "/another", "--scheme", "W8A16", "--memory", "256MiB"])
      #expect(changed.end == .exit(0), "\(changed)")
    }
  }

  @Test func `prediction layers are quantized later, and every event is in the Guide`() throws {
    try withTemporaryFolder { folder in
      let rows = (0..<12).map { row in
        "{\"input_ids\": \((0..<24).map { (7 * row + 5 * $0) % 64 })}\n"
      }
      try write(rows.joined().utf8, to: "\(folder)/ids.jsonl")
      let model = fixturePath("predictions/glm4-moe-one")
      func run(_ words: [String]) throws -> Outcome {
        let outcome = try Program.run(words + ["--memory", "256MiB"], in: folder)
        #expect(outcome.end == .exit(0), "\(outcome)")
        return outcome
      }
      let quantize = ["quantize", model, "--group-size", "32", "--calibration", "ids.jsonl", "-o"]
      _ = try run(quantize + ["later", "--keep-states", "states"])
      let change = try run(["requantize", "later", "--mtp", "W8A16", "--log", "json"])
      _ = try run(quantize + ["once", "--mtp", "W8A16"])
      #expect(try result("\(folder)/later") == result("\(folder)/once"))
      try expectInGuide(change.messages)
      #expect(change.stderr.contains("\"layers\":2,\"prediction_layers\":1"), "\(change)")
      let status = try Program.run(["status", "later", "--json"], in: folder)
      #expect(status.stdout.contains("\"prediction_layers\": 1"), "\(status)")
      expectRefusal(
        try Program.run(["requantize", "later", "--target-size", "1MB"], in: folder),
        ["a size is for the layers of the model alone"])
    }
  }

  @Test func `data from stdin cannot be calibrated on again`() throws {
    try withTemporaryFolder { folder in
      let quantize = [
        "quantize", fixtureModel, "-o", "out", "--samples", "4", "--calibration",
        "\(fixtureCalibration):0.5,-:0.5",
      ]
      let outcome = try Program.run(
        quantize + ["--rounding", "clip", "--memory", "256MiB"], in: folder,
        script: "exec \"$@\" < \(fixtureCalibration)")
      #expect(outcome.end == .exit(0), "\(outcome)")
      expectRefusal(
        try Program.run(["requantize", "out", "--scheme", "W8A16"], in: folder),
        ["its calibration data came from stdin, which is gone"])
    }
  }
}
