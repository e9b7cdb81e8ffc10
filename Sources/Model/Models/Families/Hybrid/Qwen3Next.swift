// Qwen3NextForCausalLM: Qwen3-Next-80B-A3B and Qwen3-Coder-Next; and Qwen3_5MoeForCausalLM, the text model of
// Qwen3_5MoeForConditionalGeneration: Qwen3.5 and 3.6 with experts.
//
// Source: transformers 5.17 modeling_qwen3_next.py, modeling_qwen3_5_moe.py and their configurations; config.json of
// Qwen/Qwen3-Next-80B-A3B-Instruct and Qwen/Qwen3.5-35B-A3B; prediction layers as vLLM 0.33 loads them.

internal import JSON
internal import Transformer

func qwen3Next(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(offsetNorms: &config)
  let experts = try QwenExpertsReader(&config, normalizes: true)
  // No published file says how many there are.
  let predictionLayers = try config.int("num_nextn_predict_layers", atLeast: 0, default: 1)
  return try hybrid(
    &config, decoder, experts, isByKeyHead: true, predictionLayers: predictionLayers)
}

func qwen35Moe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(offsetNorms: &config)
  // transformers does not read it.
  try config.require("norm_topk_prob", toBe: true)
  try config.require("attn_output_gate", toBe: true)
  let experts = try QwenExpertsReader(&config, normalizes: true, hasDense: false)
  let predictionLayers = try config.int("mtp_num_hidden_layers", atLeast: 0, default: 0)
  config.ignore("mtp_use_dedicated_embeddings")
  return try hybrid(
    &config, decoder, experts, isByKeyHead: false, predictionLayers: predictionLayers)
}

/// Delta nets, and a layer with attention now and then.
private func hybrid(
  _ config: inout ConfigReader, _ decoder: DecoderReader, _ experts: QwenExpertsReader,
  isByKeyHead: Bool, predictionLayers: Int
) throws(ConfigError) -> ModelSpec {
  var attention = try GroupedQueryReader(
    &config, decoder, headDimension: 256, RotaryReader(&config, isPartial: true), share: 0.25)
  attention.bias = try config.bool("attention_bias", default: false)
  attention.outputBias = attention.bias
  attention.norms = .ofEachHead
  attention.queryMakesGates = true
  let deltaNets = try DeltaNetReader(&config, decoder, isByKeyHead: isByKeyHead)
  let sharedSize = try config.int("shared_expert_intermediate_size", default: 512)
  var model = decoder.model { names in
    names.layer(
      deltaNets.isDelta[names.index] ? deltaNets.deltaNet(names) : attention.attention(names),
      experts.mlp(
        names, hidden: decoder.hidden,
        shared: names.mlp(
          "mlp.shared_expert", sharedSize, outputGate: "mlp.shared_expert_gate")))
  }
  // Beside the model, not behind its layers.
  model.passedThrough = (0..<predictionLayers).map { "mtp.layers.\($0)." }
  model.beside = ["mtp."]
  return model
}
