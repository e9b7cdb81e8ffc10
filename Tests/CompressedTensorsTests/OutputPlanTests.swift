// The fate of every tensor.

import CompressedTensors
import Models
import Quantization
import Safetensors
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct OutputPlanTests {
  private let g32 = IntegerScheme(.w4a16, groupSize: 32).scheme
  /// For fixtures with 48 or 80 input features.
  private let g16 = IntegerScheme(bits: 4, groupSize: 16, isSymmetric: true).scheme

  private func plan(
    _ checkpoint: Checkpoint, _ schemes: QuantizationScheme..., ignoring patterns: [String] = [],
    smooths: Bool = true
  ) throws -> OutputPlan {
    try OutputPlan(
      CheckpointShapes(checkpoint), schemes: schemes,
      ignoring: patterns.map { try IgnorePattern($0) }, smooths: smooths
    )
  }

  @Test(arguments: PeerRounding.all)
  func theOutputHasThePeersTensors(peer: PeerRounding) throws {
    let plan = try plan(source(), peer.scheme.scheme, smooths: false)
    let expected = try peer.model().tensors.map { "\($0.name) \($0.dtype) \($0.shape)" }
    #expect(plan.tensors.map { "\($0.name) \($0.dtype) \($0.shape)" }.sorted() == expected.sorted())
  }

  /// transformers renames tensors before it asks config.json for their modules; vLLM asks for the names that are stored.
  @Test func `what stays is ignored under every name by which a reader asks for it`() throws {
    let plan = try plan(Checkpoint(folder: fixturePath("forward/kimi-linear-published")), g32)
    for module in ["f_b_proj", "forget_gate.f_b_proj", "g_b_proj"] {
      #expect(plan.ignore.contains("model.layers.0.self_attn.\(module)"), "\(module)")
    }
    #expect(!plan.ignore.contains { $0.hasSuffix("f_a_proj") })
  }

  @Test func withoutSmoothingTensorsAreCopiedOrPacked() throws {
    let source = try source()
    let plan = try plan(source, g32, smooths: false)
    let quantized = Set(source.spec.layers.flatMap(\.linears).map(\.weight))
    #expect(plan.fates.count == source.model.tensors.count)
    for (name, fate) in plan.fates {
      #expect(fate == (quantized.contains(name) ? .packed : .copied))
    }
    #expect(plan.smoothings.allSatisfy { $0.isEmpty } && plan.smoothingTensors.isEmpty)
  }

  @Test func aLayerThatIsIgnoredIsCopiedWhole() throws {
    let source = try source()
    let plan = try plan(source, g32, ignoring: ["model.layers.0.*"])
    for tensor in source.model.tensors where tensor.name.hasPrefix("model.layers.0.") {
      #expect(plan.fates[tensor.name] == .copied, "\(tensor.name)")
    }
    #expect(plan.smoothings[0].isEmpty)
    let layer = source.spec.layers[0].linears.map(\.name)
    #expect(Array(plan.ignore.prefix(layer.count)) == layer)
    for linear in source.spec.layers[1].linears { #expect(plan.fates[linear.weight] == .packed) }
  }

  @Test func normsAndTheRouterAreRescaledAndTheCorrectionBiasIsCopied() throws {
    let plan = try plan(source(), g32)
    let layer = "model.layers.1."
    #expect(plan.fates[layer + "input_layernorm.weight"] == .rescaled)
    #expect(plan.fates[layer + "post_attention_layernorm.weight"] == .rescaled)
    #expect(plan.fates[layer + "mlp.gate.weight"] == .rescaled)
    #expect(plan.fates[layer + "mlp.gate.e_score_correction_bias"] == .copied)
    #expect(plan.fates["model.embed_tokens.weight"] == .copied)
    #expect(plan.fates["model.norm.weight"] == .copied)
    #expect(plan.fates["lm_head.weight"] == .copied)
    #expect(plan.ignore == ["model.layers.1.mlp.gate", "lm_head"])
  }

  @Test func everySmoothingWithAQuantizedConsumerIsSearchedAndKept() throws {
    let source = try source()
    let plan = try plan(source, g32)
    #expect(plan.smoothings == source.spec.layers.map(\.smoothings))
    #expect(
      plan.smoothingTensors.map { "\($0.name) \($0.dtype) \($0.shape)" }
        == source.spec.layers.flatMap(\.smoothings).map {
          "\($0.producerName).smoothing_scale f32 [\($0.channels)]"
        })
  }

  /// An ignored consumer of a smoothed norm is rescaled; one whose producer is left alone is copied.
  @Test func anIgnoredConsumerIsRescaledWithItsQuantizedSiblings() throws {
    let plan = try plan(
      source(), g32, ignoring: ["*.self_attn.q_proj", "model.layers.0.mlp.down_proj"])
    #expect(plan.fates["model.layers.0.self_attn.q_proj.weight"] == .rescaled)
    #expect(plan.fates["model.layers.0.self_attn.k_proj.weight"] == .packed)
    #expect(plan.fates["model.layers.0.mlp.down_proj.weight"] == .copied)
    let produced = plan.smoothings[0].map(\.producerName)
    #expect(!produced.contains("model.layers.0.mlp.up_proj"))
    #expect(
      plan.ignore == [
        "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj",
        "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.gate", "lm_head",
      ])
  }

  /// The up projection keeps its own type when only its consumer is quantized, but its rows are divided.
  @Test func anIgnoredProducerIsRescaled() throws {
    let plan = try plan(source(), g32, ignoring: ["*up_proj", "*gate_proj"])
    #expect(plan.fates["model.layers.0.mlp.up_proj.weight"] == .rescaled)
    #expect(plan.fates["model.layers.0.mlp.gate_proj.weight"] == .copied)
    #expect(plan.fates["model.layers.0.post_attention_layernorm.weight"] == .copied)
  }

  @Test func aBiasIsRescaledWithItsProducerAndOtherwiseCopied() throws {
    // As many key-value heads as heads, so that v_proj produces for o_proj.
    let checkpoint = try Checkpoint(folder: fixturePath("forward/null-head-dim"))
    let smoothed = try plan(checkpoint, g16)
    #expect(smoothed.fates["model.layers.0.self_attn.v_proj.bias"] == .rescaled)
    #expect(smoothed.fates["model.layers.0.self_attn.q_proj.bias"] == .copied)
    let plain = try plan(checkpoint, g16, ignoring: ["*o_proj"])
    #expect(plain.fates["model.layers.0.self_attn.v_proj.bias"] == .copied)
  }

  @Test func predictionLayersAreCopiedAndTheirLinearsIgnored() throws {
    let checkpoint = try Checkpoint(folder: fixturePath("forward/published-mtp-bf16"))
    let plan = try plan(checkpoint, g16)
    let extra = checkpoint.model.tensors.filter { $0.name.hasPrefix("model.layers.2.") }
    #expect(!extra.isEmpty)
    for tensor in extra {
      #expect(plan.fates[tensor.name] == .copied)
      #expect(
        plan.tensors.contains(
          TensorSpec(name: tensor.name, dtype: tensor.dtype, shape: tensor.shape)))
    }
    let expected = [
      "eh_proj", "mlp.gate", "mlp.experts.0.gate_proj", "mlp.shared_experts.down_proj",
      "self_attn.q_proj", "shared_head.head",
    ]
    for name in expected { #expect(plan.ignore.contains("model.layers.2." + name), "\(name)") }
    for name in ["embed_tokens", "enorm", "input_layernorm", "shared_head.norm"] {
      #expect(!plan.ignore.contains("model.layers.2." + name), "\(name)")
    }
    #expect(Set(plan.ignore).count == plan.ignore.count)
  }

  @Test func `only the producers that are asked for are smoothed`() throws {
    let source = try source()
    let producer = "model.layers.1.input_layernorm"
    let plan = try OutputPlan(
      CheckpointShapes(source), schemes: [g32], ignoring: [], smooths: true, producers: [producer])
    #expect(plan.smoothings.joined().map(\.producerName) == [producer])
    #expect(plan.fates["\(producer).weight"] == .rescaled)
    #expect(plan.fates["model.layers.0.input_layernorm.weight"] == .copied)
    #expect(plan.fates["model.layers.1.post_attention_layernorm.weight"] == .copied)
    #expect(plan.fates["model.layers.1.mlp.gate.weight"] == .copied)
    #expect(plan.smoothingTensors.map(\.name) == ["\(producer).smoothing_scale"])
  }

  @Test func everyTensorOfTheSourceHasAFate() throws {
    for name in ["forward/published-mtp-bf16", "glm4-moe-4m", "rtn/bf16/source"] {
      let checkpoint = try Checkpoint(folder: fixturePath(name))
      let plan = try plan(checkpoint, g16)
      #expect(Set(plan.fates.keys) == Set(checkpoint.model.tensors.map(\.name)))
      #expect(Set(plan.tensors.map(\.name)).count == plan.tensors.count)
    }
  }

  // MARK: Groups that do not divide

  /// All Linears but the experts' down projections read 48 features.
  private let hiddenNotDivisible = [
    "*q_proj", "*k_proj", "*v_proj", "*o_proj", "*gate_proj", "*up_proj",
  ]

  @Test func `where groups divide no inputs a module is named`() throws {
    let checkpoint = try Checkpoint(folder: fixturePath("forward/null-head-dim"))
    let module = "model.layers.0.self_attn.q_proj"
    // Experts are loaded as one, and their gates read 48 features.
    #expect(throws: OutputPlanError.indivisible(module: module, inputs: 48, groupSize: 32)) {
      try plan(checkpoint, g32, ignoring: ["*shared_experts*"])
    }
    _ = try plan(checkpoint, g32, ignoring: hiddenNotDivisible)
  }

  /// Groups of 32 do not divide the 80 inputs of the dense layer's down projection: as in GLM-4.5-Air, whose 10,944 are
  /// no multiple of 128.
  @Test func `a Linear that groups do not divide stays as it is`() throws {
    let checkpoint = try Checkpoint(folder: fixturePath("forward/published-qk-norm"))
    let plan = try plan(checkpoint, g32)
    let left = "model.layers.0.mlp.down_proj"
    #expect(plan.undivided.map(\.name) == [left])
    #expect(plan.fates[left + ".weight"] == .copied && plan.ignore.contains(left))
    #expect(plan.fates["model.layers.0.mlp.gate_proj.weight"] == .packed)
    #expect(plan.fates["model.layers.1.mlp.experts.0.down_proj.weight"] == .packed)
  }

  @Test func `Linears that are loaded as one stay together`() throws {
    // Groups divide the inputs of the down projections alone.
    let checkpoint = try Checkpoint(folder: fixturePath("forward/null-head-dim"))
    let plan = try plan(checkpoint, g32)
    let undivided = Set(plan.undivided.map(\.name))
    for layer in checkpoint.spec.layers {
      for group in layer.fusedGroups {
        #expect(Set(group.map { undivided.contains($0.name) }).count <= 1)
      }
    }
    #expect(plan.undivided.allSatisfy { plan.ignore.contains($0.name) })
  }

  @Test func `a run that names no group size takes one that divides most weights`() throws {
    func size(_ fixture: String) throws -> Int {
      try OutputPlan.groupSize(
        for: CheckpointShapes(Checkpoint(folder: fixturePath(fixture))), schemes: [g32],
        ignoring: [])
    }
    #expect(try size("glm4-moe-4m") == 128)
    #expect(try size("forward/published-qk-norm") == 32)
    // None does.
    #expect(try size("forward/null-head-dim") == 128)
  }

  @Test func ignoringEverythingIsRefused() throws {
    let source = try source()
    for patterns in [["*"], ["re:.*_proj"], ["model.layers.*"]] {
      #expect(throws: OutputPlanError.nothingToQuantize) {
        try plan(source, g32, ignoring: patterns)
      }
    }
  }

  @Test func aPatternMayNameAnyModule() throws {
    let names = OutputPlan.modules(of: CheckpointShapes(try source()))
    for name in ["lm_head", "model.embed_tokens", "model.norm", "model.layers.1.mlp.gate"] {
      #expect(names.contains(name))
    }
    #expect(Set(names).count == names.count)
    _ = try plan(source(), g32, ignoring: ["lm_head", "model.layers.1.mlp.gate"])
  }
}
