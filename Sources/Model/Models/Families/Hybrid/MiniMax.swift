// MiniMaxForCausalLM, MiniMaxText01ForCausalLM and MiniMaxM1ForCausalLM: MiniMax-Text-01, MiniMax-M1-40k and 80k.
//
// Source: transformers 5.17 modeling_minimax.py and configuration_minimax.py; config.json of MiniMaxAI/MiniMax-Text-01;
// names as published, which transformers loads. vLLM dropped the classes with 0.23.

internal import Glibc
internal import JSON
internal import Transformer

func miniMax(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  let count = decoder.layerCount
  let head = try config.int("head_dim", default: decoder.hidden / decoder.heads)
  let rotated = try config.intIfPresent("rotary_dim")
  let attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: 8, headDimension: head,
    RotaryReader(&config, theta: 1_000_000), rotated: rotated)
  let isFull = try config.eachLayer(
    count, "layer_types", of: ["full_attention": true, "linear_attention": false],
    or: "attn_type_list"
  ) { $0 % 2 == 0 }
  let window = try config.intIfPresent("sliding_window")
  // Tokens that are computed together.
  config.ignore("block_size")
  // Published files say so; without it, states themselves would go on.
  if config.architecture != "MiniMaxForCausalLM", !config.names("postnorm") {
    throw config.missing("postnorm")
  }
  try config.require("postnorm", toBe: true)
  try config.require("shared_intermediate_size", toBe: 0)
  config.ignore("shared_moe_mode")
  let full = try MiniMaxResidual(&config, "full_attention", "full_attn")
  let linear = try MiniMaxResidual(&config, "linear_attention", "linear_attn")
  let feedForward = try MiniMaxResidual(&config, "mlp", "mlp")
  let experts = try PlainExpertsReader(&config)
  return decoder.model { names in
    let isFull = isFull[names.index]
    let residual = isFull ? full : linear
    let mixer =
      isFull
      ? attention.attention(names, window: window)
      : lightning(names, decoder, headDimension: head)
    return LayerSpec(
      index: names.index,
      branches: [
        Branch(
          preNorm: names.norm("input_layernorm", decoder.hidden), .sequence(mixer),
          scale: residual.beta, carried: residual.alpha),
        Branch(
          preNorm: names.norm("post_attention_layernorm", decoder.hidden),
          .tokens(experts.mixtral(names, hidden: decoder.hidden)),
          scale: feedForward.beta, carried: feedForward.alpha),
      ])
  }
}

/// What the normed states and what a mixer makes of them are multiplied with before they are added.
private struct MiniMaxResidual {
  let alpha: Float
  let beta: Float

  /// As published, and as transformers spells it.
  init(
    _ config: inout ConfigReader, _ published: String, _ current: String
  ) throws(ConfigError) {
    func factor(_ name: String) throws(ConfigError) -> Float {
      Float(
        try config.positive(
          "layernorm_\(published)_\(name)", "\(current)_\(name)_factor", default: 1))
    }
    alpha = try factor("alpha")
    beta = try factor("beta")
  }
}

/// Slower decays in later heads, and in later layers.
private func lightning(
  _ names: LayerNames, _ decoder: DecoderReader, headDimension: Int
) -> SequenceMixer {
  let (heads, width) = (decoder.heads, decoder.heads * headDimension)
  // As transformers has it: the last layer forgets next to nothing.
  let depth = 1 - Double(names.index) / (Double(decoder.layerCount - 1) + 1e-5) + 1e-5
  func linear(_ name: String, _ inputs: Int, _ outputs: Int) -> LinearSpec {
    names.linear("self_attn.\(name)", inputs, outputs)
  }
  return .lightning(
    LightningSpec(
      projection: linear("qkv_proj", decoder.hidden, 3 * width),
      gate: linear("output_gate", decoder.hidden, width),
      output: linear("out_proj", width, decoder.hidden),
      // Whatever `rms_norm_eps` says.
      norm: names.norm("self_attn.norm", width, epsilon: 1e-6), headDimension: headDimension,
      decays: (1...heads).map { head in
        Float(exp(-exp2(-8 * Double(head) / Double(heads)) * depth))
      }))
}
