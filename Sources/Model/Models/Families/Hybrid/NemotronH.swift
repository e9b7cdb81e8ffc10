// NemotronHForCausalLM: Nemotron-H, Nemotron Nano 2, Nemotron 3 Nano, Super, Ultra.
//
// Source: transformers 5.17 modeling_nemotron_h.py and configuration_nemotron_h.py; config.json of
// nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16, nvidia/NVIDIA-Nemotron-3-Super-120B-A12B and nvidia/Nemotron-H-56B-Base-8K;
// names and prediction layers as vLLM 0.33 loads them.

internal import JSON
internal import Transformer

/// What a layer is; it has one branch.
private enum NemotronLayer {
  case stateSpace
  case attention
  case dense
  case experts
}

func nemotronH(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let layers = try nemotronLayers(&config)
  config.names = ModelNames(model: "backbone.", head: "lm_head")
  try config.require("mlp_hidden_act", toBe: "relu2")
  try config.require("mamba_hidden_act", toBe: "silu")
  let decoder = try DecoderReader(
    &config, activation: .reluSquared, normOffset: 0, isTied: false, layers: layers.count,
    spelling: DecoderReader.Spelling(
      epsilon: ["layer_norm_epsilon", "norm_eps", "rms_norm_eps"], embedding: "embeddings",
      finalNorm: "norm_f"))
  var attention = try GroupedQueryReader(
    &config, decoder, keyValueHeads: 8, headDimension: 128, nil)
  attention.spelling.module = "mixer"
  // Nothing turns, whatever they say; and none of the published models has a window.
  config.ignore("rope_theta", "partial_rotary_factor", "attention_head_dim")
  let stateSpaces = try nemotronStateSpaces(&config, decoder)
  let size = layers.contains(.dense) ? try config.int("intermediate_size") : 0
  config.ignore("intermediate_size")
  let bias = try config.bool("mlp_bias", default: false)
  let experts =
    layers.contains(.experts) ? try NemotronExperts(&config, decoder, bias: bias) : nil
  if experts == nil { NemotronExperts.ignore(&config) }
  let predictionLayers = try config.int("num_nextn_predict_layers", atLeast: 0, default: 0)
  config.ignore("mtp_hybrid_override_pattern", "mtp_layers_block_type")
  config.ignore("num_logits_to_keep", "use_mamba_kernels")
  var model = decoder.model { names in
    let mixer: Mixer =
      switch layers[names.index] {
      case .stateSpace: .sequence(stateSpaces.stateSpace(names))
      case .attention: .sequence(attention.attention(names))
      case .dense:
        .tokens(
          MLPSpec(
            dense: names.mlp("mixer", size, bias: bias, projections: nemotronProjections)))
      case .experts:
        .tokens(
          experts?.mlp(names)
            ?? MLPSpec(dense: names.mlp("mixer", size, projections: nemotronProjections)))
      }
    return names.layer(mixer, norm: "norm")
  }
  // Beside the model, not behind its layers.
  model.passedThrough = (0..<predictionLayers).map { "mtp.layers.\($0)." }
  model.beside = ["mtp."]
  return model
}

private let nemotronProjections: (gate: String?, up: String, down: String) =
  (nil, "up_proj", "down_proj")

/// By a list of words, or by a text of letters.
private func nemotronLayers(
  _ config: inout ConfigReader
) throws(ConfigError) -> [NemotronLayer] {
  let kinds: [String: NemotronLayer] = [
    "mamba": .stateSpace, "linear_attention": .stateSpace, "attention": .attention,
    "full_attention": .attention, "mlp": .dense, "moe": .experts,
  ]
  let letters: [Character: NemotronLayer] = [
    "M": .stateSpace, "*": .attention, "-": .dense, "E": .experts,
  ]
  var spelled: [NemotronLayer]?
  if let pattern = try config.textIfPresent("hybrid_override_pattern") {
    let layers = pattern.compactMap { letters[$0] }
    guard layers.count == pattern.count, !layers.isEmpty else {
      throw config.unsupported(
        "hybrid_override_pattern", expected: "M, E, * or - for each layer", found: pattern)
    }
    spelled = layers
  }
  let key = config.names("layer_types") ? "layer_types" : "layers_block_type"
  guard
    let layers = try config.choices(key, count: spelled?.count ?? config.length(of: key), of: kinds)
      ?? spelled, !layers.isEmpty
  else { throw config.missing("hybrid_override_pattern") }
  if let spelled, spelled != layers {
    throw config.implausible(
      key, expected: "the layers of `hybrid_override_pattern`", found: "others")
  }
  try config.require("num_hidden_layers", toFollow: layers.count)
  return layers
}

