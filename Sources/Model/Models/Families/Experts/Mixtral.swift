// MixtralForCausalLM: Mixtral 8x7B and 8x22B.
//
// Source: transformers 5.17 modeling_mixtral.py and configuration_mixtral.py; names as published, which vLLM loads.

internal import JSON
internal import Transformer

func mixtral(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  let attention = try GroupedQueryReader(&config, decoder, RotaryReader(&config))
  let window = try config.intIfPresent("sliding_window")
  try config.require("use_sliding_window", toBe: .bool(window != nil))
  let experts = try PlainExpertsReader(&config)
  try config.require("norm_topk_prob", toBe: true)
  return decoder.model { names in
    names.layer(
      attention.attention(names, window: window),
      experts.mixtral(names, hidden: decoder.hidden))
  }
}
