// MixtralForCausalLM: Mixtral 8x7B and 8x22B.
//
// Source: transformers 5.17 modeling_mixtral.py and configuration_mixtral.py; names as published, which vLLM loads.

internal import JSON
internal import Transformer

func mixtral(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  let attention = try GroupedQueryReader(&config, decoder, RotaryReader(&config))
  let window = try config.intIfPresent("sliding_window")
  try config.require("use_sliding_window", toBe: .bool(window != nil))
  let size = try config.int("intermediate_size")
  let experts = try config.int("num_local_experts", "num_experts")
  let perToken = try config.int("num_experts_per_tok")
  try config.checkChoice(of: perToken, from: experts)
  try config.require("norm_topk_prob", toBe: true)
  return decoder.model { names in
    names.layer(
      attention.attention(names, window: window),
      MLPSpec(
        router: RouterSpec(
          linear: names.linear("block_sparse_moe.gate", decoder.hidden, experts),
          scoring: .softmax, expertsPerToken: perToken, normalizes: true),
        alwaysOn: [],
        routed: (0..<experts).map {
          names.mlp("block_sparse_moe.experts.\($0)", size, projections: ("w1", "w3", "w2"))
        }))
  }
}
