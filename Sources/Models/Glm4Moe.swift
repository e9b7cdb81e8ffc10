// Glm4MoeForCausalLM: GLM-4.5, 4.5-Air, 4.6 and 4.7.
//
// Source: transformers 5.17 modeling_glm4_moe.py and configuration_glm4_moe.py; config.json of zai-org/GLM-4.5.

internal import JSON
internal import Transformer

func glm4Moe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let hidden = try config.int("hidden_size")
  let heads = try config.int("num_attention_heads")
  let keyValueHeads = try config.int("num_key_value_heads")
  let headDimension = try config.int("head_dim", default: hidden / heads)
  let epsilon = Float(try config.positive("rms_norm_eps"))
  let vocabulary = try config.int("vocab_size")
  let layerCount = try config.int("num_hidden_layers")
  let attentionBias = try config.bool("attention_bias", default: false)
  let queryKeyNorm = try config.bool("use_qk_norm", default: false)
  let tied = try config.bool("tie_word_embeddings", default: false)
  try config.require("hidden_act", toBe: "silu")
  if heads % keyValueHeads != 0 {
    throw config.unsupported(
      "num_key_value_heads", expected: "a divisor of \(heads) attention heads",
      found: "\(keyValueHeads)")
  }
  let rotary = try rotary(&config, headDimension: headDimension)

  let firstSparse = try config.int("first_k_dense_replace", atLeast: 0)
  let denseSize = try config.int("intermediate_size")
  let expertSize = try config.int("moe_intermediate_size")
  let experts = try config.int("n_routed_experts", "num_local_experts", "num_experts")
  let shared = try config.int("n_shared_experts")
  let expertsPerToken = try config.int("num_experts_per_tok")
  let groups = try config.int("n_group", default: 1)
  let chosenGroups = try config.int("topk_group", default: 1)
  let normalizes = try config.bool("norm_topk_prob", default: true)
  let scalingFactor = Float(try config.positive("routed_scaling_factor", default: 1))
  let predictionLayers = try config.int(
    "num_nextn_predict_layers", "num_mtp_layers", atLeast: 0, default: 0)
  // A group is judged by its two best experts.
  guard experts % groups == 0, experts / groups >= 2, chosenGroups <= groups,
    expertsPerToken <= chosenGroups * (experts / groups)
  else {
    throw config.unsupported(
      "num_experts_per_tok",
      expected: "a choice that \(chosenGroups) of \(groups) groups of \(experts) experts allow",
      found: "\(expertsPerToken)")
  }

  let layers = (0..<layerCount).map { index in
    let prefix = "model.layers.\(index)."
    func norm(_ name: String, _ size: Int) -> NormSpec {
      NormSpec(prefix + name, size: size, epsilon: epsilon)
    }
    func linear(_ name: String, _ inputs: Int, _ outputs: Int, bias: Bool = false) -> LinearSpec {
      LinearSpec(prefix + name, inputs: inputs, outputs: outputs, hasBias: bias)
    }
    func mlp(_ name: String, _ size: Int) -> GatedMLPSpec {
      GatedMLPSpec(
        gate: linear("mlp.\(name)gate_proj", hidden, size),
        up: linear("mlp.\(name)up_proj", hidden, size),
        down: linear("mlp.\(name)down_proj", size, hidden))
    }
    let attention = AttentionSpec(
      query: linear("self_attn.q_proj", hidden, heads * headDimension, bias: attentionBias),
      key: linear("self_attn.k_proj", hidden, keyValueHeads * headDimension, bias: attentionBias),
      value: linear("self_attn.v_proj", hidden, keyValueHeads * headDimension, bias: attentionBias),
      output: linear("self_attn.o_proj", heads * headDimension, hidden),
      queryNorm: queryKeyNorm ? norm("self_attn.q_norm", headDimension) : nil,
      keyNorm: queryKeyNorm ? norm("self_attn.k_norm", headDimension) : nil,
      heads: heads, keyValueHeads: keyValueHeads, headDimension: headDimension, rotary: rotary)
    let feedForward =
      index < firstSparse
      ? MLPSpec(dense: mlp("", denseSize))
      : MLPSpec(
        router: RouterSpec(
          linear: linear("mlp.gate", hidden, experts),
          correctionBias: prefix + "mlp.gate.e_score_correction_bias",
          expertsPerToken: expertsPerToken, groups: groups, chosenGroups: chosenGroups,
          normalizes: normalizes, scalingFactor: scalingFactor),
        alwaysOn: [mlp("shared_experts.", expertSize * shared)],
        routed: (0..<experts).map { mlp("experts.\($0).", expertSize) })
    let inputNorm = norm("input_layernorm", hidden)
    let postAttentionNorm = norm("post_attention_layernorm", hidden)

    var smoothings = [
      Smoothing(
        tap: .attentionInput, producer: .norm(inputNorm),
        consumers: [attention.query, attention.key, attention.value])
    ]
    // With fewer key-value heads than heads, one value channel feeds several inputs of the output projection.
    if keyValueHeads == heads {
      smoothings.append(
        Smoothing(
          tap: .attentionOutput, producer: .linear(attention.value), consumers: [attention.output]))
    }
    // The router and the shared experts read the same norm as the routed experts.
    smoothings.append(
      Smoothing(
        tap: .mlpInput, producer: .norm(postAttentionNorm),
        consumers: (feedForward.router.map { [$0.linear] } ?? [])
          + feedForward.units.flatMap { [$0.gate, $0.up] }))
    for (unit, mlp) in feedForward.units.enumerated() {
      smoothings.append(
        Smoothing(tap: .hidden(unit), producer: .linear(mlp.up), consumers: [mlp.down]))
    }
    return LayerSpec(
      index: index, inputNorm: inputNorm, attention: attention,
      postAttentionNorm: postAttentionNorm, mlp: feedForward, smoothings: smoothings)
  }

  return ModelSpec(
    architecture: "Glm4MoeForCausalLM", vocabularySize: vocabulary, hiddenSize: hidden,
    embedding: "model.embed_tokens.weight", layers: layers,
    finalNorm: NormSpec("model.norm", size: hidden, epsilon: epsilon),
    head: LinearSpec(tied ? "model.embed_tokens" : "lm_head", inputs: hidden, outputs: vocabulary),
    passedThrough: (0..<predictionLayers).map { "model.layers.\(layerCount + $0)." })
}

