// HYV3ForCausalLM: Hy3.
//
// Source: transformers 5.17 modeling_hy_v3.py and configuration_hy_v3.py; names as vLLM 0.33 loads them.

internal import JSON
internal import Transformer

func hyV3(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, headDimension: 128, RotaryReader(&config))
  try attention.readBiases(&config)
  attention.norms = .ofEachHead
  try config.require("qk_norm", toBe: true)
  try config.require("route_norm", toBe: true)
  try config.require("moe_router_use_sigmoid", toBe: true)
  try config.require("moe_router_enable_expert_bias", toBe: true)
  // The precision in which some of it is computed.
  config.ignore(
    "enable_moe_fp32_combine", "enable_attention_fp32_softmax", "enable_lm_head_fp32")
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount,
    SharedExpertsReader.Choice(
      scoring: .sigmoid, groupScore: .best, hasCorrection: true, normalizes: true),
    firstSparse: 1, isGrouped: false,
    assuming: SharedExpertsReader.Assumed(scalingFactor: 2.826), isListed: true,
    spelling: SharedExpertsReader.Spelling(
      experts: ["num_experts", "num_local_experts"],
      expertSize: ["moe_intermediate_size", "expert_hidden_dim"], shared: ["num_shared_experts"],
      scalingFactor: "router_scaling_factor", router: "mlp.router.gate",
      correction: "mlp.expert_bias", sharedUnit: "mlp.shared_mlp"))
  let predictionLayers = try config.predictionLayers()
  return decoder.model(predictionLayers: predictionLayers) { names in
    names.layer(attention.attention(names), experts.mlp(names, hidden: decoder.hidden))
  }
}
