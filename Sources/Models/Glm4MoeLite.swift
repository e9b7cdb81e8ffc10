// Glm4MoeLiteForCausalLM: GLM-4.7-Flash.
//
// Source: transformers 5.17 modeling_glm4_moe_lite.py and configuration_glm4_moe_lite.py; config.json of
// zai-org/GLM-4.7-Flash.

internal import JSON
internal import Transformer

func glm4MoeLite(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  let attention = try LatentReader(&config, decoder, interleaves: true)
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount,
    SharedExpertsReader.Choice(
      scoring: .sigmoid, groupScore: .sumOfTwoBest, hasCorrection: true,
      normalizes: try config.bool("norm_topk_prob", default: true)),
    firstSparse: 1, isListed: true)
  try config.require("scoring_func", toBe: "sigmoid")
  try config.require("topk_method", toBe: "noaux_tc")
  let predictionLayers = try config.predictionLayers()
  return decoder.model(predictionLayers: predictionLayers) { names in
    names.layer(attention.attention(names), experts.mlp(names, hidden: decoder.hidden))
  }
}
