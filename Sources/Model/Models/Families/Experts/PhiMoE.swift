// PhiMoEForCausalLM: Phi-3.5-MoE, Phi-tiny-MoE, Phi-mini-MoE.
//
// Source: transformers 5.17 modeling_phimoe.py and configuration_phimoe.py; config.json of
// microsoft/Phi-3.5-MoE-instruct; names as published, which vLLM 0.33 loads.

internal import JSON
internal import Transformer

func phiMoE(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  var decoder = try DecoderReader(&config)
  decoder.normKind = .deviation(hasBias: true)
  decoder.headHasBias = try config.bool("lm_head_bias", default: false)
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: 8, RotaryReader(&config, theta: 1_000_000))
  try attention.readBiases(&config)
  let window = try config.intIfPresent("sliding_window")
  try config.require("num_experts_per_tok", toBe: 2)
  let experts = try PlainExpertsReader(&config)
  // Of training, but for this: scores are near one another by it.
  let noise = try config.positive("router_jitter_noise", default: 0.01)
  return decoder.model { names in
    names.layer(
      attention.attention(names, window: window),
      experts.mixtral(
        names, hidden: decoder.hidden, .sparseMixer(within: Float(2 * noise)), normalizes: false))
  }
}
