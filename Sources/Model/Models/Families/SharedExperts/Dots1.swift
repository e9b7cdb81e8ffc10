// Dots1ForCausalLM: dots.llm1.
//
// Source: transformers 5.17 modeling_dots1.py and configuration_dots1.py; config.json of rednote-hilab/dots.llm1.inst.

internal import JSON
internal import Transformer

func dots1(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: 32, RotaryReader(&config))
  try attention.readBiases(&config)
  attention.norms = .ofEachHead
  let limit = try config.int("max_window_layers", atLeast: 0, default: 62)
  let windows = try WindowReader(&config, layers: decoder.layerCount) { $0 >= limit }.windows
  try config.require("scoring_func", toBe: "noaux_tc")
  try config.require("topk_method", toBe: "noaux_tc")
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount,
    SharedExpertsReader.Choice(
      scoring: .sigmoid, groupScore: .sumOfTwoBest, hasCorrection: true,
      normalizes: try config.bool("norm_topk_prob", default: false)),
    firstSparse: 0)
  return decoder.model { names in
    names.layer(
      attention.attention(names, window: windows[names.index]),
      experts.mlp(names, hidden: decoder.hidden))
  }
}
