// KimiK3ForConditionalGeneration: Kimi-K3.
//
// Source: llm-compressor 0.14, modeling/kimi_k3/modeling_kimi_linear.py and configuration_kimi_k3.py, which hold the code
// that is published with the model; config.json of moonshotai/Kimi-K3; names as vLLM loads them.

internal import JSON
internal import Transformer

func kimiK3(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let activation = try kimiActivation(&config)
  let decoder = try DecoderReader(
    &config, activation: activation, normOffset: 0, isTied: false)
  let hidden = decoder.hidden
  try config.require("mla_use_nope", toBe: true)
  // Nothing turns, whatever they say; heads have the widths below.
  config.ignore("rope_theta", "rope_scaling", "rope_parameters", "head_dim")
  var attention = try LatentReader(&config, decoder, interleaves: nil, turns: false)
  if try config.bool("mla_use_output_gate", default: false) {
    attention.spelling = LatentReader.Spelling(gate: "g_proj", gatesNumbers: true)
  }
  let deltaNets = try ChannelDeltaNetReader(&config, decoder, isNewer: true)
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount, try .kimi(&config), firstSparse: 0,
    spelling: .kimi)
  let width = try config.intIfPresent("routed_expert_hidden_size")
  let normsLatent = try config.bool("latent_moe_use_norm", default: false)
  func latent(_ names: LayerNames) -> LatentExperts? {
    width.map {
      LatentExperts(
        down: names.linear("block_sparse_moe.routed_expert_down_proj", hidden, $0),
        norm: normsLatent ? names.norm("block_sparse_moe.routed_expert_norm", $0) : nil,
        up: names.linear("block_sparse_moe.routed_expert_up_proj", $0, hidden))
    }
  }
  let residuals = try config.intIfPresent("attn_res_block_size").map {
    ResidualBlocks(size: $0, hidden: hidden)
  }
  let predictionLayers = try config.predictionLayers()
  var model = decoder.model(predictionLayers: predictionLayers) { names in
    LayerSpec(
      index: names.index,
      branches: [
        Branch(
          residual: residuals?.beforeSequence(names),
          preNorm: names.norm("input_layernorm", hidden),
          .sequence(
            deltaNets.isDelta[names.index]
              ? deltaNets.deltaNet(names) : attention.attention(names))),
        Branch(
          residual: residuals?.beforeTokens(names),
          preNorm: names.norm("post_attention_layernorm", hidden),
          .tokens(experts.mlp(names, hidden: hidden, latent: latent(names)))),
      ])
  }
  model.exit = residuals?.behind(model)
  return model
}

/// SiTU, or SiLU.
private func kimiActivation(_ config: inout ConfigReader) throws(ConfigError) -> Activation {
  let isBounded = try config.choice(
    "hidden_act", of: ["situ": true, "silu": false], default: "silu")
  if !isBounded {
    config.ignore("activation_situ_beta", "activation_situ_linear_beta")
    return .silu
  }
  return .situ(
    beta: Float(try config.positive("activation_situ_beta", default: 1)),
    upBeta: try config.positiveIfPresent("activation_situ_linear_beta").map { Float($0) })
}

/// Attention residuals over blocks of `size` layers; the embedding is a block by itself.
private struct ResidualBlocks {
  let size: Int
  let hidden: Int

  /// How many blocks are closed before a layer.
  private func closed(before layer: Int) -> Int { (layer + size - 1) / size }

  func beforeSequence(_ names: LayerNames) -> AttentionResidual {
    AttentionResidual(
      norm: names.norm("self_attention_res_norm", hidden),
      score: names.linear("self_attention_res_proj", hidden, 1),
      blocks: closed(before: names.index), closes: names.index % size == 0)
  }

  func beforeTokens(_ names: LayerNames) -> AttentionResidual {
    AttentionResidual(
      norm: names.norm("mlp_res_norm", hidden), score: names.linear("mlp_res_proj", hidden, 1),
      blocks: closed(before: names.index + 1))
  }

  func behind(_ model: ModelSpec) -> AttentionResidual {
    let (last, prefix) = (model.finalNorm, model.names.model)
    return AttentionResidual(
      norm: NormSpec(
        prefix + "output_attn_res_norm", size: hidden, epsilon: last.epsilon, offset: last.offset,
        kind: last.kind),
      score: LinearSpec(prefix + "output_attn_res_proj", inputs: hidden, outputs: 1),
      blocks: closed(before: model.layers.count))
  }
}
