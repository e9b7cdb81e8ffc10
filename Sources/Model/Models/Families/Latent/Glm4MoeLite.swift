// Glm4MoeLiteForCausalLM: GLM-4.7-Flash.
//
// Source: transformers 5.17 modeling_glm4_moe_lite.py and configuration_glm4_moe_lite.py; config.json of
// zai-org/GLM-4.7-Flash.

internal import Transformer

func glm4MoeLite(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  let attention = try LatentReader(&config, decoder, interleaves: true)
  let choice = try SharedExpertsReader.Choice.corrected(&config)
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount, choice, firstSparse: 1,
    assuming: SharedExpertsReader.Assumed(scalingFactor: 1.8), isListed: true)
  let predictionLayers = try config.predictionLayers()
  return decoder.model(predictionLayers: predictionLayers, chain: .asTheyAre) { names in
    names.layer(attention.attention(names), experts.mlp(names, hidden: decoder.hidden))
  }
}
