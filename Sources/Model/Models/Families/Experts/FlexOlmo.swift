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
  try attention.readBiases(&config)
  attention.norms = .ofAllHeads
  try config.require("use_qk_norm", toBe: true)
  let experts = try PlainExpertsReader(&config)
  let normalizes = try config.bool("norm_topk_prob", default: false)
  return decoder.model { names in
    names.postNormLayer(
      attention.attention(names),
      experts.mlp(
        names, hidden: decoder.hidden, block: "mlp", .softmax, normalizes: normalizes))
  }
}
