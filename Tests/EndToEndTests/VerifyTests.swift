// sluice verify as a script sees it: the exit code tells, stdout says what.

import SystemIO
import Testing
import TestSupport

@Suite struct VerifyTests {
  /// An output made with `options`, then changed by `spoil`.
  private func verify(
    _ options: [String] = ["--no-smoothing"], spoil: (SpoiledModel) throws -> Void
  ) throws -> Outcome {
    try withTemporaryFolder { folder in
      try quantize(to: "\(folder)/out", options)
      try spoil(SpoiledModel("\(folder)/spoiled", of: "\(folder)/out"))
      return try Program.run(["verify", "\(folder)/spoiled", "--source", fixtureModel])
    }
  }

  @Test func aCodeThatIsNotTheSourcesIsAFinding() throws {
    let linear = "model.layers.1.mlp.experts.3.down_proj"
    let outcome = try verify { model in
      let (shard, range) = try model.place(of: "\(linear).weight_scale")
      try model.change(shard) { $0.replaceSubrange(range.prefix(2), with: [0xc0, 0x7f]) }
    }
    #expect(outcome.end == .exit(1), "\(outcome)")
    #expect(outcome.stdout.contains("FINDING") && outcome.stdout.contains(linear))
    #expect(outcome.stderr == "", "findings are a result, not a failure of the program")
  }

  @Test func aTensorThatShouldBeTheSourcesIsAFinding() throws {
    let outcome = try verify { model in
      let (shard, range) = try model.place(of: "lm_head.weight")
      try model.change(shard) { $0[range.lowerBound] ^= 1 }
    }
    #expect(outcome.end == .exit(1), "\(outcome)")
    #expect(outcome.stdout.contains("lm_head.weight"))
  }

  @Test func anUnfinishedOutputIsRefused() throws {
    let outcome = try verify { try FileSystem.remove("\($0.path)/config.json") }
    expectRefusal(outcome, ["config.json"])
  }
}
