// The embedding and the head as targets: bytes of the peer, what is refused, and outputs that have them quantized.

import Calibration
import CompressedTensors
import JSON
import Models
import Pipeline
import Planning
import Quantization
import Recipes
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct EndTests {
  private static let source = fixturePath("awq/moe-only")
  private static let (head, embedding) = ("lm_head", "model.embed_tokens")

  private func options(
    _ output: String, _ ends: [(target: String, scheme: String)], rest: String = "W4A16"
  ) throws -> QuantizeOptions {
    var options = SmallRun.options(output)
    options.model = Self.source
    options.data.path = Self.source + "/calibration.jsonl"
    options.schemes = try [SchemePreset.written(rest).grouped(by: 32)]
    options.schemes += try ends.map {
      try SchemePreset.written($0.scheme).grouped(by: 32).targeting([$0.target])
    }
    return options
  }

  private func quantization(_ output: String) throws -> JSONObject {
    let config = try JSONValue.parse(FileSystem.readFile(output + "/config.json")).object
    return try #require(config?["quantization_config"]?.object)
  }

  private func evaluate(_ model: String, in folder: String) throws -> Double {
    let data = CalibrationSource(
      path: Self.source + "/calibration.jsonl",
      selection: RowSelection(samples: 8, sequenceLength: 4096))
    return try #require(
      try EvaluateModel(
        EvaluateOptions(
          models: [model], reference: nil, data: data, memory: 1 << 30, threads: 2,
          scratch: folder + "/scratch")
      ).run().all.nll)
  }

  private static let both = [(head, "W8A16"), ("embed_tokens", "W4A16")]

  // MARK: Outputs

  @Test func `rounded to nearest, both are what the peer stores`() throws {
    try withTemporaryFolder { folder in
      var options = try options(folder + "/out", Self.both)
      options.smooths = false
      options.rounding = .nearest
      try SmallRun.run(options)
      let output = try ShardedModel(folder: options.output)
      let peer = try SafetensorsFile(path: fixturePath("schemes/ends.safetensors"))
      #expect(peer.tensors.count == 6)
      for expected in peer.tensors {
        let found = try #require(output[expected.name], "\(expected.name)")
        #expect(found.dtype == expected.dtype && found.shape == expected.shape)
        #expect(found.bytes == expected.bytes, "\(expected.name)")
      }
      for module in [Self.head, Self.embedding] { #expect(output[module + ".weight"] == nil) }
      let block = try quantization(options.output)
      let targets = try #require(block["config_groups"]?.object).entries.map {
        $0.value.object?["targets"]?.array?.compactMap(\.string) ?? []
      }
      #expect(Set(targets) == [["lm_head"], ["Linear", "model.embed_tokens"]])
      let ignore = try #require(block["ignore"]?.array).compactMap(\.string)
      #expect(!ignore.contains(Self.head) && !ignore.contains(Self.embedding))
      let report = try VerifyModel(output: options.output, source: options.model, threads: 2).run()
      #expect(report.findings == [] && report.quantizedLinears == 40)
      #expect(
        report.errors.filter { [Self.head, Self.embedding].contains($0.linear) }.map(\.linear)
          == [Self.embedding, Self.head])
    }
  }

  @Test(arguments: RoundingMethod.allCases)
  func `bytes depend on neither memory nor stops`(rounding: RoundingMethod) throws {
    try withTemporaryFolder { folder in
      var options = try options(folder + "/a", Self.both)
      options.rounding = rounding
      let plan = try QuantizePlan(options)
      #expect(
        plan.warnings.contains(.endsClipped([Self.embedding, Self.head]))
          == rounding.needsGram)
      #expect(plan.coverage.quantized == "layers 0-1, model.embed_tokens, lm_head")
      #expect(plan.coverage.left.last?.text == "routers, norms")
      let expected = try SmallRun.expectTheSameBytes(options, in: folder)
      try SmallRun.runInterrupted(options) { _ in }
      #expect(try SmallRun.contents(options.output) == expected)
    }
  }

  /// Ranges are searched for: the error of each is less than that of rounding to nearest.
  @Test func `ranges of both are better than the whole ones`() throws {
    try withTemporaryFolder { folder in
      func errors(_ rounding: RoundingMethod) throws -> [String: Double] {
        var options = try options("\(folder)/\(rounding)", [(Self.head, "W4A16"), Self.both[1]])
        options.rounding = rounding
        try SmallRun.run(options)
        let report = try VerifyModel(
          output: options.output, source: options.model, threads: 2
        ).run()
        return Dictionary(uniqueKeysWithValues: report.errors.map { ($0.linear, $0.relative) })
      }
      let (nearest, clipped) = (try errors(.nearest), try errors(.compensated))
      for module in [Self.head, Self.embedding] {
        #expect(try #require(clipped[module]) < 0.98 * #require(nearest[module]))
      }
    }
  }

  @Test(arguments: ["W8A16", "W8A8", "FP8_DYNAMIC", "FP8_BLOCK", "NVFP4A16", "MXFP4A16", "MXFP8"])
  func `a head of any scheme is written, checked and evaluated`(scheme: String) throws {
    try withTemporaryFolder { folder in
      for rest in ["W8A16", scheme] {
        var options = try options("\(folder)/\(rest)", [(Self.head, scheme)], rest: rest)
        options.smooths = false
        options.rounding = .nearest
        try SmallRun.run(options)
        let report = try VerifyModel(
          output: options.output, source: options.model, threads: 2
        ).run()
        #expect(report.findings == [] && report.quantizedLinears == 39)
        var plain = options
        plain.schemes.removeLast()
        plain.output += "-plain"
        try SmallRun.run(plain)
        let found = try evaluate(options.output, in: folder)
        let without = try evaluate(plain.output, in: folder)
        #expect(found != without && abs(found - without) < 0.3, "\(found), \(without)")
        try FileSystem.remove(options.output)
        try FileSystem.remove(plain.output)
      }
    }
  }

  @Test func `an output that has both quantized is a source, and is evaluated`() throws {
    try withTemporaryFolder { folder in
      var first = try options(folder + "/first", [(Self.head, "W8A16"), ("embed_tokens", "W8A16")])
      first.rounding = .nearest
      try SmallRun.run(first)
      let nll = try evaluate(first.output, in: folder)
      first.output = folder + "/plain"
      first.schemes.removeLast(2)
      try SmallRun.run(first)
      let plain = try evaluate(first.output, in: folder)
      #expect(nll != plain && abs(nll - plain) < 0.02)
      // Its numbers, as they are decoded, in other schemes.
      var second = try options(folder + "/second", [(Self.head, "W8A16")], rest: "W8A16")
      second.model = folder + "/first"
      try SmallRun.run(second)
      let report = try VerifyModel(output: second.output, source: second.model, threads: 2).run()
      #expect(report.findings == [])
      let embedding = try #require(
        ShardedModel(folder: second.output)["model.embed_tokens.weight"])
      let original = try #require(ShardedModel(folder: Self.source)["model.embed_tokens.weight"])
      let worst = zip(embedding.floats, original.floats).map { abs($0 - $1) }.max() ?? 1
      // Half a step of the largest range, at most.
      let largest = original.floats.map(abs).max() ?? 0
      #expect(worst > 0 && worst <= largest / 250, "\(worst) of \(largest)")
    }
  }

  // MARK: Targets

  @Test func `a target that does not spell them leaves them, and says so in ignore`() throws {
    try withTemporaryFolder { folder in
      var options = try options(folder + "/out", [])
      options.schemes = [options.schemes[0].targeting(["re:.*"])]
      try SmallRun.run(options)
      let ignore = try #require(try quantization(options.output)["ignore"]?.array)
        .compactMap(\.string)
      #expect(ignore.contains(Self.head) && ignore.contains(Self.embedding))
      #expect(try ShardedModel(folder: options.output)["lm_head.weight"] != nil)
      let report = try VerifyModel(output: options.output, source: options.model, threads: 2).run()
      #expect(report.findings == [])
    }
  }

  @Test(arguments: ["lm_head", "re:.*lm_head$", "re:lm_head"])
  func `a recipe's target that spells the head quantizes it`(target: String) throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options(folder + "/out")
      options.follow(
        try Recipe(
          text: "GPTQModifier: {scheme: {W8A16: ['\(target)'], W4A16: [Linear]}}", file: "r.yaml"),
        file: "r.yaml")
      options.schemes = options.schemes.map { $0.grouped(by: 32) }
      let plan = try QuantizePlan(options)
      #expect(!plan.warnings.contains(.headStays(recipe: "r.yaml")))
      try QuantizeModel(plan) { _ in }.run()
      #expect(try ShardedModel(folder: options.output)["lm_head.weight_packed"] != nil)
      var again = SmallRun.options(folder + "/again")
      again.follow(try Recipe(path: options.output + "/recipe.yaml"), file: "again")
      try SmallRun.run(again)
      #expect(try SmallRun.contents(again.output) == SmallRun.contents(options.output))
    }
  }

  @Test func `an ignored head stays, whatever its target`() throws {
    var options = try options("/nowhere", [(Self.head, "W8A16")])
    options.ignore = [Self.head]
    let plan = try QuantizePlan(options)
    #expect(plan.output.ends == [] && plan.output.ignore.last == Self.head)
  }

  private func refusal(
    _ model: String, _ target: String, _ scheme: String
  ) throws -> String {
    var options = try options("/nowhere", [(target, scheme)])
    options.model = fixturePath(model)
    options.smooths = false
    options.rounding = .nearest
    let error = #expect(throws: OutputPlanError.self) { try QuantizePlan(options) }
    return error?.description ?? ""
  }

  @Test(arguments: ["FP8_DYNAMIC", "W8A8", "NVFP4A16", "MXFP4A16"])
  func `an embedding that nobody loads is refused with the reason`(scheme: String) throws {
    let found = try refusal("awq/moe-only", "embed_tokens", scheme)
    #expect(
      found
        == "--scheme: `model.embed_tokens` cannot become \(scheme): vLLM loads an embedding as integers beside "
        + "unquantized activations alone, such as W4A16 or W8A16")
  }

  @Test(arguments: ["FP8", "NVFP4"])
  func `a head with a scale for its input is refused with the reason`(scheme: String) throws {
    let found = try refusal("awq/moe-only", "lm_head", scheme)
    #expect(found.hasPrefix("--scheme: `lm_head` cannot become \(scheme): its activations have a"))
  }

  @Test(arguments: ["lm_head", "embed_tokens"])
  func `what is tied is refused with the reason`(target: String) throws {
    let found = try refusal("forward/qwen2-tied", target, "W8A16")
    #expect(found.contains("cannot become W8A16"), "\(found)")
    #expect(found.contains("config.json ties the head to the embedding"), "\(found)")
  }

  @Test func `groups that do not divide the hidden size are refused`() throws {
    let found = try refusal("forward/null-head-dim", "lm_head", "W8A16")
    #expect(found.contains("its 48 input features are no multiple of 32"), "\(found)")
  }

  /// A head as it is that a config forgets to ignore, as other tools write it.
  @Test func `a plain head that no ignore list has is read as it is`() throws {
    try withTemporaryFolder { folder in
      let output = try SpoiledOutput(in: folder)
      try output.changeIgnore { $0.removeAll { $0 == "lm_head" } }
      #expect(try output.verify().findings.map(\.subject) == ["lm_head"])
      let checkpoint = try Checkpoint(folder: output.path)
      #expect(checkpoint.weights.find("lm_head.weight")?.isCoded == false)
    }
  }
}
