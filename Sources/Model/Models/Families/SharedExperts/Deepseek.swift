// DeepseekForCausalLM: the first DeepSeek-MoE, and its Chat.
//
// Source: config.json of deepseek-ai/deepseek-moe-16b-base; transformers 5.17 modeling_deepseek_ocr2.py, whose text model it
// is; names as vLLM 0.33, deepseek_v2.py, loads them.

internal import JSON
internal import Transformer

func deepseek(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  let head = decoder.hidden / decoder.heads
  // Neither transformers nor vLLM reads these.
  try config.require("head_dim", toBe: .number(JSONNumber(head)))
  try config.require("attention_bias", toBe: false)
  let attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: decoder.heads, headDimension: head, RotaryReader(&config))
  try config.require("scoring_func", toBe: "softmax")
  // transformers passes over it, vLLM does not.
  try config.require("norm_topk_prob", toBe: false)
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount,
    SharedExpertsReader.Choice(
      scoring: .softmax, groupScore: .best, hasCorrection: false, normalizes: false),
    firstSparse: 0, isGrouped: false)
  return decoder.model { names in
    names.layer(attention.attention(names), experts.mlp(names, hidden: decoder.hidden))
  }
}
