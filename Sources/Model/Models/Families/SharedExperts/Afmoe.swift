// AfmoeForCausalLM: Trinity Nano, Mini and Large.
//
// Source: transformers 5.17 modeling_afmoe.py and configuration_afmoe.py; vLLM 0.33 `AfmoeForCausalLM`.

internal import JSON
internal import Transformer

func afmoe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: decoder.heads, headDimension: 128, RotaryReader(&config))
  try attention.readBiases(&config)
  attention.norms = .ofEachHead
  attention.gate = GroupedQueryReader.Gate(name: "gate_proj")
  attention.turnsLocallyOnly = true
  let interval = try config.int("global_attn_every_n_layers", default: 4)
  let windows = try WindowReader(&config, layers: decoder.layerCount) {
    ($0 + 1) % interval != 0
  }.windows
  let isScaled = try config.bool("mup_enabled", default: false)
  config.ignore("load_balance_coeff", "use_grouped_mm")
  try config.require("score_func", toBe: "sigmoid")
  try config.require("route_norm", toBe: true)
  try config.require("n_group", "num_expert_groups", toBe: 1)
  try config.require("topk_group", "num_limited_groups", toBe: 1)
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount,
    SharedExpertsReader.Choice(
      scoring: .sigmoid, groupScore: .best, hasCorrection: true, normalizes: true),
    firstSparse: 1, isGrouped: false,
    spelling: SharedExpertsReader.Spelling(
      experts: ["num_experts"], shared: ["num_shared_experts"], scalingFactor: "route_scale",
      firstSparse: "num_dense_layers", router: "mlp.router.gate", correction: "mlp.expert_bias"))
  var model = decoder.model { names in
    func norm(_ name: String) -> NormSpec { names.norm(name, decoder.hidden) }
    return LayerSpec(
      index: names.index,
      branches: [
        Branch(
          preNorm: norm("input_layernorm"),
          .sequence(attention.attention(names, window: windows[names.index])),
          postNorm: norm("post_attention_layernorm")),
        Branch(
          preNorm: norm("pre_mlp_layernorm"),
          .tokens(experts.mlp(names, hidden: decoder.hidden)),
          postNorm: norm("post_mlp_layernorm")),
      ])
  }
  if isScaled { model.embeddingScale = Float(decoder.hidden).squareRoot() }
  return model
}
