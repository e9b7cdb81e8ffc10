// OlmoeForCausalLM: OLMoE-1B-7B.
//
// Source: transformers 5.17 modeling_olmoe.py and configuration_olmoe.py; config.json of allenai/OLMoE-1B-7B-0924.

internal import JSON
internal import Transformer

func olmoe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: decoder.heads, RotaryReader(&config))
  try attention.readBiases(&config)
  attention.norms = .ofAllHeads
  try config.require("use_qk_norm", toBe: true)
  // Queries, keys and values cut to a range, as the first OLMo did; no published model does.
  try config.require("clip_qkv", toBe: .null)
  let experts = try PlainExpertsReader(&config)
  let normalizes = try config.bool("norm_topk_prob", default: false)
  return decoder.model { names in
    names.layer(
      attention.attention(names),
      experts.mlp(
        names, hidden: decoder.hidden, block: "mlp", .softmax, normalizes: normalizes))
  }
}
