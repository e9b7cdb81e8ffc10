// Phi3ForCausalLM: Phi-3, Phi-3.5 and Phi-4, whose queries, keys and values are one Linear, and gates and up another.
//
// Source: transformers 5.17 modeling_phi3.py and configuration_phi3.py; names as vLLM 0.33, `Phi3ForCausalLM`, loads them.

internal import JSON
internal import Transformer

func phi3(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: decoder.heads,
    RotaryReader(&config, theta: 10_000, isPartial: true))
  attention.isJoined = true
  let window = try config.intIfPresent("sliding_window")
  try config.require("use_sliding_window", toBe: .bool(window != nil))
  // Phi-4-mini's, read by nobody.
  try config.require("full_attn_mod", toBe: 1)
  try config.require("interpolate_factor", toBe: 1)
  let size = try config.int("intermediate_size")
  return decoder.model { names in
    names.layer(
      attention.attention(names, window: window),
      MLPSpec(
        dense: UnitSpec(
          gate: nil, up: names.linear("mlp.gate_up_proj", decoder.hidden, 2 * size),
          upMakesGates: true, down: names.linear("mlp.down_proj", size, decoder.hidden))))
  }
}
