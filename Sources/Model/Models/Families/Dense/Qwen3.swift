// Qwen3ForCausalLM: the dense models of Qwen3.
//
// Source: transformers 5.17 modeling_qwen3.py and configuration_qwen3.py.

internal import JSON
internal import Transformer

func qwen3(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, headDimension: 128, RotaryReader(&config))
  try attention.readBiases(&config)
  attention.norms = .ofEachHead
  try config.require("use_qk_norm", toBe: true)
  let windows = try WindowReader(&config, layers: decoder.layerCount) { $0 >= $1 }.windows
  let size = try config.int("intermediate_size")
  return decoder.model { names in
    names.layer(
      attention.attention(names, window: windows[names.index]),
      MLPSpec(dense: names.mlp("mlp", size)))
  }
}
