// The quantization_config of FP8 checkpoints: as they are published, and every key that is refused.

import CompressedTensors
import JSON
import Testing
import TestSupport

@Suite struct FP8FormatTests {
  private func format(_ text: String) throws -> FP8Format? {
    try FP8Format(JSONValue.parse(Array(text.utf8)), file: "some/config.json")
  }

  // MARK: Published ones

  @Test(arguments: [
    // DeepSeek-V3, and V3.1 with scales that are powers of two.
    #"{"activation_scheme":"dynamic","fmt":"e4m3","quant_method":"fp8","weight_block_size":[128,128]}"#,
    #"{"activation_scheme":"dynamic","fmt":"e4m3","quant_method":"fp8","scale_fmt":"ue8m0","weight_block_size":[128,128]}"#,
    // MiniMax-M2.
    #"{"activation_scheme":"dynamic","fmt":"float8_e4m3fn","quant_method":"fp8","weight_block_size":[128,128],"modules_to_not_convert":["gate","e_score_correction_bias","lm_head"]}"#,
    // transformers 5, which says nothing of fmt.
    #"{"activation_scheme":"dynamic","dequantize":false,"modules_to_convert":null,"modules_to_not_convert":null,"quant_method":"fp8","scale_fmt":"float","weight_block_size":[128,128]}"#,
    #"{"quant_method":"fp8","ignored_layers":["lm_head"],"weight_block_size":[128,128]}"#,
  ])
  func blocksAreUnderstood(text: String) throws {
    let format = try #require(try format(text))
    #expect(format.scaling == .blocks(rows: 128, columns: 128))
    #expect(format.scales(of: "a.b") == "a.b.weight_scale_inv")
    #expect(format.module(scaledBy: "a.b.weight_scale_inv") == "a.b")
    #expect(format.module(scaledBy: "a.b.weight_scale") == nil)
    #expect(format.module(scaledBy: "a.b.input_scale") == nil)
    #expect(format.ignore == [])
  }

  @Test(arguments: FP8Source.Scaling.allCases)
  func whatCompressedTensorsWritesIsUnderstood(scaling: FP8Source.Scaling) throws {
    let source = try FP8Source("awq/dense-first", scaling)
    let block = try #require(source.config["quantization_config"])
    let format = try #require(try FP8Format(block, file: "config.json"))
    switch scaling {
    case .blocks, .compressedBlocks: #expect(format.scaling == .blocks(rows: 24, columns: 40))
    case .channel: #expect(format.scaling == .channel)
    case .tensor: #expect(format.scaling == .tensor)
    }
    if scaling == .blocks { return }
    #expect(format.ignore == ["lm_head", "re:.*mlp.gate$"])
    #expect(format.module(scaledBy: "a.b.weight_scale") == "a.b")
    #expect(format.module(scaledBy: "a.b.input_scale") == "a.b")
    #expect(format.module(scaledBy: "a.b.weight_scale_inv") == nil)
    let naive = edited(block, ["format"], "naive-quantized")
    let inGroup = edited(naive, ["config_groups", "group_0", "format"], nil)
    #expect(try FP8Format(inGroup, file: "config.json") == format)
  }

  @Test(arguments: ["pack-quantized", "int-quantized", "mxfp8-quantized", "mixed-precision"])
  func whatSchemesDescribeIsAnotherMatter(name: String) throws {
    #expect(
      try format(#"{"quant_method":"compressed-tensors","format":"\#(name)"}"#) == nil)
  }

  // MARK: Refused ones

  /// A block with the value at a path of keys replaced, or removed for nil.
  private func edited(_ value: JSONValue, _ path: [String], _ replacement: JSONValue?) -> JSONValue
  {
    var object = value.object ?? JSONObject()
    object[path[0]] =
      path.count == 1
      ? replacement : edited(object[path[0]] ?? .null, Array(path.dropFirst()), replacement)
    return .object(object)
  }

  private func refusedKey(_ block: JSONValue) -> String? {
    let error = #expect(throws: QuantizationConfigError.self) {
      try FP8Format(block, file: "some/config.json")
    }
    #expect(error?.file == "some/config.json")
    return error?.key
  }

