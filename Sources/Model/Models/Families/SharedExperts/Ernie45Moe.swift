// Ernie4_5_MoeForCausalLM: ERNIE 4.5 21B-A3B, 300B-A47B.
//
// Source: transformers 5.17 modeling_ernie4_5_moe.py and configuration_ernie4_5_moe.py; config.json of
// baidu/ERNIE-4.5-21B-A3B-PT and ERNIE-4.5-300B-A47B-PT.

internal import JSON
internal import Transformer

func ernie45Moe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  var attention = try GroupedQueryReader(
    &config, decoder, RotaryReader(&config, theta: 500_000), order: .pairs)
  // Of units, too, which no published model has.
  try config.require("use_bias", toBe: false)
  attention.bias = false
  let count = decoder.layerCount
  let first = try config.int("moe_layer_start_index", atLeast: 0, default: 1)
  let last = try config.intIfPresent("moe_layer_end_index", atLeast: -1) ?? -1
  let step = try config.int("moe_layer_interval", default: 1)
  let sparse = (0..<count).map {
    ($0 + 1) % step == 0 && $0 >= first && $0 <= (last < 0 ? count - 1 : last)
  }
  // Two programs for one choice, of which neither transformers nor vLLM reads the name.
  _ = try config.choice("moe_gate", of: ["topk": false, "topk_fused": true], default: "topk")
  try config.require("moe_use_aux_free", toBe: true)
  // Keeps a sum of weights from being nothing.
  config.ignore("moe_norm_min", "moe_capacity")
  let experts = try SharedExpertsReader(
    &config, layers: count,
    SharedExpertsReader.Choice(
      scoring: .softmax, groupScore: .best, hasCorrection: true, normalizes: true),
    isGrouped: false, sparse: sparse,
    spelling: SharedExpertsReader.Spelling(
      experts: ["moe_num_experts", "num_experts"], shared: ["moe_num_shared_experts"],
      perToken: ["moe_k"], correction: "mlp.moe_statics.e_score_correction_bias",
      correctionIsRow: true))
  let predictionLayers = try config.predictionLayers()
  return decoder.model(predictionLayers: predictionLayers) { names in
    names.layer(attention.attention(names), experts.mlp(names, hidden: decoder.hidden))
  }
}
