// SolarOpenForCausalLM: Solar Open 100B.
//
// Source: transformers 5.17 modeling_solar_open.py and configuration_solar_open.py. The registry of vLLM 0.33 does not have it.

internal import JSON
internal import Transformer

func solarOpen(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, headDimension: 128,
    RotaryReader(&config, theta: 1_000_000, isPartial: true))
  attention.bias = try config.bool("attention_bias", default: false)
  try config.require("use_qk_norm", toBe: false)
  // Every layer has experts.
  try config.require("first_k_dense_replace", toBe: 0)
  let choice = try SharedExpertsReader.Choice.corrected(&config)
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount, choice,
    sparse: Array(repeating: true, count: decoder.layerCount))
  let predictionLayers = try config.predictionLayers()
  return decoder.model(predictionLayers: predictionLayers) { names in
    names.layer(attention.attention(names), experts.mlp(names, hidden: decoder.hidden))
  }
}
