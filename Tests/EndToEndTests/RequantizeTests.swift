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
      let again = try requantize(["--rounding", "fast", "--ignore", "model.layers.0.*"])
      #expect(again.end == .exit(0), "\(again)")
      try quantize([
        "--scheme", "W4A16", "--scheme", #"re:model\.layers\.(1)\..*=W8A16"#, "-o", "second/out",
        "--rounding", "fast", "--ignore", "model.layers.0.*",
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
}
