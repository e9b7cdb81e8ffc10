// Plans before the weights are there, groups that do not divide, accepted keys, heads that are stored twice.

import Calibration
import CompressedTensors
import JSON
import Models
import Pipeline
import Planning
import Quantization
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct ShapePlanTests {
  /// A copy of a fixture without its shards, and without what else is named.
  private func withoutWeights(
    _ fixture: String, _ body: (String) throws -> Void, removing: (String) -> Bool = { _ in false }
  ) throws {
    try withCopiedFixture(fixture) { folder in
      for name in try FileSystem.list(folder)
      where name.hasSuffix(".safetensors") || removing(name) {
        try FileSystem.remove("\(folder)/\(name)")
      }
      try body(folder)
    }
  }

  private func shapes(_ folder: String) throws -> CheckpointShapes {
    try CheckpointShapes(CheckpointConfig(folder: folder), listing: ShardListing(folder: folder))
  }

  private func options(_ model: String) -> QuantizeOptions {
    var options = QuantizeOptions(model: model, output: "", memory: 1 << 30, threads: 2)
    options.data.path = fixturePath("calibration.jsonl")
    options.data.selection.samples = 8
    return options
  }

  // MARK: Shapes

  private static let plain = fixtures(in: "forward").filter { !$0.contains("fp8") }

  @Test(arguments: plain)
  func `config json alone tells the names and shapes of every tensor`(name: String) throws {
    let real = CheckpointShapes(try Checkpoint(folder: fixturePath("forward/" + name)))
    try withoutWeights("forward/" + name) { folder in
      let told = try shapes(folder)
      func texts(_ shapes: CheckpointShapes) -> [String] {
        shapes.tensors.filter { !shapes.spec.passesThrough($0.name) }.map {
          "\($0.name) \($0.shape)"
        }
      }
      #expect(texts(told) == texts(real))
      #expect(told.tensor(told.spec.embedding).dtype == real.tensor(real.spec.embedding).dtype)
    } removing: {
      $0.hasSuffix(".index.json")
    }
  }

  /// By config.json, and the index where there is one: also experts that share a tensor, and numbers that are codes.
  @Test(arguments: [
    "gpt-oss-mxfp4", "gemma4-published", "granite-moe-multipliers", "qwen35-moe-fused",
    "deepseek-v3-fp8-blocks",
  ])
  func `what the files will hold is told before they are there`(name: String) throws {
    let files = try ShardedModel(folder: fixturePath("forward/" + name)).tensors
    try withoutWeights("forward/" + name) { folder in
      let stored = try #require(try shapes(folder).stored)
      #expect(
        stored.map { "\($0.name) \($0.dtype) \($0.shape)" }
          == files.map { "\($0.name) \($0.dtype) \($0.shape)" }.sorted())
    }
  }

  @Test func `what the files of quantized weights will hold is told by config json alone`() throws {
    try withTemporaryFolder { folder in
      let options = SmallRun.options(folder + "/out")
      try SmallRun.run(options)
      let files = try ShardedModel(folder: options.output).tensors
      for name in try FileSystem.list(options.output) where name.contains("safetensors") {
        try FileSystem.remove("\(options.output)/\(name)")
      }
      let told = try shapes(options.output)
      // A prediction layer that config.json names and nobody stored.
      let stored = try #require(told.stored).filter { !told.spec.passesThrough($0.name) }
      #expect(
        stored.map { "\($0.name) \($0.shape)" }
          == files.map { "\($0.name) \($0.shape)" }.sorted())
    }
  }

  @Test func `a prediction layer is taken to be like the last one`() throws {
    let fixture = "forward/published-mtp-bf16"
    let real = CheckpointShapes(try Checkpoint(folder: fixturePath(fixture)))
    try withoutWeights(fixture) { folder in
      // The index tells which of them there are.
      let told = try shapes(folder)
      #expect(
        told.tensors.map { "\($0.name) \($0.shape)" }
          == real.tensors.map { "\($0.name) \($0.shape)" })
    }
  }

  @Test(arguments: ["deepseek-v3-fp8-blocks", "llama-fp8-tensor", "qwen3-moe-fp8-channel"])
  func `weights that are FP8 have their scales beside them`(name: String) throws {
    let real = CheckpointShapes(try Checkpoint(folder: fixturePath("forward/" + name)))
    try withoutWeights("forward/" + name) { folder in
      let told = try shapes(folder)
      let linears = told.spec.layers.flatMap(\.linears)
      #expect(linears.contains { told.tensor($0.weight).dtype == .f8E4M3 })
      for linear in linears where told.tensor(linear.weight).dtype == .f8E4M3 {
        #expect(told.byteCount(linear) > linear.inputs * linear.outputs)
      }
      #expect(abs(told.totalBytes - real.totalBytes) < real.totalBytes / 4)
    } removing: {
      $0.hasSuffix(".index.json")
    }
  }

  @Test(arguments: [".*self_attn.*", "model.layers.0.mlp.down_proj"])
  func `what an FP8 source leaves as it is is told before the files are there`(
    ignored: String
  ) throws {
    let isExpression = ignored.contains("*")
    try withoutWeights("forward/qwen3-moe-fp8-channel") { folder in
      let path = folder + "/config.json"
      var config = try #require(JSONValue.parse(FileSystem.readFile(path)).object)
      var quantization = try #require(config["quantization_config"]?.object)
      quantization["ignore"] = [.string((isExpression ? "re:" : "") + ignored)]
      config["quantization_config"] = .object(quantization)
      try replaceFile(path, with: Array(JSONValue.object(config).serialized().utf8))
      let told = try shapes(folder)
      for linear in told.spec.layers.flatMap(\.linears) {
        let stays =
          isExpression ? linear.name.contains("self_attn") : linear.name == ignored
        #expect((told.tensor(linear.weight).dtype != .f8E4M3) == stays, "\(linear.name)")
      }
    } removing: {
      $0.hasSuffix(".index.json")
    }
  }

  @Test func `an index that lacks a tensor, or has one too many, is refused before a download`()
    throws
  {
    func refusal(_ change: (inout JSONObject) -> Void) throws -> CheckpointError? {
      var refusal: CheckpointError?
      try withoutWeights("glm4-moe-4m") { folder in
        let path = folder + "/model.safetensors.index.json"
        var index = try #require(JSONValue.parse(FileSystem.readFile(path)).object)
        var map = try #require(index["weight_map"]?.object)
        change(&map)
        index["weight_map"] = .object(map)
        try replaceFile(path, with: Array(JSONValue.object(index).serialized().utf8))
        refusal = #expect(throws: CheckpointError.self) { try shapes(folder) }
      }
      return refusal
    }
    guard
      case .missing(_, 1, ["model.norm.weight"]) = try refusal({ $0["model.norm.weight"] = nil })
    else {
      Issue.record("a missing tensor")
      return
    }
    guard
      case .unclaimed(_, 1, ["model.twist"]) = try refusal({ $0["model.twist"] = "a.safetensors" })
    else {
      Issue.record("an unknown tensor")
      return
    }
  }

  @Test func `sizes beyond all models are refused`() throws {
    try withoutWeights("forward/llama-plain") { folder in
      let path = folder + "/config.json"
      let text = String(decoding: try FileSystem.readFile(path), as: UTF8.self)
      // Each of them might be, and the matrix of them is not.
      var config = try #require(JSONValue.parse(Array(text.utf8)).object)
      for key in ["hidden_size", "intermediate_size", "vocab_size"] { config[key] = 16_000_000 }
      try replaceFile(path, with: Array(JSONValue.object(config).serialized().utf8))
      let error = #expect(throws: CheckpointError.self) { try shapes(folder) }
      guard case .tooLarge = error else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
  }

  // MARK: Plans

  @Test func `the plan of shapes is the plan of the files`() throws {
    let real = try QuantizePlan(options(fixturePath("glm4-moe-4m")))
    try withoutWeights("glm4-moe-4m") { folder in
      let told = try QuantizePlan(ofWhatIsHere: options(folder))
      #expect(told.opened == nil && real.opened != nil)
      #expect(told.run == real.run)
      #expect(told.coverage == real.coverage)
      #expect(
        told.warnings.map(\.description).joined().contains(
          "the weights are not here: names, types and shapes are those of config.json and the index"
        ))
    }
    #expect(try QuantizePlan(ofWhatIsHere: options(fixturePath("glm4-moe-4m"))).opened != nil)
  }

  @Test func `a shard that is missing is told`() throws {
    try withCopiedFixture("glm4-moe-4m") { folder in
      let shards = try FileSystem.list(folder).filter { $0.hasSuffix(".safetensors") }
      try FileSystem.remove("\(folder)/\(shards[0])")
      let plan = try QuantizePlan(ofWhatIsHere: options(folder))
      #expect(
        plan.warnings.map(\.description).joined().contains(
          "1 of \(shards.count) shards is not here"))
      #expect(throws: SafetensorsError.self) { try QuantizePlan(options(folder)) }
    }
  }

  @Test func `without a tokenizer the most that was asked for is planned with`() throws {
    try withoutWeights("glm4-moe-4m") { folder in
      var options = options(folder)
      options.data.path = nil
      options.data.selection = RowSelection(samples: 3, sequenceLength: 700)
      let plan = try QuantizePlan(ofWhatIsHere: options)
      #expect(plan.run.tokens == 2100 && plan.run.longestSequence == 700)
      #expect(plan.warnings.contains(.dataAssumed(sequences: 3, tokens: 700)))
    } removing: {
      $0 != "config.json"
    }
  }

  // MARK: Groups, heads and keys of a run

  /// Groups of 32 do not divide 40: the down projections stay as they are.
  @Test func `a run leaves what groups do not divide, and its output is sound`() throws {
    try withTemporaryFolder { folder in
      var options = QuantizeOptions(
        model: fixturePath("forward/qwen2-tied"), output: folder + "/out", memory: 1 << 30,
        threads: 2)
      options.smooths = false
      options.isGroupSizeNamed = false
      options.rounding = .nearest
      let plan = try QuantizePlan(options)
      #expect(plan.options.schemes.map(\.weights?.groupSize) == [32])
      #expect(plan.warnings.contains(.smallerGroups(32, instead: 128)))
      #expect(
        plan.warnings.contains(
          .undivided(
            first: "model.layers.0.mlp.down_proj", count: 2, inputs: 40, groupSize: 32, smaller: nil
          )
        ))
      #expect(plan.coverage.left.contains { $0.why?.contains("do not divide") == true })
      try QuantizeModel(plan) { _ in }.run()
      let report = try VerifyModel(
        output: options.output, source: options.model, threads: 2
      ).run()
      #expect(report.findings == [] && report.quantizedLinears == 12)
      let recipe = String(
        decoding: try FileSystem.readFile(options.output + "/recipe.yaml"), as: UTF8.self)
      #expect(recipe.contains("model.layers.1.mlp.down_proj"))
    }
  }

  @Test func `a run leaves a head out that is the embedding once more`() throws {
    try withCopiedFixture("forward/qwen2-tied") { model in
      let path = model + "/model.safetensors"
      var tensors = try SafetensorsFile(path: path).tensors.map {
        LooseTensor(name: $0.name, dtype: $0.dtype, shape: $0.shape, bytes: $0.bytes)
      }
      var head = try #require(tensors.first { $0.name == "model.embed_tokens.weight" })
      head.name = "lm_head.weight"
      tensors.append(head)
      try LooseTensor.write(tensors, to: path)
      try withTemporaryFolder { folder in
        var options = QuantizeOptions(
          model: model, output: folder + "/out", memory: 1 << 30, threads: 2)
        options.smooths = false
        options.isGroupSizeNamed = false
        options.rounding = .nearest
        try SmallRun.run(options)
        #expect(try ShardedModel(folder: options.output)["lm_head.weight"] == nil)
        let report = try VerifyModel(output: options.output, source: model, threads: 2).run()
        #expect(report.findings == [])
      }
    }
  }

  @Test func `an accepted key is told, recorded, and copied`() throws {
    try withCopiedFixture("forward/qwen2-tied") { model in
      let path = model + "/config.json"
      var config = try #require(JSONValue.parse(FileSystem.readFile(path)).object)
      config["moon_phase"] = 3
      try replaceFile(path, with: Array(JSONValue.object(config).serialized().utf8))
      try withTemporaryFolder { folder in
        var options = QuantizeOptions(
          model: model, output: folder + "/out", memory: 1 << 30, threads: 2)
        options.smooths = false
        options.isGroupSizeNamed = false
        options.rounding = .nearest
        #expect(throws: ConfigError.self) { try QuantizePlan(options) }
        options.acceptedKeys = ["moon_phase"]
        let plan = try QuantizePlan(options)
        #expect(plan.warnings.map(\.description).joined().contains("`moon_phase` = 3 is not known"))
        try QuantizeModel(plan) { _ in }.run()
        let state = String(
          decoding: try FileSystem.readFile(options.output + "/.sluice/state.json"), as: UTF8.self)
        #expect(state.contains("\"--accept-config-key\": \"moon_phase\""))
        let report = String(
          decoding: try FileSystem.readFile(options.output + "/.sluice/report.json"), as: UTF8.self)
        #expect(report.contains("--accept-config-key"))
        let output = try JSONValue.parse(FileSystem.readFile(options.output + "/config.json"))
        #expect(output.object?["moon_phase"] == 3)
        #expect(throws: ConfigError.self) {
          try VerifyModel(output: options.output, source: nil, threads: 1)
        }
        let verified = try VerifyModel(
          output: options.output, source: model, accepting: ["moon_phase"], threads: 1
        ).run()
        #expect(verified.findings == [])
        #expect(verified.notes.contains { $0.problem.contains("moon_phase") })
      }
    }
  }
}
