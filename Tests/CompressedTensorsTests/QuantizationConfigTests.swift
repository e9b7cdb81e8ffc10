// The quantization_config block against the peer's, and every block that is refused.

import CompressedTensors
import JSON
import Quantization
import SystemIO
import Testing
import TestSupport

@Suite struct QuantizationConfigTests {
  private func block(_ folder: String) throws -> JSONValue {
    let file = fixturePath("rtn/bf16/\(folder)/config.json")
    let config = try JSONValue.parse(FileSystem.readFile(file))
    return try #require(config.object?["quantization_config"])
  }

  private func sortedIgnore(_ block: JSONValue) -> [String] {
    (block.object?["ignore"]?.array ?? []).compactMap(\.string).sorted()
  }

  private func withoutIgnore(_ block: JSONValue) -> JSONObject? {
    var object = block.object
    object?["ignore"] = []
    return object
  }

  @Test(arguments: PeerRounding.all)
  func theBlockIsThePeersButForTheOrderOfIgnore(peer: PeerRounding) throws {
    let expected = try block(peer.folder)
    let plan = try OutputPlan(
      CheckpointShapes(source()), schemes: [peer.scheme.scheme], ignoring: [], smooths: true)
    let found = QuantizationConfig(groups: [peer.scheme.scheme], ignore: plan.ignore).json
    #expect(sortedIgnore(found) == sortedIgnore(expected))
    #expect(withoutIgnore(found) == withoutIgnore(expected))
  }

  @Test(arguments: PeerRounding.all)
  func whatIsWrittenIsReadBack(peer: PeerRounding) throws {
    let config = QuantizationConfig(groups: [peer.scheme.scheme], ignore: ["a.b", "lm_head"])
    #expect(try QuantizationConfig(config.json, file: "config.json") == config)
    let read = try QuantizationConfig(block(peer.folder), file: "config.json")
    #expect(read.groups == [peer.scheme.scheme])
    #expect(read.ignore.sorted() == ["lm_head", "model.layers.1.mlp.gate"])
  }

  /// A block with the value at a path of keys replaced, or removed for nil.
  private func edited(_ value: JSONValue, _ path: [String], _ replacement: JSONValue?) -> JSONValue
  {
    guard let key = path.first else { return replacement ?? .null }
    var object = value.object ?? JSONObject()
    object[key] =
      path.count == 1
      ? replacement : edited(object[key] ?? .null, Array(path.dropFirst()), replacement)
    return .object(object)
  }

  @Test(
    arguments: [
      (["quant_method"], "gptq", "quant_method"), (["quant_method"], nil, "quant_method"),
      (["format"], "marlin-24", "format"), (["format"], 3, "format"),
      (["quantization_status"], "frozen", "quantization_status"),
      (["config_groups"], nil, "config_groups"), (["config_groups"], [], "config_groups"),
      (["config_groups", "group_1"], true, "config_groups"),
      (["config_groups", "group_0"], true, "config_groups"),
      (["config_groups", "group_0", "targets"], ["Linear", "Embedding"], "config_groups.targets"),
      (["config_groups", "group_0", "targets"], [], "config_groups.targets"),
      (["config_groups", "group_0", "targets"], [1], "config_groups.targets"),
      (["config_groups", "group_0", "format"], "marlin-24", "config_groups.format"),
      (["config_groups", "group_0", "more"], 1, "config_groups.more"),
      (["config_groups", "group_0", "weights", "bits"], 4, "weights.bits"),
      (["more"], 1, "more"),
      (["config_groups", "group_0", "targets"], nil, "config_groups.targets"),
      (["config_groups", "group_0", "weights", "type"], "float", "weights.type"),
      (["config_groups", "group_0", "weights", "strategy"], "channel", "weights.strategy"),
      (["config_groups", "group_0", "weights", "num_bits"], 9, "weights.num_bits"),
      (["config_groups", "group_0", "weights", "num_bits"], nil, "weights.num_bits"),
      (["config_groups", "group_0", "weights", "group_size"], 48, "weights.group_size"),
      (["config_groups", "group_0", "weights", "group_size"], nil, "weights.group_size"),
      (["config_groups", "group_0", "weights", "symmetric"], "yes", "weights.symmetric"),
      (["config_groups", "group_0", "weights"], nil, "config_groups.weights"),
      (["config_groups", "group_0", "weights", "actorder"], "group", "weights.actorder"),
      (
        ["config_groups", "group_0", "input_activations"], ["x"], "config_groups.input_activations"
      ),
      (["kv_cache_scheme"], ["x"], "kv_cache_scheme"),
      (["transform_config"], ["x"], "transform_config"),
      (["sparsity_config"], ["x"], "sparsity_config"),
      (["ignore"], [1], "ignore"), (["ignore"], "lm_head", "ignore"),
    ] as [([String], JSONValue?, String)])
  func anythingElseIsRefusedByItsKey(path: [String], value: JSONValue?, key: String) throws {
    let block = edited(try block("W4A16"), path, value)
    let error = #expect(throws: QuantizationConfigError.self) {
      try QuantizationConfig(block, file: "some/config.json")
    }
    #expect(error?.key == key)
    #expect(error?.file == "some/config.json")
  }

  @Test func aBlockThatIsNoObjectIsRefused() {
    #expect(throws: QuantizationConfigError.self) {
      try QuantizationConfig("compressed-tensors", file: "config.json")
    }
  }

  @Test func theErrorSaysWhatIsThereAndWhatToDo() throws {
    let block = edited(try block("W4A16"), ["format"], "marlin-24")
    let error = #expect(throws: QuantizationConfigError.self) {
      try QuantizationConfig(block, file: "m/config.json")
    }
    #expect(
      error?.description
        == "m/config.json: `quantization_config.format` is \"marlin-24\", but only "
        + "\"pack-quantized\", \"int-quantized\", \"float-quantized\", \"naive-quantized\", "
        + "\"nvfp4-pack-quantized\", \"mxfp4-pack-quantized\", \"mxfp6-pack-quantized\" or "
        + "\"mxfp8-quantized\" is supported; start from the unquantized checkpoint")
  }
}
