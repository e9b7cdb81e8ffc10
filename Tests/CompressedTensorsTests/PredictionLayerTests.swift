// Prediction layers that are to be quantized: whether they are there, and what means them.

import CompressedTensors
import JSON
import Models
import Quantization
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct PredictionLayerTests {
  private static let model = fixturePath("predictions/glm4-moe-two")

  private func predicting(_ folder: String) throws -> CheckpointShapes {
    try CheckpointShapes(Checkpoint(folder: folder)).predicting()
  }

  /// A copy of the model with other tensors.
  private func withTensors(
    _ change: (inout [LooseTensor]) -> Void, _ body: (String) throws -> Void
  ) throws {
    try withTemporaryFolder { folder in
      try replaceFile(
        folder + "/config.json", with: FileSystem.readFile(Self.model + "/config.json"))
      var tensors = try SafetensorsFile(path: Self.model + "/model.safetensors").tensors.map {
        LooseTensor(name: $0.name, dtype: $0.dtype, shape: $0.shape, bytes: $0.bytes)
      }
      change(&tensors)
      try LooseTensor.write(tensors, to: folder + "/model.safetensors")
      try body(folder)
    }
  }

  @Test func `the layers behind the others are layers, and what joins them stays aside`() throws {
    let plain = CheckpointShapes(try Checkpoint(folder: Self.model))
    let shapes = try plain.predicting()
    #expect(plain.spec.layers.count == 2 && shapes.spec.layers.map(\.index) == [0, 1, 2, 3])
    #expect(plain.spec.passesThrough("model.layers.3.self_attn.q_proj.weight"))
    #expect(!shapes.spec.passesThrough("model.layers.3.self_attn.q_proj.weight"))
    for name in [
      "eh_proj.weight", "enorm.weight", "shared_head.head.weight", "embed_tokens.weight",
    ] {
      #expect(shapes.spec.passesThrough("model.layers.2." + name), "\(name)")
    }
    #expect(shapes.withoutPredictions.spec == plain.spec)
    #expect(shapes.spec.layers[2].caches.isEmpty && !shapes.spec.layers[1].caches.isEmpty)
  }

  @Test func `a model without prediction layers, or without their tensors, is refused`() throws {
    let without = fixturePath("forward/qwen3-moe-published")
    #expect(
      throws: PredictionError.none(
        file: without + "/config.json", architecture: "Qwen3MoeForCausalLM")
    ) { try predicting(without) }
    #expect(throws: PredictionError.undescribed(architecture: "Ernie4_5_MoeForCausalLM")) {
      try predicting(fixturePath("forward/ernie45-moe-tied"))
    }
    try withTensors({ $0.removeAll { $0.name.hasPrefix("model.layers.3.") } }) { folder in
      #expect(throws: PredictionError.notStored(folder: folder, layer: "model.layers.3")) {
        try predicting(folder)
      }
    }
    for error in [
      PredictionError.none(file: "a", architecture: "b"), .undescribed(architecture: "a"),
      .notStored(folder: "a", layer: "b"), .notLoaded(scheme: "a", reason: "b"),
    ] {
      #expect("\(error)".hasPrefix("--mtp") && "\(error)".contains(": "))
    }
  }

  @Test(arguments: ["self_attn.o_proj.weight", "eh_proj.weight", "hnorm.weight"])
  func `a prediction layer that lacks a tensor is refused`(name: String) throws {
    let tensor = "model.layers.2." + name
    try withTensors({ $0.removeAll { $0.name == tensor } }) { folder in
      #expect(throws: CheckpointError.missing(folder: folder, count: 1, names: [tensor])) {
        try predicting(folder)
      }
    }
  }

  @Test func `a tensor that no description claims, or of another shape, is refused`() throws {
    let other = "model.layers.2.self_attn.gate.weight"
    try withTensors({ $0.append(LooseTensor(other, [2], [1, 2], as: .bf16)) }) { folder in
      #expect(throws: CheckpointError.unclaimed(folder: folder, count: 1, names: [other])) {
        try predicting(folder)
      }
    }
    let norm = "model.layers.3.enorm.weight"
    let change: (inout [LooseTensor]) -> Void = { tensors in
      tensors.removeAll { $0.name == norm }
      tensors.append(LooseTensor(norm, [2], [1, 2], as: .bf16))
    }
    try withTensors(change) { folder in
      #expect(
        throws: CheckpointError.wrongShape(
          file: folder, tensor: norm, expected: "BF16, F16, F32 or F8_E4M3 [32]", found: "BF16 [2]")
      ) { try predicting(folder) }
    }
  }

  /// Beside targets that leave numbers of layers open, names alone mean nothing else.
  @Test func `targets mean the Linears of prediction layers and no others`() throws {
    let spec = try predicting(Self.model).spec
    let (own, further) = (spec.layers.prefix(2), spec.layers.suffix(2))
    let main = try SchemePreset.written("W8A16")
    let wanted = try SchemePreset.written("W4A16").grouped(by: 32)
    let experts = try main.targeting(
      IgnorePattern.targets("experts", of: spec.withoutPredictions, origin: "--scheme"))
    for others in [[main], [main, experts]] {
      let scheme = wanted.targetingPredictions(of: spec, beside: others)
      #expect(scheme.targets.allSatisfy { $0.hasPrefix("re:") } == (others.count == 1))
      #expect(!scheme.targets.contains { $0.contains("eh_proj") || $0.contains("head") })
      let schemes = try LinearSchemes(
        writing: others + [scheme], of: spec.layers.flatMap(\.linears), ignoring: [],
        origin: "--scheme")
      for linear in own.flatMap(\.linears) { #expect(schemes[linear]?.weights?.bits == 8) }
      for linear in further.flatMap(\.linears) { #expect(schemes[linear]?.weights?.bits == 4) }
    }
  }
}
