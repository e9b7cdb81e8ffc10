// Scales of static activations: what llm-compressor finds on the same tokens, the same for any memory and after any stop.

import Calibration
import CompressedTensors
import JSON
import Pipeline
import Quantization
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport

@Suite struct StaticActivationTests {
  private static let staticInt8 = QuantizationScheme(
    weights: QuantizationArguments(bits: 8, strategy: .channel),
    inputActivations: QuantizationArguments(bits: 8, strategy: .tensor, observer: "static_minmax"))
  /// Without an observer that is named.
  private static let leastSquares = QuantizationScheme(
    weights: QuantizationArguments(bits: 8, strategy: .channel),
    inputActivations: QuantizationArguments(bits: 8, strategy: .tensor))

  private func scheme(_ name: String) throws -> QuantizationScheme {
    try name == "INT8-static"
      ? Self.staticInt8 : name == "INT8-mse" ? Self.leastSquares : SchemePreset.written(name)
  }

  private func options(_ output: String, _ name: String) throws -> QuantizeOptions {
    var options = SmallRun.options(output)
    options.model = fixturePath("awq/moe-only")
    options.data.path = fixturePath("awq/moe-only/calibration.jsonl")
    options.data.selection.samples = 8
    options.schemes = [try scheme(name)]
    return options
  }

  /// By tensor, as the peer found them.
  private func peer(_ name: String) throws -> [(tensor: String, scale: Double)] {
    let text = try FileSystem.readFile(fixturePath("schemes/static.json"))
    let entries = try #require(JSONValue.parse(text).object?[name]?.object).entries
    return try entries.map { ($0.key, try #require($0.value.array?.first?.double)) }
  }

  @Test(arguments: ["FP8", "NVFP4", "INT8-static"])
  func `static scales are those of the peer`(name: String) throws {
    try withTemporaryFolder { folder in
      var options = try options("\(folder)/out", name)
      options.smooths = false
      options.rounding = .nearest
      try SmallRun.run(options)
      let output = try ShardedModel(folder: options.output)
      let expected = try peer(name)
      #expect(expected.count == 38)
      for (tensor, scale) in expected {
        let found = try #require(output[tensor], "\(tensor)").floats[0]
        #expect(abs(Double(found) / scale - 1) < 2e-6, "\(tensor): \(found), expected \(scale)")
      }
      let stored = output.tensors.count {
        $0.name.hasSuffix(".input_scale") || $0.name.hasSuffix(".input_global_scale")
      }
      #expect(stored == expected.count)
    }
  }

  /// An expert that the router chooses for no token of these sequences has a scale like the others.
  @Test(arguments: ["FP8", "NVFP4"])
  func `every expert has a scale of its own`(name: String) throws {
    try withTemporaryFolder { folder in
      var options = try options("\(folder)/out", name)
      options.data.selection.samples = 1
      options.data.selection.sequenceLength = 2
      try SmallRun.run(options)
      let output = try ShardedModel(folder: options.output)
      let scales = try (0..<4).map { expert in
        let linear = "model.layers.0.mlp.experts.\(expert).down_proj"
        return try #require(
          output[linear + (name == "FP8" ? ".input_scale" : ".input_global_scale")]
        ).floats[0]
      }
      #expect(Set(scales).count == 4)
      #expect(scales.allSatisfy { $0 > 0 && $0.isFinite })
    }
  }

  @Test(arguments: ["FP8", "NVFP4", "INT8-static", "INT8-mse"])
  func `bytes depend on neither memory nor stops`(name: String) throws {
    try withTemporaryFolder { folder in
      var options = try options("\(folder)/a", name)
      let expected = try SmallRun.expectTheSameBytes(options, in: folder)
      options.threads = 1
      try SmallRun.runInterrupted(options) { _ in }
      #expect(try SmallRun.contents(options.output) == expected)
      let report = try VerifyModel(output: options.output, source: options.model, threads: 2).run()
      #expect(report.findings == [])
    }
  }

  private func evaluate(_ output: SpoiledOutput) throws -> Evaluation {
    try EvaluateModel(
      EvaluateOptions(
        models: [output.path], reference: nil,
        data: CalibrationSource(
          path: SmallRun.calibration, selection: RowSelection(samples: 2, sequenceLength: 16)),
        memory: 1 << 30, threads: 2, scratch: output.path + "-scratch")
    ).run()
  }

  /// Without them a model would be judged as if its activations were other numbers.
  @Test(arguments: [Float.nan, .infinity, 0, -1])
  func `an evaluation refuses stored numbers that are none`(number: Float) throws {
    try withTemporaryFolder { folder in
      let fp8 = try SchemePreset.written("FP8")
      let output = try SpoiledOutput(in: folder) { $0.schemes = [fp8] }
      #expect(try evaluate(output).all.nll?.isFinite == true)
      let tensor = "model.layers.1.self_attn.o_proj.input_scale"
      try output.change(tensor) { bytes in
        bytes = (bytes.count == 4 ? DType.f32 : .bf16).encoded([number])
      }
      let error = #expect(throws: ActivationProblem.self) { try evaluate(output) }
      guard case .wrong(_, tensor, _) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
  }

  @Test(arguments: [DType.f64, .i64, .u8])
  func `an evaluation refuses stored numbers of a type that scales never have`(type: DType) throws {
    try withTemporaryFolder { folder in
      let fp8 = try SchemePreset.written("FP8")
      let output = try SpoiledOutput(in: folder) { $0.schemes = [fp8] }
      let scale = "model.layers.1.self_attn.o_proj.input_scale"
      for shard in try output.shards {
        try output.rewrite(shard) { tensors in
          for index in tensors.indices where tensors[index].name == scale {
            tensors[index].dtype = type
            tensors[index].bytes = [UInt8](repeating: 1, count: type.byteWidth)
          }
        }
      }
      let error = #expect(throws: ActivationProblem.self) { try evaluate(output) }
      #expect(error.map { "\($0)".contains("`\(scale)` is \(type.rawValue) [1]") } == true)
    }
  }

  @Test(arguments: [("num_bits", JSONValue.int(9)), ("strategy", "channel")])
  func `an evaluation refuses activations that it does not know`(
    key: String, value: JSONValue
  ) throws {
    try withTemporaryFolder { folder in
      let fp8 = try SchemePreset.written("FP8")
      let output = try SpoiledOutput(in: folder) { $0.schemes = [fp8] }
      try output.changeJSON("config.json") { config in
        var block = config["quantization_config"]?.object ?? JSONObject()
        var groups = block["config_groups"]?.object ?? JSONObject()
        let name = groups.entries[0].key
        var group = groups[name]?.object ?? JSONObject()
        var inputs = group["input_activations"]?.object ?? JSONObject()
        inputs[key] = value
        group["input_activations"] = .object(inputs)
        groups[name] = .object(group)
        block["config_groups"] = .object(groups)
        config["quantization_config"] = .object(block)
      }
      let error = #expect(throws: ActivationProblem.self) { try evaluate(output) }
      guard case .unknown = error else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
  }
}
