// SmolLM3ForCausalLM: SmolLM3 3B.
//
// Source: transformers 5.17 modeling_smollm3.py and configuration_smollm3.py.

internal import JSON
internal import Transformer

func smolLM3(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config, isTied: true)
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: 4, RotaryReader(&config, theta: 2_000_000))
  try attention.readBiases(&config)
  // No published model slides.
  try config.require("use_sliding_window", toBe: false)
  config.ignore("sliding_window", "max_window_layers")
  // 1 for a layer whose heads turn.
  let interval = try config.int("no_rope_layer_interval", default: 4)
  let listed = try config.ints("no_rope_layers")
  if !listed.isEmpty, listed.count != decoder.layerCount || !Set(listed).isSubset(of: [0, 1]) {
    throw config.unsupported(
      "no_rope_layers", expected: "\(decoder.layerCount) times 0 or 1, one a layer",
      found: "\(listed)")
  }
  let turns =
    listed.isEmpty
    ? (0..<decoder.layerCount).map { ($0 + 1) % interval != 0 } : listed.map { $0 == 1 }
  let size = try config.int("intermediate_size")
  let bias = try config.bool("mlp_bias", default: false)
  return decoder.model { names in
    names.layer(
      attention.attention(names, turns: turns[names.index]),
      MLPSpec(dense: names.mlp("mlp", size, bias: bias)))
  }
}
