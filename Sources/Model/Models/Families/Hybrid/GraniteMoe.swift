// GraniteMoeForCausalLM: Granite 3.0 and 3.1 1B-A400M, 3B-A800M; and GraniteMoeHybridForCausalLM: Granite 4.0 Micro, Tiny,
// Small, and their dense kin.
//
// Source: transformers 5.17 modeling_granitemoe.py, modeling_granitemoehybrid.py and their configurations; config.json of
// ibm-granite/granite-3.1-3b-a800m-instruct and ibm-granite/granite-4.0-h-tiny; names of experts as vLLM 0.33 loads them.

internal import JSON
internal import Transformer

func graniteMoe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let scales = try GraniteScales(&config)
  let decoder = try DecoderReader(&config)
  let attention = try graniteAttention(
    &config, decoder, RotaryReader(&config, theta: 10_000), scales)
  let experts = try GraniteExperts(&config, decoder)
  return scales.applied(
    to: decoder.model { names in
      names.layer(
        attention.attention(names), experts.mlp(names, shared: nil), scale: scales.residual)
    })
}

func graniteMoeHybrid(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let scales = try GraniteScales(&config)
  let decoder = try DecoderReader(&config)
  let turns = try config.choice(
    "position_embedding_type", of: ["rope": true, "nope": false], default: "nope")
  let rotary = try turns ? RotaryReader(&config, theta: 10_000) : nil
  // Of models that do not turn.
  if !turns { config.ignore("rope_theta", "rope_scaling", "rope_parameters") }
  let attention = try graniteAttention(&config, decoder, rotary, scales)
  try config.require("normalization_function", toBe: "rmsnorm")
  let count = decoder.layerCount
  let kinds = [
    "mamba": true, "linear_attention": true, "attention": false, "full_attention": false,
  ]
  let key = config.names("layers_block_type") ? "layers_block_type" : "layer_types"
  let listed = try config.choices(key, count: count, of: kinds)
  let isStateSpace = listed ?? Array(repeating: true, count: count)
  let stateSpaces = try graniteStateSpaces(&config, decoder)
  let experts =
    try config.int("num_local_experts", atLeast: 0, default: 8) == 0
    ? nil : try GraniteExperts(&config, decoder)
  if experts == nil { config.ignore("intermediate_size", "num_experts_per_tok") }
  let size = try config.int("shared_intermediate_size", default: 1024)
  return scales.applied(
    to: decoder.model { names in
      let shared = UnitSpec(
        gate: nil, up: names.linear("shared_mlp.input_linear", decoder.hidden, 2 * size),
        down: names.linear("shared_mlp.output_linear", size, decoder.hidden),
        activation: .gatedHalves)
      return names.layer(
        isStateSpace[names.index] ? stateSpaces.stateSpace(names) : attention.attention(names),
        experts?.mlp(names, shared: shared) ?? MLPSpec(dense: shared), scale: scales.residual)
    })
}

/// What embeddings, residual branches, scores and logits are multiplied with.
struct GraniteScales {
  let embedding: Float
  let residual: Float
  let attention: Float
  let logits: Float

  init(_ config: inout ConfigReader) throws(ConfigError) {
    embedding = Float(try config.positive("embedding_multiplier", default: 1))
    residual = Float(try config.positive("residual_multiplier", default: 1))
    attention = Float(try config.positive("attention_multiplier", default: 1))
    logits = Float(1 / (try config.positive("logits_scaling", default: 1)))
  }

  func applied(to model: ModelSpec) -> ModelSpec {
    var model = model
    model.embeddingScale = embedding
    model.logitScale = logits
    return model
  }
}

func graniteAttention(
  _ config: inout ConfigReader, _ decoder: DecoderReader, _ rotary: RotaryReader?,
  _ scales: GraniteScales
) throws(ConfigError) -> GroupedQueryReader {
  var attention = try GroupedQueryReader(&config, decoder, keyValueHeads: decoder.heads, rotary)
  try attention.readBiases(&config)
  attention.scale = scales.attention
  return attention
}

private func graniteStateSpaces(
  _ config: inout ConfigReader, _ decoder: DecoderReader
) throws(ConfigError) -> StateSpaceReader {
  let expand = try config.int("mamba_expand", default: 2)
  config.ignore("mamba_chunk_size")
  return try StateSpaceReader(
    &config, decoder,
    StateSpaceReader.Spelling(
      heads: ["mamba_n_heads"], headDimension: ["mamba_d_head"], groups: ["mamba_n_groups"],
      stateSize: ["mamba_d_state"], taps: ["mamba_d_conv"], bias: ["mamba_proj_bias"],
      convolutionHasBias: ["mamba_conv_bias"], module: "mamba", servedModule: "mixer"),
    width: expand * decoder.hidden, steps: try config.range("time_step_limit") ?? 0...(.infinity),
    normsGroups: false)
}

/// A softmax over the chosen experts, which lie in two tensors.
private struct GraniteExperts {
  private let hidden: Int
  private let size: Int
  private let experts: Int
  private let perToken: Int

  init(_ config: inout ConfigReader, _ decoder: DecoderReader) throws(ConfigError) {
    hidden = decoder.hidden
    size = try config.int("intermediate_size")
    experts = try config.int("num_local_experts", "num_experts")
    perToken = try config.int("num_experts_per_tok")
    try config.checkChoice(of: perToken, from: experts)
  }

  func mlp(_ names: LayerNames, shared: UnitSpec?) -> MLPSpec {
    MLPSpec(
      router: RouterSpec(
        linear: names.linear("block_sparse_moe.router.layer", hidden, experts),
        scoring: .softmax, expertsPerToken: perToken, normalizes: true),
      alwaysOn: [shared].compactMap(\.self),
      routed: (0..<experts).map { names.mlp("block_sparse_moe.experts.\($0)", size) })
  }
}
