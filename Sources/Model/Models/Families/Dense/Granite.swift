// GraniteForCausalLM: Granite 3.0 to 3.3.
//
// Source: transformers 5.17 modeling_granite.py and configuration_granite.py.

internal import Transformer

func granite(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let scales = try GraniteScales(&config)
  let decoder = try DecoderReader(&config)
  let attention = try graniteAttention(
    &config, decoder, RotaryReader(&config, theta: 10_000), scales)
  let size = try config.int("intermediate_size")
  let bias = try config.bool("mlp_bias", default: false)
  return scales.applied(
    to: decoder.model { names in
      names.layer(
        attention.attention(names), MLPSpec(dense: names.mlp("mlp", size, bias: bias)),
        scale: scales.residual)
    })
}
