// DeepseekV3ForCausalLM: DeepSeek-V3 and R1, Kimi K2, Moonlight.
//
// Source: transformers 5.17 modeling_deepseek_v3.py and configuration_deepseek_v3.py; config.json of
// deepseek-ai/DeepSeek-V3, moonshotai/Kimi-K2-Instruct and moonshotai/Moonlight-16B-A3B.

internal import Transformer

func deepseekV3(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  let attention = try LatentReader(&config, decoder, interleaves: true)
  let choice = try SharedExpertsReader.Choice.corrected(&config)
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount, choice,
    assuming: SharedExpertsReader.Assumed(groups: 8, chosenGroups: 4, scalingFactor: 2.5))
  let predictionLayers = try config.predictionLayers()
  return decoder.model(predictionLayers: predictionLayers, chain: .behindItsHead) { names in
    names.layer(attention.attention(names), experts.mlp(names, hidden: decoder.hidden))
  }
}
