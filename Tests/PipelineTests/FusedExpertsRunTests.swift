// Runs from experts that are one tensor for a layer, as gpt-oss, Llama 4 and Gemma 4 were published, plain and in MXFP4,
// against runs from the same numbers in a tensor for each Linear.

import Calibration
import CompressedTensors
import JSON
import LinearAlgebra
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

@Suite struct FusedExpertsRunTests {
  private static let sources = ["gpt-oss-no-bias-yarn", "gpt-oss-mxfp4"]
  /// Their experts are too narrow for a group of 32, and stay.
  private static let others = ["llama4-published", "gemma4-published"]

  private func options(_ model: String, _ output: String) throws -> QuantizeOptions {
    let ids = model + "-ids.jsonl"
    let rows = (0..<6).map { row in (0..<20).map { (7 * row + 5 * $0 * (row + 1)) % 64 } }
    try replaceFile(
      ids, with: Array(rows.map { "{\"input_ids\":\($0)}" }.joined(separator: "\n").utf8))
    var options = QuantizeOptions(model: model, output: output, memory: 1 << 30, threads: 2)
    options.data.path = ids
    options.data.selection.samples = 6
    options.engine = .f32
    options.schemes = [IntegerScheme(.w4a16, groupSize: 32).scheme]
    return options
  }

  /// A copy of the fixture, so that its files can be spoiled.
  private func copy(_ name: String, to folder: String) throws {
    try FileSystem.createFolder(folder)
    for file in try FileSystem.list(fixturePath("forward/" + name)) where !file.hasPrefix("golden")
    {
      try FileSystem.copyFile(
        from: fixturePath("forward/\(name)/\(file)"), to: "\(folder)/\(file)")
    }
  }

  /// A checkpoint with the numbers of another in a tensor for each Linear: those of MXFP4 are numbers of bf16, too.
  private func writeTwin(of model: String, to folder: String) throws {
    let checkpoint = try Checkpoint(folder: model)
    var config = checkpoint.config
    config["quantization_config"] = nil
    let tensors = checkpoint.weights.names.map { name -> LooseTensor in
      let parameter = checkpoint.weights.parameter(name)
      if parameter.shape.count == 1 {
        return LooseTensor(name, parameter.shape, checkpoint.weights.vector(name), as: .bf16)
      }
      let rows = checkpoint.weights.rows(of: parameter)
      return LooseTensor(name, parameter.shape, rows.matrix(0..<rows.rows).values, as: .bf16)
    }
    try FileSystem.createFolder(folder)
    try replaceFile(
      folder + "/config.json", with: Array(JSONValue.object(config).serialized(indent: 2).utf8))
    try LooseTensor.write(tensors, to: folder + "/model.safetensors")
  }

  private func weights(_ output: String) throws -> [String: [UInt8]] {
    try SmallRun.contents(output).filter { $0.key.hasSuffix("safetensors") }
  }

