// Qwen2MoeForCausalLM: Qwen1.5-MoE and Qwen2-57B-A14B.
//
// Source: transformers 5.17 modeling_qwen2_moe.py and configuration_qwen2_moe.py.

internal import Transformer

func qwen2Moe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(&config, decoder, RotaryReader(&config))
  attention.bias = try config.bool("qkv_bias", default: true)
  // Read by nobody here.
  config.ignore("attention_bias")
  let windows = try WindowReader(&config, layers: decoder.layerCount) { layer, limit in
    layer % 2 == 0 && layer < limit
  }.windows
  let experts = try QwenExpertsReader(&config)
  let sharedSize = try config.int("shared_expert_intermediate_size")
  return decoder.model { names in
    names.layer(
      attention.attention(names, window: windows[names.index]),
      experts.mlp(
        names, hidden: decoder.hidden,
        shared: names.mlp(
          "mlp.shared_expert", sharedSize, outputGate: "mlp.shared_expert_gate")))
  }
}
