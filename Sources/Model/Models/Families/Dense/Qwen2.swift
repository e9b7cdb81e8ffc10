// Qwen2ForCausalLM: Qwen2 and Qwen2.5.
//
// Source: transformers 5.17 modeling_qwen2.py and configuration_qwen2.py.

internal import Transformer

func qwen2(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(&config, decoder, RotaryReader(&config))
  // Whatever these say.
  attention.bias = true
  config.ignore("attention_bias", "qkv_bias")
  let windows = try WindowReader(&config, layers: decoder.layerCount) { $0 >= $1 }.windows
  let size = try config.int("intermediate_size")
  return decoder.model { names in
    names.layer(
      attention.attention(names, window: windows[names.index]),
      MLPSpec(dense: names.mlp("mlp", size)))
  }
}
