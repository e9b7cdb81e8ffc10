// Runs of text models within wrappers: what lies beside is copied, and config.json says so where vLLM reads it.

import Calibration
import CompressedTensors
import JSON
import Models
import Pipeline
import Quantization
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport

private let wrappers = [
  "glm4v-moe-half", "kimi-k25-yarn", "kimi-k3-published", "mistral3-head-dim", "qwen3-omni-thinker",
  "qwen3-vl-moe-fused", "qwen3-vl-tied", "qwen35-moe-images",
]

@Suite struct WrapperRunTests {
  private func options(_ model: String, _ output: String) -> QuantizeOptions {
    var options = QuantizeOptions(model: model, output: output, memory: 1 << 30, threads: 2)
    options.data.path = model + "/ids.jsonl"
    options.data.selection.samples = 7
    options.schemes = [IntegerScheme(.w4a16, groupSize: 32).scheme]
    options.rounding = .nearest
    return options
  }

  private func config(_ folder: String) throws -> JSONObject {
    try #require(JSONValue.parse(FileSystem.readFile(folder + "/config.json")).object)
  }

  @Test(arguments: wrappers)
  func `what lies beside a text model is copied and ignored`(name: String) throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try GrownModel(name, dtype: .bf16, in: model)
      let options = options(model, folder + "/out")
      try SmallRun.run(options)
      let source = try ShardedModel(folder: model)
      let output = try ShardedModel(folder: options.output)
      let spec = try Checkpoint(folder: model).spec
      let found = try config(options.output)
      let ignored = try #require(found["quantization_config"]?.object?["ignore"]?.array)
      let beside = source.tensors.filter { tensor in
        spec.beside.contains { tensor.name.hasPrefix($0) }
      }
      #expect(!beside.isEmpty)
      for tensor in beside {
        #expect(output[tensor.name]?.bytes == tensor.bytes)
        let module = tensor.name.hasSuffix(".weight") ? String(tensor.name.dropLast(7)) : ""
        if tensor.shape.count == 2, !module.isEmpty {
          #expect(ignored.contains(.string(module)), "\(module)")
        }
      }
      #expect(ignored.contains(.string(spec.names.head)))
      // All else of config.json is the source's.
      var rest = found
      rest["quantization_config"] = nil
      #expect(rest == (try config(model)))
      // Without its text model's prefix, nothing is one of its tensors.
      #expect(
        spec.claims.allSatisfy { claim in
          claim.name.hasPrefix(spec.names.model) || claim.name.hasPrefix(spec.names.head)
        })
    }
  }

  @Test func `a description of the text model's weights makes room for that of the output`() throws
  {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try GrownModel("kimi-k25-yarn", dtype: .bf16, in: model)
      let first = options(model, folder + "/first")
      try SmallRun.run(first)
      // As Kimi K2.5 was published: with its quantization told of in the text model's object.
      var nested = try config(first.output)
      nested[["text_config", "quantization_config"]] = nested["quantization_config"]
      nested["quantization_config"] = nil
      try replaceFile(
        first.output + "/config.json",
        with: Array(JSONValue.object(nested).serialized(indent: 2).utf8))
      try FileSystem.copyFile(from: model + "/ids.jsonl", to: first.output + "/ids.jsonl")
      let second = options(first.output, folder + "/second")
      try SmallRun.run(second)
      let found = try config(second.output)
      #expect(found["quantization_config"]?.object != nil)
      #expect(found[["text_config", "quantization_config"]] == nil)
      let report = try VerifyModel(output: second.output, source: first.output, threads: 2).run()
      #expect(report.findings == [])
    }
  }

  @Test func `a text model that is not known in a wrapper is refused by its name`() throws {
    var config = try config(fixturePath("forward/mistral3-head-dim"))
    config.text["model_type"] = "ministral3"
    #expect(
      throws: ConfigError.unsupported(
        file: "config.json", key: "text_config.model_type", expected: "mistral",
        found: "ministral3")
    ) { try Architectures.describe(config: config, file: "config.json") }
    config["text_config"] = nil
    #expect(throws: ConfigError.missing(file: "config.json", key: "text_config")) {
      try Architectures.describe(config: config, file: "config.json")
    }
    config["text_config"] = 1
    #expect(throws: ConfigError.self) {
      try Architectures.describe(config: config, file: "config.json")
    }
  }

  @Test func `an unknown class with fused experts is told whose tensors are named like its`() throws
  {
    let folder = fixturePath("forward/qwen3-vl-moe-fused")
    var config = try config(folder)
    config["architectures"] = ["SomebodysForConditionalGeneration"]
    let names = try ShardedModel(folder: folder).tensors.map(\.name)
    let error = #expect(throws: ConfigError.self) {
      try Architectures.describe(config: config, file: "config.json") { names }
    }
    guard
      case .unknownArchitecture(_, _, _, "Qwen3VLMoeForConditionalGeneration")? = error
    else {
      Issue.record("\(String(describing: error))")
      return
    }
  }
}
