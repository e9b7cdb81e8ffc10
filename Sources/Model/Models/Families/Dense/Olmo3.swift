// Olmo3ForCausalLM: OLMo 3 7B, 32B.
//
// Source: transformers 5.17 modeling_olmo3.py and configuration_olmo3.py.

internal import JSON
internal import Transformer

func olmo3(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  let (whole, local) = try RotaryReader.byLayerType(&config, theta: 500_000, local: nil)
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: decoder.heads, whole)
  try attention.turnLocally(config, local)
  try attention.readBiases(&config)
  attention.norms = .ofAllHeads
  let windows = try WindowReader(&config, layers: decoder.layerCount) { ($0 + 1) % 4 != 0 }.windows
  let size = try config.int("intermediate_size")
  return decoder.model { names in
    names.postNormLayer(
      attention.attention(names, window: windows[names.index]),
      MLPSpec(dense: names.mlp("mlp", size)))
  }
}
