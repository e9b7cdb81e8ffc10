// BailingMoeV2ForCausalLM: Ling 2.0 mini, flash, 1T and their Ring kin; and SarvamMoEForCausalLM: Sarvam 30B, in their layout.
//
// Source: transformers 5.24 configuration_sarvam_moe.py (modeling_glm4_moe.py by way of its conversion_mapping.py); config.json
// of inclusionAI/Ling-mini-2.0; names as published, which vLLM 0.33, bailing_moe.py, loads.

internal import JSON
internal import Transformer

func bailingMoeV2(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  // transformers has no such class: nothing is assumed.
  try bailingMoe(
    &config, theta: nil,
    assuming: SharedExpertsReader.Assumed(groups: nil, chosenGroups: nil, scalingFactor: nil))
}

func sarvamMoE(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  try bailingMoe(&config, theta: 8_000_000, assuming: sarvamAssumed)
}

/// Of both of Sarvam's classes.
let sarvamAssumed = SharedExpertsReader.Assumed(scalingFactor: 2.5)

/// - Parameters:
///   - theta: where nothing is said.
///   - assumed: of experts, where nothing is said.
private func bailingMoe(
  _ config: inout ConfigReader, theta: Double?, assuming assumed: SharedExpertsReader.Assumed
) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(
    &config, spelling: DecoderReader.Spelling(embedding: "word_embeddings"))
  let rotated = try config.intIfPresent("rotary_dim")
  var attention = try GroupedQueryReader(
    &config, decoder, RotaryReader(&config, theta: theta, isPartial: true), rotated: rotated)
  attention.isJoined = true
  attention.bias = try config.bool("use_qkv_bias", "attention_bias", default: false)
  attention.norms = try config.bool("use_qk_norm", default: true) ? .ofEachHead : .none
  attention.spelling = GroupedQueryReader.Spelling(
    module: "attention", joined: "query_key_value", output: "dense", queryNorm: "query_layernorm",
    keyNorm: "key_layernorm")
  for key in ["use_rmsnorm", "moe_router_enable_expert_bias"] {
    try config.require(key, toBe: true)
  }
  for key in ["use_bias", "norm_head", "norm_softmax", "using_split_qkv_in_self_attention"] {
    try config.require(key, toBe: false)
  }
  let experts = try bailingExperts(
    &config, decoder, assuming: assumed, correction: "mlp.gate.expert_bias")
  let predictionLayers = try config.predictionLayers()
  return decoder.model(predictionLayers: predictionLayers) { names in
    names.layer(attention.attention(names), experts.mlp(names, hidden: decoder.hidden))
  }
}

/// Experts as Ling's and Sarvam's models spell them.
///
/// - Parameters:
///   - assumed: where nothing is said.
///   - correction: the tensor that is added to scores.
func bailingExperts(
  _ config: inout ConfigReader, _ decoder: DecoderReader,
  assuming assumed: SharedExpertsReader.Assumed, correction: String
) throws(ConfigError) -> SharedExpertsReader {
  try config.require("score_function", toBe: "sigmoid")
  let choice = try SharedExpertsReader.Choice.corrected(&config)
  return try SharedExpertsReader(
    &config, layers: decoder.layerCount, choice, firstSparse: 1, assuming: assumed,
    spelling: SharedExpertsReader.Spelling(
      experts: ["num_experts", "n_routed_experts", "num_local_experts"],
      shared: ["num_shared_experts", "n_shared_experts"],
      sharedSize: "moe_shared_expert_intermediate_size", correction: correction))
}