  @Test(
    arguments: [
      ("quant_method", "gptq"), ("quant_method", nil), ("quant_method", "awq"), ("fmt", "e5m2"),
      ("activation_scheme", "static"), ("scale_fmt", "float16"), ("weight_block_size", nil),
      ("weight_block_size", [128]), ("weight_block_size", [128, 0]),
      ("weight_block_size", [128, "128"]), ("weight_block_size", [128, 128, 1]),
      ("modules_to_convert", ["model.embed_tokens"]), ("bits", 8), ("kv_cache_scheme", "static"),
    ] as [(String, JSONValue?)])
  func anotherFineGrainedBlockIsRefusedByItsKey(key: String, value: JSONValue?) throws {
    let block = try #require(
      try FP8Source("awq/dense-first", .blocks).config["quantization_config"])
    #expect(refusedKey(edited(block, [key], value)) == key)
  }

  @Test(
    arguments: [
      (["format"], "marlin-24", "format"), (["format"], nil, "format"),
      (["quantization_status"], "frozen", "quantization_status"),
      (["kv_cache_scheme"], ["x"], "kv_cache_scheme"),
      (["transform_config"], ["x"], "transform_config"),
      (["sparsity_config"], ["x"], "sparsity_config"),
      (["ignore"], "lm_head", "ignore"), (["ignore"], [1], "ignore"),
      (["config_groups"], nil, "config_groups"),
      (["config_groups", "group_1"], true, "config_groups"),
      (["config_groups", "group_0", "targets"], ["re:.*"], "config_groups.targets"),
      (["config_groups", "group_0", "format"], "pack-quantized", "config_groups.format"),
      (
        ["config_groups", "group_0", "output_activations"], ["x"],
        "config_groups.output_activations"
      ),
      (["config_groups", "group_0", "more"], 1, "config_groups.more"),
      (["config_groups", "group_0", "weights"], nil, "config_groups.weights"),
      (["config_groups", "group_0", "weights", "num_bits"], 4, "weights.num_bits"),
      (["config_groups", "group_0", "weights", "type"], "int", "weights.type"),
      (["config_groups", "group_0", "weights", "symmetric"], false, "weights.symmetric"),
      (["config_groups", "group_0", "weights", "dynamic"], true, "weights.dynamic"),
      (["config_groups", "group_0", "weights", "actorder"], "group", "weights.actorder"),
      (["config_groups", "group_0", "weights", "group_size"], 32, "weights.strategy"),
      (["config_groups", "group_0", "weights", "strategy"], "group", "weights.group_size"),
      (["config_groups", "group_0", "weights", "strategy"], "token", "weights.dynamic"),
      (["config_groups", "group_0", "weights", "strategy"], "block", "weights.block_structure"),
      (
        ["config_groups", "group_0", "weights", "block_structure"], [128, 128],
        "weights.block_structure"
      ),
      (["more"], 1, "more"),
    ] as [([String], JSONValue?, String)])
  func anotherCompressedBlockIsRefusedByItsKey(path: [String], value: JSONValue?, key: String)
    throws
  {
    let block = try #require(
      try FP8Source("awq/dense-first", .channel).config["quantization_config"])
    #expect(refusedKey(edited(block, path, value)) == key)
  }

  /// Sums and products of such sizes would stop the program.
  @Test(
    arguments: [
      "9223372036854775807x128", "128x9223372036854775807", "0x128", "16777217x1", "128", "x",
      "1x2x3",
      [1_099_511_627_776, 128], [128, 33_554_432], [128],
    ] as [JSONValue])
  func `a block of a size that no weight has is refused`(size: JSONValue) throws {
    let block = try #require(
      try FP8Source("awq/dense-first", .compressedBlocks).config["quantization_config"])
    let weights = ["config_groups", "group_0", "weights", "block_structure"]
    #expect(throws: Never.self) {
      try FP8Format(edited(block, weights, "128x64"), file: "some/config.json")
    }
    let error = #expect(throws: QuantizationConfigError.self) {
      try FP8Format(edited(block, weights, size), file: "some/config.json")
    }
    #expect(error?.description.contains("two sizes such as [128,128]") == true, "\(error as Any)")
  }

  @Test func `a long value is told by its beginning`() throws {
    let block = try #require(
      try FP8Source("awq/dense-first", .channel).config["quantization_config"])
    let list = JSONValue.array(Array(repeating: 1, count: 100_000))
    let error = #expect(throws: QuantizationConfigError.self) {
      try FP8Format(edited(block, ["ignore"], list), file: "some/config.json")
    }
    #expect(error.map { $0.description.utf8.count < 400 } == true)
  }

  @Test func theErrorSaysWhatIsThereAndWhatToDo() throws {
    let error = #expect(throws: QuantizationConfigError.self) {
      try format(#"{"quant_method":"fp8","activation_scheme":"static"}"#)
    }
    #expect(
      error?.description
        == "some/config.json: `quantization_config.activation_scheme` is \"static\", but only "
        + "null or \"dynamic\" is supported; start from the unquantized checkpoint")
  }
}
