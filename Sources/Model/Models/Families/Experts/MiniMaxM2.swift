// MiniMaxM2ForCausalLM: MiniMax-M2 to M2.7.
//
// Source: transformers 5.17 modeling_minimax_m2.py and configuration_minimax_m2.py; config.json of
// MiniMaxAI/MiniMax-M2.5; `rotary_dim` and prediction layers as vLLM 0.33 reads them.

internal import JSON
internal import Transformer

func miniMaxM2(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  let rotary = try RotaryReader(&config, theta: 5_000_000, isPartial: true)
  let rotated = try config.intIfPresent("rotary_dim")
  var attention = try GroupedQueryReader(
    &config, decoder, headDimension: 128, rotary, rotated: rotated)
  attention.norms = .ofAllHeads
  try config.require("use_qk_norm", toBe: true)
  try config.require("qk_norm_type", toBe: "per_layer")
  try config.require("use_routing_bias", toBe: true)
  try config.require("scoring_func", toBe: "sigmoid")
  // Kinds of attention and scales of residuals that the models before it had.
  if try config.ints("attn_type_list").contains(where: { $0 != 1 }) {
    throw config.unsupported(
      "attn_type_list", expected: "1 for every layer", found: "another kind of attention")
  }
  for key in ["full_attention", "linear_attention", "mlp"] {
    try config.require("layernorm_\(key)_beta", toBe: 1)
  }
  config.ignore("mlp_intermediate_size", "shared_moe_mode")
  // Prediction layers, which no published checkpoint has.
  config.ignore("use_mtp", "mtp_transformer_layers")
  let predictionLayers = try config.int("num_mtp_modules", atLeast: 0, default: 0)
  let experts = try PlainExpertsReader(&config)
  return decoder.model(predictionLayers: predictionLayers) { names in
    names.layer(
      attention.attention(names),
      experts.mixtral(
        names, hidden: decoder.hidden, .sigmoid, correction: "e_score_correction_bias"))
  }
}
