// SeedOssForCausalLM: Seed-OSS 36B.
//
// Source: transformers 5.17 modeling_seed_oss.py and configuration_seed_oss.py.

internal import Transformer

func seedOss(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, headDimension: 128, RotaryReader(&config))
  attention.bias = try config.bool("attention_bias", default: true)
  attention.outputBias = try config.bool("attention_out_bias", default: false)
  let size = try config.int("intermediate_size")
  let bias = try config.bool("mlp_bias", default: false)
  return decoder.model { names in
    names.layer(
      attention.attention(names), MLPSpec(dense: names.mlp("mlp", size, bias: bias)))
  }
}