/// Plain rotary embedding, as published checkpoints spell it (`rope_theta`, `rope_scaling`) and as transformers 5 does
/// (`rope_parameters`); where a file has both, they must agree.
private func rotary(
  _ config: inout ConfigReader, headDimension: Int
) throws(ConfigError) -> RotarySpec {
  try config.require("rope_scaling", toBe: .null)
  var theta = try config.positiveIfPresent("rope_theta")
  var share = try config.positiveIfPresent("partial_rotary_factor")
  if var rope = try config.object("rope_parameters") {
    try rope.require("rope_type", "type", toBe: "default")
    let nestedTheta = try rope.positive("rope_theta")
    let nestedShare = try rope.positiveIfPresent("partial_rotary_factor")
    try rope.finish(architecture: "Glm4MoeForCausalLM")
    if let theta, theta != nestedTheta {
      throw config.unsupported(
        "rope_theta", expected: "\(nestedTheta) as in `rope_parameters`", found: "\(theta)")
    }
    if let share, let nestedShare, share != nestedShare {
      throw config.unsupported(
        "partial_rotary_factor", expected: "\(nestedShare) as in `rope_parameters`",
        found: "\(share)")
    }
    theta = nestedTheta
    share = nestedShare ?? share
  }
  guard let theta else { throw config.missing("rope_theta") }
  // transformers takes one half, too, where nothing is said.
  let dimensions = Int(Double(headDimension) * (share ?? 0.5))
  guard dimensions % 2 == 0, dimensions <= headDimension, dimensions > 0 else {
    throw config.unsupported(
      "partial_rotary_factor", expected: "an even number of rotated dimensions of \(headDimension)",
      found: "\(share ?? 0.5)")
  }
  return RotarySpec(dimensions: dimensions, theta: theta)
}
