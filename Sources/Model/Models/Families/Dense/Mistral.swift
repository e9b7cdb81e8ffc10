// MistralForCausalLM: Mistral 7B, Nemo, Small and Large.
//
// Source: transformers 5.17 modeling_mistral.py and configuration_mistral.py.

internal import JSON
internal import Transformer

func mistral(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  let attention = try GroupedQueryReader(&config, decoder, RotaryReader(&config))
  // A missing key means 4096 to transformers; null means none.
  let window = config.names("sliding_window") ? try config.intIfPresent("sliding_window") : 4096
  try config.require("use_sliding_window", toBe: .bool(window != nil))
  let size = try config.int("intermediate_size")
  return decoder.model { names in
    names.layer(
      attention.attention(names, window: window), MLPSpec(dense: names.mlp("mlp", size)))
  }
}
