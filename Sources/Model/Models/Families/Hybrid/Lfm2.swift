// Lfm2MoeForCausalLM: LFM2-8B-A1B; and Lfm2ForCausalLM: LFM2 350M to 2.6B.
//
// Source: transformers 5.17 modeling_lfm2_moe.py, modeling_lfm2.py and their configurations; config.json of
// LiquidAI/LFM2-8B-A1B and LiquidAI/LFM2-1.2B.

internal import JSON
internal import Transformer

func lfm2Moe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try lfm2Decoder(&config)
  let count = decoder.layerCount
  let dense = try config.int("num_dense_layers", atLeast: 0, default: 2)
  let denseSize = try config.int("intermediate_size")
  let size = try config.int("moe_intermediate_size")
  let experts = try config.int("num_experts", "num_local_experts")
  let perToken = try config.int("num_experts_per_tok")
  try config.checkChoice(of: perToken, from: experts)
  let hasBias = try config.bool("use_expert_bias", default: true)
  let normalizes = try config.bool("norm_topk_prob", default: true)
  let scaling = Float(try config.positive("routed_scaling_factor", default: 1))
  let isConvolution = try convolutions(&config, count: count)
  return try lfm2(&config, decoder, isConvolution) { names in
    if names.index < dense { return MLPSpec(dense: names.unit("feed_forward", denseSize)) }
    return MLPSpec(
      router: RouterSpec(
        linear: names.linear("feed_forward.gate", decoder.hidden, experts), scoring: .sigmoid,
        correctionBias: hasBias ? names.name("feed_forward.expert_bias") : nil,
        expertsPerToken: perToken, normalizes: normalizes, scalingFactor: scaling),
      alwaysOn: [],
      routed: (0..<experts).map { names.unit("feed_forward.experts.\($0)", size) })
  }
}

func lfm2(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try lfm2Decoder(&config)
  let size = try lfm2Size(&config)
  // What the first files said beside the keys that are read.
  config.ignore(
    "block_dim", "block_mlp_init_scale", "block_norm_eps", "block_out_init_scale",
    "block_use_xavier_init", "conv_dim", "conv_dim_out", "conv_use_xavier_init")
  try config.require("block_use_swiglu", toBe: true)
  try config.require("use_pos_enc", toBe: true)
  try config.require("num_heads", toFollow: decoder.heads)
  let count = decoder.layerCount
  let attending = config.hasList("full_attn_idxs") ? try config.ints("full_attn_idxs") : nil
  config.ignore("full_attn_idxs")
  let listed = try config.choices("layer_types", count: count, of: layerKinds)
  let isConvolution = listed ?? (0..<count).map { attending?.contains($0) == false }
  return try lfm2(&config, decoder, isConvolution) { names in
    MLPSpec(dense: names.unit("feed_forward", size))
  }
}

/// Of the dense units, which may follow from a wider one.
private func lfm2Size(_ config: inout ConfigReader) throws(ConfigError) -> Int {
  let size = try config.int("block_ff_dim", "intermediate_size")
  let multiple = try config.int("block_multiple_of", default: 256)
  let multiplier = try config.positive("block_ffn_dim_multiplier", default: 1)
  guard try config.bool("block_auto_adjust_ff_dim", default: true) else { return size }
  let adjusted = multiplier * Double(2 * size / 3)
  guard adjusted >= 1, adjusted <= Double(1 << 26) else {
    throw config.unsupported(
      "block_ffn_dim_multiplier", expected: "a multiplier that leaves a width",
      found: "\(multiplier)")
  }
  return (Int(adjusted) + multiple - 1) / multiple * multiple
}

private func lfm2Decoder(
  _ config: inout ConfigReader
) throws(ConfigError) -> DecoderReader {
  try config.require("hidden_act", toBe: "silu")
  return try DecoderReader(
    &config, activation: .silu, normOffset: 0, isTied: true,
    spelling: DecoderReader.Spelling(
      epsilon: ["norm_eps"], tied: ["tie_embedding", "tie_word_embeddings"],
      finalNorm: "embedding_norm"))
}

/// Whether a layer is a convolution.
private let layerKinds = ["conv": true, "linear_attention": true, "full_attention": false]

private func convolutions(
  _ config: inout ConfigReader, count: Int
) throws(ConfigError) -> [Bool] {
  guard let listed = try config.choices("layer_types", count: count, of: layerKinds) else {
    throw config.missing("layer_types")
  }
  return listed
}

/// Short convolutions, and a layer with attention now and then.
private func lfm2(
  _ config: inout ConfigReader, _ decoder: DecoderReader, _ isConvolution: [Bool],
  _ mlp: (LayerNames) -> MLPSpec
) throws(ConfigError) -> ModelSpec {
  var attention = try GroupedQueryReader(
    &config, decoder, RotaryReader(&config, theta: 1_000_000))
  attention.norms = .ofEachHead
  attention.spelling = GroupedQueryReader.Spelling(
    output: "out_proj", queryNorm: "q_layernorm", keyNorm: "k_layernorm")
  let taps = try config.int("conv_L_cache", default: 3)
  let bias = try config.bool("conv_bias", default: false)
  let hidden = decoder.hidden
  return decoder.model { names in
    let mixer: SequenceMixer =
      isConvolution[names.index]
      ? .shortConvolution(
        ShortConvolutionSpec(
          input: names.linear("conv.in_proj", hidden, 3 * hidden, bias: bias),
          convolution: CausalConvolution(
            weight: ParameterName.weight(of: names.name("conv.conv")),
            bias: bias ? ParameterName.bias(of: names.name("conv.conv")) : nil,
            channels: hidden, taps: taps),
          output: names.linear("conv.out_proj", hidden, hidden, bias: bias)))
      : attention.attention(names)
    return names.layer(mixer, mlp(names), norms: ("operator_norm", "ffn_norm"))
  }
}

extension LayerNames {
  fileprivate func unit(_ name: String, _ size: Int) -> UnitSpec {
    mlp(name, size, projections: ("w1", "w3", "w2"))
  }
}
