// Whole runs in every preset: what is written is whole, the same for every memory and thread count, and close to its source.

import CompressedTensors
import JSON
import Quantization
import SystemIO
import Testing
import TestSupport

@Suite struct FormatRunTests {
  private static let options = ["--calibration", fixtureCalibration, "--samples", "4"]

  private static let presets = CompressionFormats.presets.map(\.name)

  @Test(arguments: presets)
  func `a preset is written whole, the same for every memory and thread count`(
    preset: String
  ) throws {
    try withTemporaryFolder { folder in
      let own = Self.options + ["--scheme", preset]
      let run = try quantize(
        to: "\(folder)/one", own + ["--threads", "2", "--memory", "512MiB"])
      #expect(!run.stderr.contains("over the budget"), "\(run)")
      try quantize(to: "\(folder)/two", own + ["--threads", "3", "--memory", "160MiB"])
      #expect(differences(try result("\(folder)/one"), try result("\(folder)/two")) == [])
      let verify = try Program.run(["verify", "\(folder)/one", "--source", fixtureModel])
      #expect(verify.end == .exit(0), "\(verify)")
      let inspect = try Program.run(["inspect", "\(folder)/one"])
      let scheme = try SchemePreset.written(preset)
      // FP8 is told by how it is scaled.
      let words = preset.hasPrefix("FP8") ? "FP8, a scale" : CompressionFormats.name(of: scheme)
      #expect(inspect.stdout.contains(words), "\(inspect)")
      let config = try JSONValue.parse(FileSystem.readFile("\(folder)/one/config.json"))
      let group = config.object?["quantization_config"]?.object?["config_groups"]?.object?[
        "group_0"]
      #expect(
        group?.object?["format"]?.string == CompressionFormats.name(of: scheme), "\(preset)")
      #expect((group?.object?["input_activations"] == .null) == (scheme.inputActivations == nil))
      let warned = run.stderr.contains("does not load")
      #expect(
        warned == (CompressionFormats.loadingProblem(scheme, forExperts: true) != nil), "\(run)")
    }
  }

  /// By the KL to the original: numbers of 8 bits, 4 bits, 3 bits.
  @Test(arguments: [
    ("W8A8", 0.002), ("FP8_DYNAMIC", 0.01), ("FP8_BLOCK", 0.01), ("MXFP8", 0.01),
    ("NVFP4A16", 0.05), ("MXFP4", 0.1), ("W3A16", 0.3),
  ])
  func `what is written speaks like its source`(preset: String, most: Double) throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try quantize(
        to: output, ["--calibration", fixtureCalibration, "--samples", "8", "--scheme", preset])
      let evaluated = try Program.run([
        "evaluate", output, "--reference", fixtureModel, "--text", fixtureCalibration,
        "--samples", "4", "--json",
      ])
      let object = try #require(
        try JSONValue.parse(Array(evaluated.stdout.utf8)).object, "\(evaluated)")
      let found = try #require(object["kl_mean"]?.double)
      #expect(found > 0 && found < most, "\(found)")
    }
  }

  /// Every format beside another, and a tensor's own scales beside those of groups.
  @Test func `parts of a model have formats of their own`() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try quantize(
        to: output,
        Self.options + [
          "--scheme", "MXFP4A16", "--scheme", "attention=FP8_BLOCK", "--scheme", "shared=NVFP4A16",
          "--scheme", "dense=W8A8",
        ])
      let verify = try Program.run(["verify", output, "--source", fixtureModel])
      #expect(verify.end == .exit(0), "\(verify)")
      let config = try JSONValue.parse(FileSystem.readFile("\(output)/config.json"))
      #expect(
        config.object?["quantization_config"]?.object?["format"]?.string == "mixed-precision")
      let evaluated = try Program.run([
        "evaluate", output, "--reference", fixtureModel, "--text", fixtureCalibration,
        "--samples", "2",
      ])
      #expect(evaluated.end == .exit(0), "\(evaluated)")
    }
  }

  private static let killed = ["FP8_BLOCK", "NVFP4A16"]

  /// An uninterrupted run and the milliseconds that it took.
  private struct Whole {
    let preset: String
    let milliseconds: Double
    let files: [String: [UInt8]]

    init(_ preset: String) throws {
      self.preset = preset
      (milliseconds, files) = try withTemporaryFolder { folder in
        let start = ContinuousClock.now
        try quantize(to: "\(folder)/out", ["--scheme", preset] + FormatRunTests.options)
        let time = ContinuousClock.now - start
        return (time / .milliseconds(1), try result("\(folder)/out"))
      }
    }
  }

  private static let wholes = Result { try killed.map { try Whole($0) } }

  @Test(arguments: killed, [0.4, 0.7])
  func `a killed run goes on to the same scales of whole weights`(
    preset: String, part: Double
  ) throws {
    let whole = try #require(Self.wholes.get().first { $0.preset == preset })
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let command =
        ["quantize", fixtureModel, "--output", output, "--scheme", preset] + Self.options
      _ = try Program(command).kill(after: part * whole.milliseconds)
      let second = try Program.run(command)
      #expect(second.end == .exit(0), "\(second)")
      #expect(differences(whole.files, try result(output)) == [])
    }
  }

  @Test(arguments: ["256", "channel"])
  func `integers may share a scale in 256 columns or a whole row`(size: String) throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try quantize(to: output, Self.options + ["--scheme", "W4A16", "--group-size", size])
      let verify = try Program.run(["verify", output, "--source", fixtureModel])
      #expect(verify.end == .exit(0), "\(verify)")
      let inspect = try Program.run(["inspect", output])
      #expect(
        inspect.stdout.contains(
          size == "256" ? "in groups of 256" : "with a scale for each channel"), "\(inspect)")
    }
  }
}
