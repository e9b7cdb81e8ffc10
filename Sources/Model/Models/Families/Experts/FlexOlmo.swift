// FlexOlmoForCausalLM: FlexOlmo-7x7B.
//
// Source: transformers 5.17 modeling_flex_olmo.py and configuration_flex_olmo.py; vLLM 0.33 serves it by way of
// transformers' code.

internal import JSON
internal import Transformer

func flexOlmo(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: decoder.heads, RotaryReader(&config, theta: 500_000))
  attention.bias = try config.bool("attention_bias", default: false)
  attention.outputBias = attention.bias
  attention.norms = .ofAllHeads
  try config.require("use_qk_norm", toBe: true)
  let size = try config.int("intermediate_size")
  let experts = try config.int("num_experts", "num_local_experts")
  let perToken = try config.int("num_experts_per_tok")
  let normalizes = try config.bool("norm_topk_prob", default: false)
  try config.checkChoice(of: perToken, from: experts)
  return decoder.model { names in
    names.postNormLayer(
      attention.attention(names),
      MLPSpec(
        router: RouterSpec(
          linear: names.linear("mlp.gate", decoder.hidden, experts), scoring: .softmax,
          expertsPerToken: perToken, normalizes: normalizes),
        alwaysOn: [], routed: (0..<experts).map { names.mlp("mlp.experts.\($0)", size) }))
  }
}