private func nemotronStateSpaces(
  _ config: inout ConfigReader, _ decoder: DecoderReader
) throws(ConfigError) -> StateSpaceReader {
  try config.require("mamba_proj_bias", toBe: false)
  // transformers holds steps above this one and below none; the others are of training and of kernels.
  let least = try config.nonNegativeIfPresent("time_step_min") ?? 0.001
  config.ignore(
    "chunk_size", "expand", "mamba_ssm_cache_dtype", "time_step_floor", "time_step_limit",
    "time_step_max", "time_step_rank")
  return try StateSpaceReader(
    &config, decoder,
    StateSpaceReader.Spelling(
      heads: ["mamba_num_heads"], headDimension: ["mamba_head_dim"], groups: ["n_groups"],
      stateSize: ["ssm_state_size"], taps: ["conv_kernel"], bias: ["use_bias"],
      convolutionHasBias: ["use_conv_bias"], module: "mixer"),
    steps: Float(least)...(.infinity), normsGroups: true)
}

/// Experts without gates, in a latent where the model has one, beside a shared one.
private struct NemotronExperts {
  private let decoder: DecoderReader
  private let bias: Bool
  private let size: Int
  private let sharedSize: Int
  private let latent: Int?
  private let experts: Int
  private let perToken: Int
  private let groups: Int
  private let chosenGroups: Int
  private let normalizes: Bool
  private let scalingFactor: Float

  init(
    _ config: inout ConfigReader, _ decoder: DecoderReader, bias: Bool
  ) throws(ConfigError) {
    self.decoder = decoder
    self.bias = bias
    size = try config.int("moe_intermediate_size")
    sharedSize = try config.int("moe_shared_expert_intermediate_size")
    try config.require("n_shared_experts", toBe: 1)
    latent = try config.intIfPresent("moe_latent_size")
    experts = try config.int("n_routed_experts", "num_local_experts")
    perToken = try config.int("num_experts_per_tok")
    groups = try config.int("n_group", default: 1)
    chosenGroups = try config.int("topk_group", default: 1)
    normalizes = try config.bool("norm_topk_prob", default: true)
    scalingFactor = Float(try config.positive("routed_scaling_factor", default: 1))
    // Whether both kinds are computed at the same time.
    config.ignore("moe_shared_expert_overlap")
    try config.checkChoice(
      of: perToken, from: experts, groups: groups, chosenGroups: chosenGroups, atLeastInGroup: 2)
    // transformers gives experts none.
    if bias {
      throw config.unsupported("mlp_bias", expected: "false beside experts", found: "true")
    }
  }

  /// Of a model without such layers.
  static func ignore(_ config: inout ConfigReader) {
    config.ignore(
      "moe_intermediate_size", "moe_shared_expert_intermediate_size", "n_shared_experts",
      "moe_latent_size", "n_routed_experts", "num_experts_per_tok", "n_group", "topk_group",
      "norm_topk_prob", "routed_scaling_factor", "moe_shared_expert_overlap")
  }

  func mlp(_ names: LayerNames) -> MLPSpec {
    let hidden = decoder.hidden
    return MLPSpec(
      router: RouterSpec(
        linear: names.linear("mixer.gate", hidden, experts), scoring: .sigmoid,
        correctionBias: names.name("mixer.gate.e_score_correction_bias"),
        expertsPerToken: perToken, groups: groups, chosenGroups: chosenGroups,
        normalizes: normalizes, scalingFactor: scalingFactor),
      alwaysOn: [names.mlp("mixer.shared_experts", sharedSize, projections: nemotronProjections)],
      routed: (0..<experts).map {
        names.mlp(
          "mixer.experts.\($0)", size, inputs: latent, projections: nemotronProjections)
      },
      latent: latent.map {
        LatentExperts(
          down: names.linear("mixer.fc1_latent_proj", hidden, $0),
          up: names.linear("mixer.fc2_latent_proj", $0, hidden))
      })
  }
}
