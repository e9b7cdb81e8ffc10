// Verify passes what a run wrote, and finds what was changed afterwards.

import CompressedTensors
import JSON
import Pipeline
import Quantization
import Safetensors
import SystemIO
import Testing
import TestSupport

@Suite struct VerifyModelTests {
  /// An output of the small run, changed by `damage`, and what verify makes of it.
  private func verify(
    smooths: Bool = true, damaging damage: (String) throws -> Void
  ) throws -> VerifyReport {
    try withTemporaryFolder { folder in
      var options = SmallRun.options(folder + "/out")
      options.smooths = smooths
      options.ignore = ["model.layers.0.*"]
      try SmallRun.run(options)
      try damage(options.output)
      return try VerifyModel(output: options.output, source: options.model, threads: 2).run()
    }
  }

  /// Changes one byte of a tensor in place.
  private func flip(_ tensor: String, at offset: Int, in output: String, to value: UInt8? = nil)
    throws
  {
    let path = output + "/model-00001-of-00001.safetensors"
    let file = try SafetensorsFile(path: path)
    let range = try #require(file[tensor]).range
    var bytes = try FileSystem.readFile(path)
    bytes[range.lowerBound + offset] = value ?? bytes[range.lowerBound + offset] ^ 0x10
    try replaceFile(path, with: bytes)
  }

  @Test func `a finished output has no findings`() throws {
    let report = try verify { _ in }
    #expect(report.findings == [])
    #expect(report.rescaledTensors == 3)
    #expect(report.errors.count == report.quantizedLinears)
    #expect(report.errors.allSatisfy { $0.relative > 0 && $0.relative < 0.4 })
  }

  @Test func `an output without smoothing has no findings`() throws {
    let report = try verify(smooths: false) { _ in }
    #expect(report.findings == [])
    #expect(report.rescaledTensors == 0)
  }

  @Test func `a changed bit in an ignored layer is found`() throws {
    let name = "model.layers.0.mlp.down_proj.weight"
    let report = try verify { try flip(name, at: 5, in: $0) }
    #expect(report.findings.map(\.subject) == [name])
  }

  @Test func `a changed norm is found`() throws {
    let name = "model.layers.1.post_attention_layernorm.weight"
    let report = try verify { try flip(name, at: 2, in: $0) }
    #expect(report.findings.map(\.subject) == [name])
  }

  @Test func `a scale that is zero or infinite is found`() throws {
    let name = "model.layers.1.mlp.experts.2.down_proj.weight_scale"
    let report = try verify {
      for byte in 0..<4 { try flip(name, at: byte, in: $0, to: 0) }
    }
    #expect(report.findings.map(\.subject).contains(name))
  }

  @Test func `a scale of another size is found by the error of its Linear`() throws {
    let module = "model.layers.1.mlp.experts.2.down_proj"
    // The exponent byte of a little-endian float32: 2^64 times as large.
    let report = try verify { try flip(module + ".weight_scale", at: 3, in: $0, to: 0x5f) }
    #expect(report.findings.map(\.subject) == [module])
  }

  @Test func `a wrong recorded shape is found`() throws {
    let name = "model.layers.1.self_attn.q_proj.weight_shape"
    let report = try verify { try flip(name, at: 0, in: $0) }
    #expect(report.findings.map(\.subject) == [name])
  }

  @Test func `a router that config json does not ignore is found`() throws {
    let report = try verify { try removeFromIgnore("model.layers.1.mlp.gate", of: $0) }
    #expect(report.findings.map(\.subject) == ["model.layers.1.mlp.gate"])
  }

  @Test func `a total that the tensors do not have is found`() throws {
    let report = try verify { output in
      let path = output + "/model.safetensors.index.json"
      var index = try #require(JSONValue.parse(FileSystem.readFile(path)).object)
      index["metadata"] = .object(JSONObject([("total_size", 12)]))
      try replaceFile(path, with: Array(JSONValue.object(index).serialized().utf8))
    }
    #expect(report.findings.count == 1)
  }

  @Test func `a Linear that config json calls quantized and that is not stops at once`() throws {
    #expect(throws: CheckpointError.self) {
      _ = try verify { try removeFromIgnore("model.layers.0.self_attn.q_proj", of: $0) }
    }
  }

  @Test func `a truncated shard stops at once`() throws {
    #expect(throws: SafetensorsError.self) {
      _ = try verify { output in
        let path = output + "/model-00001-of-00001.safetensors"
        try replaceFile(path, with: FileSystem.readFile(path).dropLast(1))
      }
    }
  }

  @Test func `a checkpoint that is not quantized is no output`() throws {
    #expect(throws: NotQuantized.self) {
      try VerifyModel(output: SmallRun.model, source: nil, threads: 1)
    }
  }

  private func removeFromIgnore(_ module: String, of output: String) throws {
    let path = output + "/config.json"
    var config = try #require(JSONValue.parse(FileSystem.readFile(path)).object)
    var block = try #require(config["quantization_config"]?.object)
    let names = try #require(block["ignore"]?.array)
    try #require(names.contains(.string(module)))
    block["ignore"] = .array(names.filter { $0 != .string(module) })
    config["quantization_config"] = .object(block)
    try replaceFile(path, with: Array(JSONValue.object(config).serialized().utf8))
  }
}
