// KimiLinearForCausalLM: Kimi-Linear-48B-A3B.
//
// Source: transformers 5.17 modeling_kimi_linear.py and configuration_kimi_linear.py; config.json and names of
// moonshotai/Kimi-Linear-48B-A3B-Instruct, which vLLM 0.33 loads.

internal import JSON
internal import Transformer

func kimiLinear(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  try config.require("mla_use_nope", toBe: true)
  // Nothing turns, whatever they say; heads have the widths below.
  config.ignore("rope_theta", "rope_scaling", "rope_parameters", "head_dim")
  let attention = try LatentReader(&config, decoder, interleaves: nil, turns: false)
  let deltaNets = try ChannelDeltaNetReader(&config, decoder)
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount, try .kimi(&config), firstSparse: 1,
    assuming: SharedExpertsReader.Assumed(scalingFactor: 2.446), isListed: true,
    spelling: .kimi)
  let predictionLayers = try config.predictionLayers()
  return decoder.model(predictionLayers: predictionLayers) { names in
    names.layer(
      deltaNets.isDelta[names.index] ? deltaNets.deltaNet(names) : attention.attention(names),
      experts.mlp(names, hidden: decoder.hidden))
  }
}

extension SharedExpertsReader.Choice {
  /// How Kimi's models choose experts since Kimi-Linear.
  static func kimi(_ config: inout ConfigReader) throws(ConfigError) -> Self {
    try config.require("moe_router_activation_func", toBe: "sigmoid")
    try config.require("use_grouped_topk", toBe: true)
    try config.require("topk_method", toBe: "noaux_tc")
    return Self(
      scoring: .sigmoid, groupScore: .sumOfTwoBest, hasCorrection: true,
      normalizes: try config.bool("moe_renormalize", "norm_topk_prob", default: true))
  }
}

extension SharedExpertsReader.Spelling {
  /// Keys and names of Kimi's models since Kimi-Linear.
  static let kimi = Self(
    experts: ["num_experts", "num_local_experts"],
    shared: ["num_shared_experts", "n_shared_experts"],
    perToken: ["num_experts_per_token", "num_experts_per_tok"],
    groups: ["num_expert_group", "n_group"], router: "block_sparse_moe.gate",
    correction: "block_sparse_moe.gate.e_score_correction_bias",
    sharedUnit: "block_sparse_moe.shared_experts", routedUnits: "block_sparse_moe.experts",
    projections: ("w1", "w3", "w2"))
}
