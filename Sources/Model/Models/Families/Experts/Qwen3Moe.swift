// Qwen3MoeForCausalLM: Qwen3-30B-A3B, 235B-A22B, and Qwen3-Coder; and the text models of Qwen3-VL and Qwen3-Omni.
//
// Source: transformers 5.17 modeling_qwen3_moe.py, modeling_qwen3_vl_moe.py, modeling_qwen3_omni_moe.py and their
// configurations.

internal import JSON
internal import Transformer

func qwen3Moe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  try qwen3Moe(&config, normalizes: false)
}

func qwen3OmniMoe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  try qwen3Moe(&config, normalizes: true)
}

func qwen3VLMoe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  // transformers does not read it.
  try config.require("norm_topk_prob", toBe: true)
  return try qwen3Moe(&config, normalizes: true)
}

/// - Parameter normalizes: where nothing is said.
private func qwen3Moe(
  _ config: inout ConfigReader, normalizes: Bool
) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(&config, decoder, RotaryReader(&config))
  try attention.readBiases(&config)
  attention.norms = .ofEachHead
  try config.require("use_qk_norm", toBe: true)
  // Every layer slides, or none; then the size of a window may be anything.
  let slides = try config.bool("use_sliding_window", default: false)
  config.ignore("sliding_window")
  let window = slides ? try config.intIfPresent("sliding_window") : nil
  let experts = try QwenExpertsReader(&config, normalizes: normalizes)
  return decoder.model { names in
    names.layer(
      attention.attention(names, window: window),
      experts.mlp(names, hidden: decoder.hidden))
  }
}
