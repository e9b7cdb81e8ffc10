// Olmo2ForCausalLM: OLMo 2 1B to 32B.
//
// Source: transformers 5.17 modeling_olmo2.py and configuration_olmo2.py; config.json of allenai/OLMo-2-1124-7B.

internal import JSON
internal import Transformer

func olmo2(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: decoder.heads, RotaryReader(&config))
  try attention.readBiases(&config)
  attention.norms = .ofAllHeads
  try config.require("use_qk_norm", toBe: true)
  let size = try config.int("intermediate_size")
  return decoder.model { names in
    names.postNormLayer(
      attention.attention(names), MLPSpec(dense: names.mlp("mlp", size)))
  }
}
