// Several schemes in one output: each Linear as in an output of its scheme alone, and everything that holds for one.

import Calibration
import CompressedTensors
import JSON
import Models
import Pipeline
import Quantization
import Recipes
import Safetensors
import SystemIO
import Testing
import TestSupport
import Transformer

@Suite struct MixedSchemesTests {
  /// Shared and routed experts read one activation, in groups of two sizes.
  private static let attention = IntegerScheme(.w8a16, groupSize: 64)
  private static let experts = IntegerScheme(.w4a16Asymmetric, groupSize: 32)
  private static let others = IntegerScheme(.w4a16, groupSize: 64)

  private static let schemes = [
    others.scheme, attention.targeting("attention"), experts.targeting("experts"),
  ]

  private func options(_ output: String) -> QuantizeOptions {
    var options = SmallRun.options(output)
    options.schemes = Self.schemes
    options.maximumShardBytes = 60_000
    return options
  }

  private func scheme(of name: String) -> IntegerScheme {
    name.contains("self_attn")
      ? Self.attention : name.contains(".experts.") ? Self.experts : Self.others
  }

  /// Without smoothing nothing that a Linear becomes depends on the others' schemes.
  @Test(arguments: RoundingMethod.allCases)
  func `each Linear is what it is in an output of its scheme alone`(method: RoundingMethod) throws {
    try withTemporaryFolder { folder in
      func run(_ name: String, _ schemes: [QuantizationScheme]) throws -> ShardedModel {
        var options = options("\(folder)/\(name)")
        options.schemes = schemes
        options.smooths = false
        options.rounding = method
        try SmallRun.run(options)
        return try ShardedModel(folder: options.output)
      }
      let mixed = try run("mixed", Self.schemes)
      var alone: [String: ShardedModel] = [:]
      for scheme in [Self.attention, Self.experts, Self.others] {
        alone["\(scheme)"] = try run("\(scheme.bits) \(scheme.isSymmetric)", [scheme.scheme])
      }
      for tensor in mixed.tensors {
        let same = try #require(alone["\(scheme(of: tensor.name))"]?[tensor.name], "\(tensor.name)")
        #expect(tensor.dtype == same.dtype && tensor.shape == same.shape, "\(tensor.name)")
        #expect(tensor.bytes == same.bytes, "\(tensor.name)")
      }
      // Zero points of four experts.
      let plain = try #require(alone["\(Self.others)"])
      #expect(mixed.tensors.count == plain.tensors.count + 12)
    }
  }

  @Test func `the output is sound, and is near the model`() throws {
    try withTemporaryFolder { folder in
      let options = options("\(folder)/out")
      try SmallRun.run(options)
      let report = try VerifyModel(output: options.output, source: options.model, threads: 2).run()
      #expect(report.findings == [])
      #expect(report.errors.count == report.quantizedLinears && report.quantizedLinears == 26)
      #expect(report.errors.allSatisfy { $0.relative > 0 && $0.relative < 0.4 })
      func largest(_ part: String) -> Double {
        report.errors.filter { $0.linear.contains(part) }.map(\.relative).max() ?? 1
      }
      #expect(largest("self_attn") < 0.2 * largest(".experts."))
      let evaluation = try EvaluateModel(
        EvaluateOptions(
          models: [options.output], reference: options.model, data: options.data, memory: 256 << 20,
          threads: 2, scratch: folder + "/scratch")
      ).run()
      #expect(try #require(evaluation.divergence).mean < 0.1)
    }
  }

  @Test func `config json has a group for each scheme, and the recipe makes the same again`() throws
  {
    try withTemporaryFolder { folder in
      let options = options("\(folder)/out")
      try SmallRun.run(options)
      let checkpoint = try Checkpoint(folder: options.output)
      let config = try #require(checkpoint.quantization)
      #expect(config.groups.count == 3)
      #expect(
        Set(config.groups.map { $0.targeting([]) }) == Set(Self.schemes.map { $0.targeting([]) }))
      let linears = checkpoint.spec.layers.flatMap(\.linears)
      let schemes = try config.schemes(of: linears, file: "config.json")
      for linear in linears {
        #expect(
          schemes[linear]?.isSame(as: scheme(of: linear.name).scheme) == true, "\(linear.name)")
      }
      let path = "\(options.output)/recipe.yaml"
      #expect(try Recipe(path: path).schemes == config.groups)
      var again = self.options("\(folder)/again")
      again.follow(try Recipe(path: path), file: path)
      try SmallRun.run(again)
      #expect(
        try SmallRun.contents(again.output, card: false)
          == SmallRun.contents(options.output, card: false))
    }
  }

  @Test func `threads, memory and interruptions change no byte`() throws {
    try withTemporaryFolder { folder in
      let expected = try SmallRun.expectTheSameBytes(options(""), in: folder)
      let interrupted = options("\(folder)/interrupted")
      var stops = 0
      try SmallRun.runInterrupted(interrupted) { _ in
        stops += 1
        try #require(stops < 1000)
      }
      #expect(stops > 5)
      #expect(try SmallRun.contents(interrupted.output) == expected)
    }
  }

  @Test func `a run does not go on with other schemes, and names them`() throws {
    try withTemporaryFolder { folder in
      var options = options("\(folder)/out")
      try SmallRun.run(options)
      options.schemes[1] = Self.others.targeting("attention")
      let error = #expect(throws: RunStateError.self) { try SmallRun.run(options) }
      guard case .otherOptions(_, "--scheme", let written, let asked) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      #expect(written.contains("W8A16 in groups of 64") && !asked.contains("W8A16"))
    }
  }

  @Test func `two schemes of what vLLM loads as one are a finding`() throws {
    let findings = try withTemporaryFolder { folder in
      let output = try SpoiledOutput(in: folder)
      try output.changeQuantization { block in
        var groups = try #require(block["config_groups"]?.object)
        var other = try #require(groups["group_0"]?.object)
        other["targets"] = ["re:.*k_proj"]
        var weights = try #require(other["weights"]?.object)
        weights["group_size"] = 64
        other["weights"] = .object(weights)
        groups["group_1"] = .object(other)
        block["config_groups"] = .object(groups)
      }
      return try output.verify(source: false).findings
    }
    let subject = "model.layers.1.self_attn.k_proj"
    #expect(
      findings.contains {
        $0.subject == subject
          && $0.problem.hasPrefix("W4A16 in groups of 64, but vLLM loads it together with")
      })
    // Its scales are those of smaller groups.
    #expect(findings.contains { $0.subject.hasPrefix(subject + ".") })
  }
}