  /// Also within the smallest budget, on another number of threads, and within the plan.
  @Test(arguments: sources + others)
  func `an output is that of a tensor for each Linear, to the byte`(name: String) throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try copy(name, to: model)
      try writeTwin(of: model, to: folder + "/twin")
      let plain = try options(folder + "/twin", folder + "/plain")
      try SmallRun.run(plain)
      let expected = try weights(plain.output)
      var options = try options(model, folder + "/large")
      let plan = try QuantizePlan(options)
      var steps: [StepSummary] = []
      try QuantizeModel(plan) { if case .finished(let summary) = $0 { steps = summary.steps } }
        .run()
      for step in steps {
        #expect(step.bufferBytes <= plan.run.step(step.step).bufferBytes, "\(step.step)")
      }
      #expect(try weights(options.output) == expected)
      options.output = folder + "/small"
      options.threads = 3
      options.memory = try QuantizePlan(options).run.smallestBudget
      try SmallRun.run(options)
      #expect(try weights(options.output) == expected)
      let report = try VerifyModel(output: options.output, source: model, threads: 2).run()
      #expect(report.findings == [])
      if Self.sources.contains(name) {
        #expect(report.quantizedLinears == plan.spec.layers.flatMap(\.linears).count)
      }
    }
  }

  /// Those that vLLM 0.33 takes one expert at a time, gate and up in turn, and no shape beside them.
  @Test(arguments: sources)
  func `experts have the names that vLLM loads, and keep their biases`(name: String) throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try copy(name, to: model)
      var options = try options(model, folder + "/out")
      options.schemes = [
        IntegerScheme(.w4a16, groupSize: 32).scheme.targeting(
          try IgnorePattern.targets(
            "attention", of: Checkpoint(folder: model).spec, origin: "--scheme")),
        IntegerScheme(bits: 8, groupSize: 32, isSymmetric: true).scheme.targeting(
          try IgnorePattern.targets(
            "experts", of: Checkpoint(folder: model).spec, origin: "--scheme")),
      ]
      try SmallRun.run(options)
      let source = try Checkpoint(folder: model)
      let output = try ShardedModel(folder: options.output)
      let prefix = "model.layers.0.mlp.experts.1."
      #expect(
        output.tensors.map(\.name).filter { $0.hasPrefix(prefix) }.sorted()
          == [
            "w13_bias", "w13_weight_packed", "w13_weight_scale", "w2_bias", "w2_weight_packed",
            "w2_weight_scale",
          ].map { prefix + $0 })
      for end in ["w13_bias", "w2_bias"] {
        #expect(
          output[prefix + end]?.floats == source.weights.vector(prefix + end), "\(end)")
      }
      // vLLM asks config.json for the modules that transformers would have.
      let config = try #require(try CheckpointConfig(folder: options.output).quantization())
      let schemes = try config.schemes(
        of: ["gate_proj", "up_proj", "down_proj"].map {
          LinearSpec(prefix + $0, inputs: 32, outputs: 32)
        }, file: "")
      for projection in ["gate_proj", "up_proj", "down_proj"] {
        #expect(
          schemes[LinearSpec(prefix + projection, inputs: 32, outputs: 32)]?.weights?.bits == 8)
      }
    }
  }

  @Test func `experts that vLLM could not load are refused before work starts`() throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try copy("gpt-oss-mxfp4", to: model)
      var options = try options(model, folder + "/out")
      options.ignore = ["model.layers.0.mlp.experts.*"]
      #expect(
        throws: OutputPlanError.loadedOtherwise(
          module: "model.layers.0.mlp.experts.0.w13", scheme: "left as it is")
      ) { try QuantizePlan(options) }
      options.ignore = []
      for scheme in ["W4A16_ASYM", "FP8_DYNAMIC", "NVFP4A16"] {
        options.schemes = [try SchemePreset.written(scheme)]
        if scheme == "W4A16_ASYM" {
          options.schemes = [IntegerScheme(.w4a16Asymmetric, groupSize: 32).scheme]
        }
        let error = #expect(throws: OutputPlanError.self) { try QuantizePlan(options) }
        guard case .loadedOtherwise(_, let found)? = error else {
          Issue.record("\(String(describing: error))")
          continue
        }
        #expect(found.hasPrefix(scheme))
      }
    }
  }

  // MARK: Blocks that cannot be read

  @Test func `blocks without their scales, of another type or of another size are refused`() throws
  {
    let experts = "model.layers.0.mlp.experts."
    for (name, change): (String, (LooseTensor) -> LooseTensor?) in [
      (experts + "gate_up_proj_scales", { _ in nil }),
      (
        experts + "down_proj_scales",
        { LooseTensor(name: $0.name, dtype: .u8, shape: [4, 32, 2], bytes: $0.bytes) }
      ),
      (
        experts + "gate_up_proj_blocks",
        { LooseTensor(name: $0.name, dtype: .i8, shape: $0.shape, bytes: $0.bytes) }
      ),
      (
        experts + "down_proj_blocks",
        { LooseTensor(name: $0.name, dtype: .u8, shape: [4, 32, 2, 16], bytes: $0.bytes) }
      ),
    ] {
      try withTemporaryFolder { folder in
        try copy("gpt-oss-mxfp4", to: folder)
        let tensors = try ShardedModel(folder: folder).tensors.compactMap { stored in
          let tensor = LooseTensor(
            name: stored.name, dtype: stored.dtype, shape: stored.shape, bytes: stored.bytes)
          return stored.name == name ? change(tensor) : tensor
        }
        try LooseTensor.write(tensors, to: folder + "/model.safetensors")
        let error = #expect(throws: CheckpointError.self) { try Checkpoint(folder: folder) }
        guard case .wrongShare(_, let found, _, _)? = error else {
          Issue.record("\(name): \(String(describing: error))")
          return
        }
        #expect(found == name)
      }
    }
  }

  @Test func `a key of MXFP4 that says what is not known is refused`() throws {
    try withTemporaryFolder { folder in
      try copy("gpt-oss-mxfp4", to: folder)
      let path = folder + "/config.json"
      var config = try #require(JSONValue.parse(FileSystem.readFile(path)).object)
      var block = try #require(config["quantization_config"]?.object)
      block["block_size"] = 16
      config["quantization_config"] = .object(block)
      try replaceFile(path, with: Array(JSONValue.object(config).serialized(indent: 2).utf8))
      let error = #expect(throws: QuantizationConfigError.self) {
        try Checkpoint(folder: folder)
      }
      #expect(error?.key == "block_size")
    }
  }

  /// As before a download: config.json and the index.
  @Test(arguments: sources)
  func `what the index lists is planned as what is there`(name: String) throws {
    try withTemporaryFolder { folder in
      try copy(name, to: folder)
      let real = CheckpointShapes(try Checkpoint(folder: folder))
      let file = "model-00001-of-00001.safetensors"
      let names = try ShardedModel(folder: folder).tensors.map(\.name)
      let index = JSONObject([
        ("metadata", .object(JSONObject())),
        ("weight_map", .object(JSONObject(names.map { ($0, .string(file)) }))),
      ])
      for name in try FileSystem.list(folder) where name.contains("safetensors") {
        try FileSystem.remove("\(folder)/\(name)")
      }
      try replaceFile(
        folder + "/model.safetensors.index.json",
        with: Array(JSONValue.object(index).serialized().utf8))
      let told = try CheckpointShapes(
        CheckpointConfig(folder: folder), listing: ShardListing(folder: folder))
      #expect(told.tensors == real.tensors)
      for linear in real.spec.layers.flatMap(\.linears) {
        #expect(told.byteCount(linear) == real.byteCount(linear), "\(linear.name)")
        #expect(told.isCoded(linear.weight) == real.isCoded(linear.weight))
      }
    }
  }
}
