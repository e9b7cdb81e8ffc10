// DeepseekV2ForCausalLM: DeepSeek-V2, V2.5, and their Lite and Coder models.
//
// Source: transformers 5.17 modeling_deepseek_v2.py and configuration_deepseek_v2.py; config.json of
// deepseek-ai/DeepSeek-V2.

internal import JSON
internal import Transformer

func deepseekV2(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  let attention = try LatentReader(&config, decoder, interleaves: nil)
  let isGrouped: Bool = try config.choice(
    "topk_method", of: ["greedy": false, "group_limited_greedy": true], default: "greedy")
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount,
    SharedExpertsReader.Choice(
      scoring: .softmax, groupScore: .best, hasCorrection: false, normalizes: false),
    firstSparse: 0, isGrouped: isGrouped,
    assuming: isGrouped
      ? SharedExpertsReader.Assumed(groups: nil, chosenGroups: nil) : SharedExpertsReader.Assumed())
  try config.require("scoring_func", toBe: "softmax")
  // transformers passes over it, vLLM does not.
  try config.require("norm_topk_prob", toBe: false)
  return decoder.model { names in
    names.layer(attention.attention(names), experts.mlp(names, hidden: decoder.hidden))
  }
}
