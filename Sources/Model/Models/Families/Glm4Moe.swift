// Glm4MoeForCausalLM: GLM-4.5, 4.5-Air, 4.6 and 4.7.
//
// Source: transformers 5.17 modeling_glm4_moe.py and configuration_glm4_moe.py; config.json of zai-org/GLM-4.5.

internal import Transformer

func glm4Moe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  // transformers rotates one half, too, where nothing is said.
  var attention = try GroupedQueryReader(
    &config, decoder, RotaryReader(&config, isPartial: true), share: 0.5)
  attention.bias = try config.bool("attention_bias", default: false)
  attention.norms = try config.bool("use_qk_norm", default: false) ? .ofEachHead : .none
  let choice = try SharedExpertsReader.Choice.corrected(&config)
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount, choice)
  let predictionLayers = try config.predictionLayers()
  return decoder.model(predictionLayers: predictionLayers) { names in
    names.layer(
      attention.attention(names), experts.mlp(names, hidden: decoder.hidden))
  }
}
