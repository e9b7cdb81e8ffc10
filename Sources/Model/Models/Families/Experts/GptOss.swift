// GptOssForCausalLM: gpt-oss-20b and 120b.
//
// Source: transformers 5.17 modeling_gpt_oss.py and configuration_gpt_oss.py; config.json of openai/gpt-oss-120b; names
// of experts' tensors as vLLM 0.33 loads them one expert at a time (gpt_oss.py).

internal import JSON
internal import Transformer

func gptOss(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  // What transformers assumes where nothing is said is no plain rotation.
  guard config.names("rope_scaling") || config.names("rope_parameters") else {
    throw config.missing("rope_scaling")
  }
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: 8, headDimension: 64,
    RotaryReader(&config, theta: 150_000))
  try attention.readBiases(&config, default: true)
  attention.sinks = "sinks"
  let windows = try WindowReader(&config, layers: decoder.layerCount) { $0 % 2 == 0 }.windows
  let size = try config.int("intermediate_size")
  let experts = try config.int("num_local_experts", "num_experts")
  let perToken = try config.int("num_experts_per_tok", "experts_per_token")
  try config.checkChoice(of: perToken, from: experts)
  // Neither is read: the activation has these numbers, and positions are those of the rotation.
  try config.require("swiglu_limit", toBe: 7)
  config.ignore("initial_context_length")
  return decoder.model { names in
    names.layer(
      attention.attention(names, window: windows[names.index]),
      MLPSpec(
        router: RouterSpec(
          linear: names.linear("mlp.router", decoder.hidden, experts, bias: true),
          scoring: .softmax, expertsPerToken: perToken, normalizes: true),
        alwaysOn: [],
        routed: (0..<experts).map { expert in
          let module = names.name("mlp.experts.\(expert).")
          return UnitSpec(
            gate: nil,
            up: LinearSpec(
              module + "w13", inputs: decoder.hidden, outputs: 2 * size, hasBias: true,
              standsFor: [module + "gate_proj", module + "up_proj"], isFused: true),
            down: LinearSpec(
              module + "w2", inputs: size, outputs: decoder.hidden, hasBias: true,
              standsFor: [module + "down_proj"],
              isFused: true),
            activation: .clampedPairs(alpha: 1.702, limit: 7))
        }))
  }
}
