// BailingMoeV3ForCausalLM: Ling 3.0 Flash.
//
// Source: transformers 5.24 modeling_bailing_hybrid.py and configuration_bailing_hybrid.py; keys and names as vLLM 0.33,
// bailing_moe_v3.py, reads them.

internal import JSON
internal import Transformer

func bailingMoeV3(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(
    &config, spelling: DecoderReader.Spelling(embedding: "word_embeddings"))
  let count = decoder.layerCount
  // Heads of delta nets; those of attention have the widths below.
  let head = try config.int("head_dim", default: 128)
  let taps = try config.int("short_conv_kernel_size", default: 4)
  let bounds = try config.bool("kda_safe_gate", default: true)
  let bound = try config.negative("kda_lower_bound", default: -5)
  let group = try config.int("layer_group_size", default: 6)
  let isDelta =
    try config.choices(
      "layer_types", count: count, of: ["linear_attention": true, "full_attention": false])
    ?? (0..<count).map { ($0 + 1) % group != 0 }
  // vLLM takes the layers behind the last whole group for attention, and transformers does not.
  if isDelta.last == true {
    throw config.unsupported(
      "num_hidden_layers", expected: "whole groups of \(group)", found: "\(count)")
  }
  var attention = try LatentReader(
    &config, decoder, interleaves: true, namesRotated: false)
  attention.spelling = LatentReader.Spelling(module: "attention", output: "dense", gate: "g_proj")
  try config.require("gated_attention_proj_granularity_type", toBe: "head_wise")
  for key in ["no_kda_lora", "moe_router_enable_expert_bias", "use_qk_norm", "use_rmsnorm"] {
    try config.require(key, toBe: true)
  }
  for key in ["use_bias", "use_qkv_bias", "norm_head", "using_split_qkv_in_self_attention"] {
    try config.require(key, toBe: false)
  }
  for key in ["expert_swiglu_limit_list", "share_expert_swiglu_limit_list"]
  where try config.limits(key).contains(where: { $0 > 0 }) {
    throw config.unsupported(key, expected: "null or 0 for every layer", found: "limits")
  }
  config.ignore("rotary_dim", "partial_rotary_factor", "rope_type", "model_max_length")
  let experts = try bailingExperts(
    &config, decoder,
    assuming: SharedExpertsReader.Assumed(groups: 8, chosenGroups: 4, scalingFactor: 2.5),
    correction: "mlp.gate.expert_bias")
  let predictionLayers = try config.predictionLayers()
  return decoder.model(predictionLayers: predictionLayers) { names in
    names.layer(
      isDelta[names.index]
        ? deltaNet(
          names, decoder, headDimension: head, taps: taps, leastDecay: bounds ? bound : nil)
        : attention.attention(names),
      experts.mlp(names, hidden: decoder.hidden))
  }
}

/// Kimi delta attention whose decays and gates are made at once.
private func deltaNet(
  _ names: LayerNames, _ decoder: DecoderReader, headDimension: Int, taps: Int, leastDecay: Float?
) -> SequenceMixer {
  let (hidden, width) = (decoder.hidden, decoder.heads * headDimension)
  func name(_ part: String) -> String { names.name("attention.\(part)") }
  func linear(_ part: String, _ inputs: Int, _ outputs: Int) -> LinearSpec {
    names.linear("attention.\(part)_proj", inputs, outputs)
  }
  func projection(_ part: String) -> ChannelDeltaNetSpec.Projection {
    ChannelDeltaNetSpec.Projection(
      linear: linear(part, hidden, width),
      convolution: CausalConvolution(
        weight: ParameterName.weight(of: name("\(part)_conv1d")), channels: width, taps: taps))
  }
  return .channelDeltaNet(
    ChannelDeltaNetSpec(
      query: projection("q"), key: projection("k"), value: projection("v"),
      strength: linear("b", hidden, decoder.heads), decay: .direct(linear("f", hidden, width)),
      gate: .direct(linear("g", hidden, width)), output: linear("o", width, hidden),
      norm: names.norm("attention.o_norm", headDimension), heads: decoder.heads,
      headDimension: headDimension, decayRate: VectorSpec(name("A_log"), shape: [decoder.heads]),
      decayBias: name("dt_bias"), leastDecay: leastDecay))
}
