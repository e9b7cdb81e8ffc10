// Sources that are quantized already, in every format: what is made of them, and what of a twin that holds their numbers.

import CompressedTensors
import JSON
import LinearAlgebra
import Models
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct QuantizedSourceTests {
  private static let quick = ["--no-smoothing", "--rounding", "nearest"]

  /// A checkpoint with the numbers of another as bf16: the same where codes times scales are bf16 numbers.
  private func writeTwin(of model: String, to folder: String) throws {
    let checkpoint = try Checkpoint(folder: model)
    var config = checkpoint.config
    config["quantization_config"] = nil
    let tensors = checkpoint.weights.names.map { name -> LooseTensor in
      let parameter = checkpoint.weights.parameter(name)
      if let tensor = parameter.tensor {
        return LooseTensor(
          name: name, dtype: tensor.dtype, shape: tensor.shape, bytes: tensor.bytes)
      }
      let rows = checkpoint.weights.rows(of: parameter)
      return LooseTensor(name, parameter.shape, rows.matrix(0..<rows.rows).values, as: .bf16)
    }
    try FileSystem.createFolder(folder)
    try replaceFile(
      folder + "/config.json", with: Array(JSONValue.object(config).serialized(indent: 2).utf8))
    try LooseTensor.write(tensors, to: folder + "/model.safetensors")
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
      try replaceFile(
        "\(folder)/\(name)", with: FileSystem.readFile("\(fixtureModel)/\(name)"))
    }
  }

  /// Powers of two for scales: every number is one of bf16.
  @Test(arguments: ["MXFP4A16", "MXFP8A16", "MXFP6A16"])
  func `what comes of a quantized source is what comes of its numbers`(preset: String) throws {
    try withTemporaryFolder { folder in
      try quantize(
        to: "\(folder)/source",
        Self.quick + ["--scheme", preset, "--ignore", "model.layers.1.mlp.shared_experts.*"])
      try writeTwin(of: "\(folder)/source", to: "\(folder)/twin")
      let own = ["--calibration", fixtureCalibration, "--samples", "4", "--engine", "f32"]
      let run = try quantize("\(folder)/source", to: "\(folder)/one", own)
      #expect(run.stderr.contains("quantized already"), "\(run)")
      try quantize("\(folder)/twin", to: "\(folder)/two", own)
      let (one, two) = (try result("\(folder)/one"), try result("\(folder)/two"))
      // config.json and the index have the keys of their own sources.
      #expect(
        differences(one, two).filter { $0.hasSuffix(".safetensors") } == [],
        "\(differences(one, two))")
    }
  }

  @Test(arguments: [
    "W4A16_ASYM", "W3A16", "W8A8", "NVFP4A16", "MXFP4", "MXFP8", "W4AFP8",
  ])
  func `a source in any format is read, copied out where it stays, and verified against`(
    preset: String
  ) throws {
    try withTemporaryFolder { folder in
      let source = "\(folder)/source"
      try quantize(to: source, Self.quick + ["--scheme", preset])
      let own = [
        "--calibration", fixtureCalibration, "--samples", "4", "--scheme", "W8A16", "--group-size",
        "32", "--ignore", "model.layers.2.self_attn.*",
      ]
      let run = try quantize(
        source, to: "\(folder)/one", own + ["--threads", "1", "--memory", "256MiB"])
      #expect(!run.stderr.contains("over the budget"), "\(run)")
      try quantize(source, to: "\(folder)/two", own + ["--threads", "3"])
      #expect(differences(try result("\(folder)/one"), try result("\(folder)/two")) == [])
      let verify = try Program.run(["verify", "\(folder)/one", "--source", source])
      #expect(verify.end == .exit(0), "\(verify)")
      let plain = try Checkpoint(folder: "\(folder)/one")
      #expect(plain.weights.find("model.layers.2.self_attn.q_proj.weight")?.dtype == .bf16)
      let plan = try Program.run(["plan", source] + own)
      #expect(plan.end == .exit(0), "\(plan)")
    }
  }

  @Test func `scales of static activations in a source are left out, and said so`() throws {
    try withTemporaryFolder { folder in
      let source = "\(folder)/source"
      try quantize(to: source, Self.quick + ["--scheme", "NVFP4A16"])
      let weights = try Checkpoint(folder: source).weights.names.filter {
        $0.hasPrefix("model.layers.1.") && $0.hasSuffix("_proj.weight")
      }
      #expect(!weights.isEmpty)
      let scales = weights.map {
        LooseTensor(
          $0.dropLast("weight".count) + "input_global_scale", [1], [1], as: .f32)
      }
      let model = try ShardedModel(folder: source)
      let tensors = model.tensors.map {
        LooseTensor(name: $0.name, dtype: $0.dtype, shape: $0.shape, bytes: $0.bytes)
      }
      for name in try FileSystem.list(source) where name.hasPrefix("model") {
        try FileSystem.remove("\(source)/\(name)")
      }
      try LooseTensor.write(tensors + scales, to: "\(source)/model.safetensors")
      let run = try quantize(source, to: "\(folder)/out", Self.quick)
      #expect(run.stderr.contains("the output leaves them out"), "\(run)")
    }
  }
}
