// A checkpoint whose Linears share tensors, as a user meets it: every command, kills, and the peak of memory.

import JSON
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport

private let options = [
  "--calibration", fixtureCalibration, "--samples", "16", "--ignore", "model.layers.0.*",
  "--ignore", "model.layers.1.mlp.experts.*", "--memory", "256MiB",
]

@Suite struct SharedTensorTests {
  private static let reference = Result {
    try withTemporaryFolder { folder in
      let start = ContinuousClock.now
      try quantize(to: "\(folder)/out", options)
      return (
        files: try result("\(folder)/out"),
        milliseconds: (ContinuousClock.now - start) / .milliseconds(1)
      )
    }
  }

  private func write(_ experts: SharedSource.Experts, to folder: String) throws {
    let source = try SharedSource(fixtureModel)
    try source.write(source.joined(experts: experts, joins: true), to: folder)
  }

  @Test(arguments: [SharedSource.Experts.rows, .columns])
  func everyCommandReadsIt(experts: SharedSource.Experts) throws {
    try withTemporaryFolder { folder in
      let (model, output) = ("\(folder)/model", "\(folder)/out")
      try write(experts, to: model)
      let inspected = try Program.run(["inspect", model, "--tensors"])
      #expect(inspected.end == .exit(0) && inspected.stdout.contains("mlp.experts.gate_up_proj"))
      let planned = try Program.run(["plan", model] + options)
      #expect(planned.end == .exit(0) && planned.stdout.contains("(69 Linears)"), "\(planned)")
      try quantize(model, to: output, options)
      #expect(differencesBesideCard(try result(output), try Self.reference.get().files) == [])
      let verified = try Program.run(["verify", output, "--source", model])
      #expect(
        verified.end == .exit(0) && verified.stdout.contains("no findings"), "\(verified)")
      let evaluated = try Program.run(
        [
          "evaluate", model, "--reference", fixtureModel, "--text", fixtureCalibration,
          "--samples", "4",
        ])
      #expect(evaluated.stdout.contains("mean 0.0,"), "\(evaluated)")
    }
  }

  @Test(arguments: [0.3, 0.5, 0.7, 0.9])
  func aKilledRunGoesOnToTheSameBytes(part: Double) throws {
    let reference = try Self.reference.get()
    try withTemporaryFolder { folder in
      try write(.columns, to: "\(folder)/model")
      let command = ["quantize", "\(folder)/model", "--output", "\(folder)/out"] + options
      _ = try Program(command).kill(after: part * reference.milliseconds)
      let second = try Program.run(command)
      #expect(second.end == .exit(0), "\(second)")
      #expect(differencesBesideCard(try result("\(folder)/out"), reference.files) == [])
    }
  }

  @Test func aWrongShapeIsRefusedByName() throws {
    try withTemporaryFolder { folder in
      let source = try SharedSource(fixtureModel)
      let tensors = source.joined(experts: .rows, joins: false).map { tensor in
        var tensor = tensor
        if tensor.name == "model.layers.2.mlp.experts.down_proj" { tensor.shape = [4, 256, 256] }
        return tensor
      }
      try source.write(tensors, to: folder)
      for command in [
        ["plan", folder], ["inspect", folder], ["quantize", folder, "--output", folder + "/out"],
        ["evaluate", folder, "--text", fixtureCalibration],
      ] {
        expectRefusal(
          try Program.run(command),
          [
            "`model.layers.2.mlp.experts.down_proj`", "[8, 256, 128] or [8, 128, 256]",
            "found BF16 [4, 256, 256]",
          ])
      }
    }
  }

  // MARK: Memory

  /// The fixture in all dimensions but two four times as large: an expert is 3 MiB, and all of a layer's are 24.
  private func grow(to folder: String, _ experts: SharedSource.Experts?) throws {
    let source = try SharedSource(fixtureModel)
    let fixed = [2048, 8]
    let tensors = source.joined(experts: experts, joins: experts != nil).map { tensor in
      let factors = tensor.shape.map { fixed.contains($0) ? 1 : 4 }
      return LooseTensor(
        name: tensor.name, dtype: tensor.dtype,
        shape: zip(tensor.shape, factors).map { $0 * $1 },
        bytes: repeated(tensor.bytes, tensor.shape, factors, width: tensor.dtype.byteWidth))
    }
    try source.write(tensors, to: folder)
    let path = folder + "/config.json"
    var config = try #require(JSONValue.parse(FileSystem.readFile(path)).object)
    for key in ["hidden_size", "intermediate_size", "moe_intermediate_size", "head_dim"] {
      config[key] = config[key]?.int.map { .number(JSONNumber(4 * $0)) }
    }
    try replaceFile(path, with: Array(JSONValue.object(config).serialized().utf8))
  }

  private func repeated(
    _ bytes: [UInt8], _ shape: [Int], _ factors: [Int], width: Int
  ) -> [UInt8] {
    guard let size = shape.first else { return bytes }
    let part = bytes.count / size
    let rows = (0..<size).flatMap { index in
      repeated(
        Array(bytes[index * part..<(index + 1) * part]), Array(shape.dropFirst()),
        Array(factors.dropFirst()), width: width)
    }
    return Array(repeatElement(rows, count: factors[0]).joined())
  }

  @Test(arguments: [SharedSource.Experts.rows, .columns])
  func thePeakIsWithinTheSmallestMemory(experts: SharedSource.Experts) throws {
    try withTemporaryFolder { folder in
      let model = "\(folder)/model"
      try grow(to: model, experts)
      let own = ["--calibration", fixtureCalibration, "--samples", "4", "--rounding", "nearest"]
      let refused = try Program.run(
        ["quantize", model, "--output", "\(folder)/out", "--memory", "1MiB"] + own)
      let match = try #require(
        try refused.stderr.firstMatch(of: Regex("raise --memory to ([0-9]+)")), "\(refused)")
      let number = try #require(match.output[1].substring)
      let smallest = try #require(Int(number)) + 1
      for (index, memory) in [smallest, smallest + 40].enumerated() {
        let (outcome, peak) = try Program(
          ["quantize", model, "--output", "\(folder)/\(index)", "--memory", "\(memory)MiB"] + own
        ).waitForPeak()
        #expect(outcome.end == .exit(0), "\(outcome)")
        #expect(peak <= memory << 20, "\(peak >> 10) KiB of \(memory) MiB: \(outcome)")
      }
    }
  }
}
