// DeepseekV32ForCausalLM: DeepSeek-V3.2; and GlmMoeDsaForCausalLM: GLM-5, 5.1 and 5.2. DeepSeek-V3 with indexers, which
// choose what is attended to in long texts.
//
// Source: transformers 5.17 modeling_deepseek_v32.py, modeling_glm_moe_dsa.py and their configurations; config.json of
// deepseek-ai/DeepSeek-V3.2 and zai-org/GLM-5.2.

internal import JSON
internal import Transformer

func deepseekV32(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  try deepseekV32(
    &config,
    assuming: SharedExpertsReader.Assumed(groups: 8, chosenGroups: 4, scalingFactor: 2.5)
  ) { _, layers in Array(repeating: true, count: layers) }
}

func glmMoeDsa(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  try deepseekV32(
    &config, assuming: SharedExpertsReader.Assumed(scalingFactor: 2.5)
  ) { config, layers throws(ConfigError) in
    // How prediction layers choose, and where the list comes from.
    config.ignore("index_share_for_mtp_iteration")
    let frequency = try config.int("index_topk_freq", atLeast: 0, default: 1)
    let offset = try config.int("index_skip_topk_offset", atLeast: 0, default: 2)
    try config.require("index_topk_pattern", toBe: .null)
    return try config.choices(
      "indexer_types", count: layers, of: ["full": true, "shared": false])
      ?? (0..<layers).map { max($0 - offset + 1, 0) % max(frequency, 1) == 0 }
  }
}

/// - Parameters:
///   - assumed: of experts, where nothing is said.
///   - indexes: whether each layer has an indexer of its own.
private func deepseekV32(
  _ config: inout ConfigReader, assuming assumed: SharedExpertsReader.Assumed,
  indexes: (inout ConfigReader, Int) throws(ConfigError) -> [Bool]
) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  let attention = try LatentReader(&config, decoder, interleaves: nil, isSparse: true)
  let choice = try SharedExpertsReader.Choice.corrected(&config)
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount, choice, firstSparse: 3, assuming: assumed,
    isListed: true)
  _ = try config.choices(
    "layer_types", count: decoder.layerCount, of: ["deepseek_sparse_attention": ()])
  let indexes = try indexes(&config, decoder.layerCount)
  let predictionLayers = try config.predictionLayers()
  return decoder.model(predictionLayers: predictionLayers, chain: .behindItsHead) { names in
    names.layer(
      // Prediction layers choose for themselves.
      attention.attention(
        names, indexes: names.index >= indexes.count || indexes[names.index]),
      experts.mlp(names, hidden: decoder.hidden))
  }
}
