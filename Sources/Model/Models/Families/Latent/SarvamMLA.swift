// SarvamMLAForCausalLM: Sarvam 105B.
//
// Source: transformers 5.24 configuration_sarvam_mla.py (modeling_deepseek_v3.py); names as vLLM 0.33, sarvam.py, loads them.

internal import JSON
internal import Transformer

func sarvamMLA(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  // The width of what vLLM keeps of a token; transformers passes over both.
  config.ignore("head_dim", "q_head_dim")
  let attention = try LatentReader(&config, decoder, interleaves: true, namesRotated: false)
  try config.require("moe_router_enable_expert_bias", toBe: true)
  let experts = try bailingExperts(
    &config, decoder, assuming: sarvamAssumed,
    correction: "mlp.gate.e_score_correction_bias")
  let predictionLayers = try config.predictionLayers()
  return decoder.model(predictionLayers: predictionLayers) { names in
    names.layer(attention.attention(names), experts.mlp(names, hidden: decoder.hidden))
  }
}
