// OlmoeForCausalLM: OLMoE-1B-7B.
//
// Source: transformers 5.17 modeling_olmoe.py and configuration_olmoe.py; config.json of allenai/OLMoE-1B-7B-0924.

internal import JSON
internal import Transformer

func olmoe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: decoder.heads, RotaryReader(&config))
  attention.bias = try config.bool("attention_bias", default: false)
  attention.outputBias = attention.bias
  attention.norms = .ofAllHeads
  try config.require("use_qk_norm", toBe: true)
  // Queries, keys and values cut to a range, as the first OLMo did; no published model does.
  try config.require("clip_qkv", toBe: .null)
  let size = try config.int("intermediate_size")
  let experts = try config.int("num_experts", "num_local_experts")
  let perToken = try config.int("num_experts_per_tok")
  let normalizes = try config.bool("norm_topk_prob", default: false)
  try config.checkChoice(of: perToken, from: experts)
  return decoder.model { names in
    names.layer(
      attention.attention(names),
      MLPSpec(
        router: RouterSpec(
          linear: names.linear("mlp.gate", decoder.hidden, experts), scoring: .softmax,
          expertsPerToken: perToken, normalizes: normalizes),
        alwaysOn: [], routed: (0..<experts).map { names.mlp("mlp.experts.\($0)", size) }))
  }
}
