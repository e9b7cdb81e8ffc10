// GraniteForCausalLM: Granite 3.0 to 3.3.
//
// Source: transformers 5.17 modeling_granite.py and configuration_granite.py.

internal import Transformer

func granite(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: decoder.heads, RotaryReader(&config, theta: 10_000))
  attention.bias = try config.bool("attention_bias", default: false)
  attention.outputBias = attention.bias
  attention.scale = Float(try config.positive("attention_multiplier", default: 1))
  let residual = Float(try config.positive("residual_multiplier", default: 1))
  let size = try config.int("intermediate_size")
  let bias = try config.bool("mlp_bias", default: false)
  var model = decoder.model { names in
    func norm(_ name: String) -> NormSpec { names.norm(name, decoder.hidden) }
    return LayerSpec(
      index: names.index,
      branches: [
        Branch(
          preNorm: norm("input_layernorm"), .sequence(attention.attention(names)),
          scale: residual),
        Branch(
          preNorm: norm("post_attention_layernorm"),
          .tokens(MLPSpec(dense: names.mlp("mlp", size, bias: bias))), scale: residual),
      ])
  }
  model.embeddingScale = Float(try config.positive("embedding_multiplier", default: 1))
  model.logitScale = Float(1 / (try config.positive("logits_scaling", default: 1)))
  return model
}
