// Qwen3MoeForCausalLM: Qwen3-30B-A3B, 235B-A22B, and Qwen3-Coder.
//
// Source: transformers 5.17 modeling_qwen3_moe.py and configuration_qwen3_moe.py.

internal import JSON
internal import Transformer

func qwen3Moe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(&config, decoder, RotaryReader(&config))
  attention.bias = try config.bool("attention_bias", default: false)
  attention.outputBias = attention.bias
  attention.norms = .ofEachHead
  try config.require("use_qk_norm", toBe: true)
  // Every layer slides, or none; then the size of a window may be anything.
  let slides = try config.bool("use_sliding_window", default: false)
  config.ignore("sliding_window")
  let window = slides ? try config.intIfPresent("sliding_window") : nil
  let experts = try QwenExpertsReader(&config)
  return decoder.model { names in
    names.layer(
      attention.attention(names, window: window),
      experts.mlp(names, hidden: decoder.hidden))
  }
}
