// Glm4MoeForCausalLM: GLM-4.5, 4.5-Air, 4.6 and 4.7; and the text model of Glm4vMoeForConditionalGeneration.
//
// Source: transformers 5.17 modeling_glm4_moe.py, modeling_glm4v_moe.py and their configurations; config.json of
// zai-org/GLM-4.5 and GLM-4.5V.

internal import JSON
internal import Transformer

func glm4Moe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  try glm4Moe(&config, hasBias: false, chain: .asTheyAre)
}

func glm4vMoe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  // transformers passes over it, vLLM does not.
  try config.require("use_qk_norm", toBe: false)
  return try glm4Moe(&config, hasBias: true, chain: nil)
}

/// - Parameters:
///   - hasBias: where nothing is said.
///   - chain: of prediction layers that vLLM loads.
private func glm4Moe(
  _ config: inout ConfigReader, hasBias: Bool, chain: PredictionChain?
) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  // transformers rotates one half, too, where nothing is said.
  var attention = try GroupedQueryReader(
    &config, decoder, RotaryReader(&config, isPartial: true), share: 0.5)
  attention.bias = try config.bool("attention_bias", default: hasBias)
  attention.norms = try config.bool("use_qk_norm", default: false) ? .ofEachHead : .none
  let choice = try SharedExpertsReader.Choice.corrected(&config)
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount, choice)
  let predictionLayers = try config.predictionLayers()
  return decoder.model(predictionLayers: predictionLayers, chain: chain) { names in
    names.layer(
      attention.attention(names), experts.mlp(names, hidden: decoder.hidden))
  }
}
