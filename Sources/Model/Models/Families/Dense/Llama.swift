// LlamaForCausalLM: Llama 2 to 3.3, and the many models in its layout.
//
// Source: transformers 5.17 modeling_llama.py and configuration_llama.py.

internal import Transformer

func llama(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  // The first ones were published without a theta, and without groups.
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: decoder.heads, RotaryReader(&config, theta: 10_000))
  try attention.readBiases(&config)
  let size = try config.int("intermediate_size")
  let bias = try config.bool("mlp_bias", default: false)
  return decoder.model { names in
    names.layer(
      attention.attention(names), MLPSpec(dense: names.mlp("mlp", size, bias: bias)))
  }
}
