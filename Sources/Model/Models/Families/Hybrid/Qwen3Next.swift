// Qwen3NextForCausalLM: Qwen3-Next-80B-A3B and Qwen3-Coder-Next; and Qwen3_5MoeForCausalLM and Qwen3_5ForCausalLM, the text
// models of Qwen3_5MoeForConditionalGeneration and Qwen3_5ForConditionalGeneration: Qwen3.5 and 3.6, with experts and dense.
//
// Source: transformers 5.17 modeling_qwen3_next.py, modeling_qwen3_5_moe.py, modeling_qwen3_5.py and their
// configurations; config.json of
// Qwen/Qwen3-Next-80B-A3B-Instruct and Qwen/Qwen3.5-35B-A3B; prediction layers as vLLM 0.33 loads them.

internal import JSON
internal import Transformer

func qwen3Next(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(offsetNorms: &config)
  let mlp = try sharedExperts(&config, decoder)
  // No published file says how many there are.
  let predictionLayers = try config.int("num_nextn_predict_layers", atLeast: 0, default: 1)
  return try hybrid(
    &config, decoder, isByKeyHead: true, predictionLayers: predictionLayers, mlp)
}

func qwen35Moe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(offsetNorms: &config)
  // transformers does not read it.
  try config.require("norm_topk_prob", toBe: true)
  return try qwen35(&config, decoder, sharedExperts(&config, decoder, hasDense: false))
}

func qwen35(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(offsetNorms: &config)
  let size = try config.int("intermediate_size")
  return try qwen35(&config, decoder) { MLPSpec(dense: $0.mlp("mlp", size)) }
}

private func qwen35(
  _ config: inout ConfigReader, _ decoder: DecoderReader, _ mlp: (LayerNames) -> MLPSpec
) throws(ConfigError) -> ModelSpec {
  try config.require("attn_output_gate", toBe: true)
  // Of delta nets; another word for SiLU.
  try config.require("output_gate_type", toBe: "swish")
  let predictionLayers = try config.int("mtp_num_hidden_layers", atLeast: 0, default: 0)
  config.ignore("mtp_use_dedicated_embeddings")
  return try hybrid(
    &config, decoder, isByKeyHead: false, predictionLayers: predictionLayers, mlp)
}

/// Experts beside one that every token sees.
private func sharedExperts(
  _ config: inout ConfigReader, _ decoder: DecoderReader, hasDense: Bool = true
) throws(ConfigError) -> (LayerNames) -> MLPSpec {
  let experts = try QwenExpertsReader(&config, normalizes: true, hasDense: hasDense)
  let sharedSize = try config.int("shared_expert_intermediate_size", default: 512)
  return { names in
    experts.mlp(
      names, hidden: decoder.hidden,
      shared: names.mlp(
        "mlp.shared_expert", sharedSize, outputGate: "mlp.shared_expert_gate"))
  }
}

/// Delta nets, and a layer with attention now and then.
private func hybrid(
  _ config: inout ConfigReader, _ decoder: DecoderReader, isByKeyHead: Bool,
  predictionLayers: Int, _ mlp: (LayerNames) -> MLPSpec
) throws(ConfigError) -> ModelSpec {
  var attention = try GroupedQueryReader(
    &config, decoder, headDimension: 256, RotaryReader(&config, isPartial: true), share: 0.25)
  try attention.readBiases(&config)
  attention.norms = .ofEachHead
  attention.queryMakesGates = true
  let deltaNets = try DeltaNetReader(&config, decoder, isByKeyHead: isByKeyHead)
  var model = decoder.model { names in
    names.layer(
      deltaNets.isDelta[names.index] ? deltaNets.deltaNet(names) : attention.attention(names),
      mlp(names))
  }
  // Beside the model, not behind its layers.
  model.passedThrough = (0..<predictionLayers).map { "mtp.layers.\($0)." }
  model.beside = ["mtp."]
  // vLLM asks the first one alone, and counts dense layers otherwise.
  if predictionLayers == 1, Set(model.layers.map(\.routers.isEmpty)).count == 1 {
    let names = LayerNames(decoder, index: decoder.layerCount, prefix: model.passedThrough[0])
    var layer = names.layer(attention.attention(names), mlp(names))
    layer.entrance = entrance(decoder, prefix: model.passedThrough[0], behind: model.finalNorm)
    model.predictions = [layer]
  }
  return model
}

/// Source: vLLM 0.33 `qwen3_next_mtp.py`, `qwen3_5_mtp.py`.
private func entrance(
  _ decoder: DecoderReader, prefix: String, behind last: NormSpec
) -> Entrance {
  func norm(_ name: String) -> NormSpec {
    NormSpec(
      "mtp." + name, size: decoder.hidden, epsilon: decoder.epsilon, offset: decoder.normOffset)
  }
  return Entrance(
    prefix: prefix, ahead: 1, before: last, statesNorm: norm("pre_fc_norm_hidden"),
    embeddingNorm: norm("pre_fc_norm_embedding"),
    projection: LinearSpec("mtp.fc", inputs: 2 * decoder.hidden, outputs: decoder.hidden),
    masksFirst: false,
    aside: ["fc.", "norm.", "pre_fc_norm_hidden.", "pre_fc_norm_embedding."].map { "mtp." + $0 })
}
