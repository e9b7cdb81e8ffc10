// HYV3ForCausalLM: Hy3.
//
// Source: transformers 5.17 modeling_hy_v3.py and configuration_hy_v3.py; names as vLLM 0.33 loads them.

internal import JSON
internal import Transformer

func hyV3(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, headDimension: 128, RotaryReader(&config))
  attention.bias = try config.bool("attention_bias", default: false)
  attention.outputBias = attention.bias
  attention.norms = .ofEachHead
  // The precision in which outputs are added.
  config.ignore("enable_moe_fp32_combine")
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount,
    SharedExpertsReader.Choice(
      scoring: .sigmoid, groupScore: .best, hasCorrection: true, normalizes: true),
    firstSparse: 1, isGrouped: false, isListed: true,
    spelling: SharedExpertsReader.Spelling(
      experts: ["num_experts", "num_local_experts"], shared: "num_shared_experts",
      scalingFactor: "router_scaling_factor", router: "mlp.router.gate",
      correction: "mlp.expert_bias", sharedUnit: "mlp.shared_mlp"))
  let predictionLayers = try config.predictionLayers()
  return decoder.model(predictionLayers: predictionLayers) { names in
    names.layer(attention.attention(names), experts.mlp(names, hidden: decoder.hidden))
  }
}
