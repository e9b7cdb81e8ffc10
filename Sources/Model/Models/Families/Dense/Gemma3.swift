// Gemma3ForCausalLM: Gemma 3 270M and 1B, and the text models of the others.
//
// Source: transformers 5.17 modeling_gemma3.py and configuration_gemma3.py.

internal import JSON
internal import Transformer

func gemma3(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  try config.require("hidden_activation", "hidden_act", toBe: "gelu_pytorch_tanh")
  let decoder = try DecoderReader(&config, activation: .geluTanh, normOffset: 1, isTied: true)
  let (whole, local) = try RotaryReader.byLayerType(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: 4, headDimension: 256, whole)
  try attention.turnLocally(config, local)
  try attention.readBiases(&config)
  attention.norms = .ofEachHead
  attention.scale = Float(
    1 / (try config.positive("query_pre_attn_scalar", default: 256)).squareRoot())
  // transformers and vLLM know it and apply it nowhere.
  try config.require("attn_logit_softcapping", toBe: .null)
  let cap = try config.positiveIfPresent("final_logit_softcapping")
  let pattern = try config.int("sliding_window_pattern", "_sliding_window_pattern", default: 6)
  let windows = try WindowReader(&config, layers: decoder.layerCount) {
    ($0 + 1) % pattern != 0
  }.windows
  let size = try config.int("intermediate_size")
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
          preNorm: norm("pre_feedforward_layernorm"),
          .tokens(MLPSpec(dense: names.mlp("mlp", size))),
          postNorm: norm("post_feedforward_layernorm")),
      ])
  }
  model.embeddingScale = Float(decoder.hidden).squareRoot()
  model.logitCap = cap.map { Float($0) }
  return model
}
