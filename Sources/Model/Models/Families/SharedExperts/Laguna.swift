// LagunaForCausalLM: Laguna XS, M.
//
// Source: transformers 5.17 modeling_laguna.py and configuration_laguna.py; names as vLLM 0.33 (laguna.py) loads them.

internal import JSON
internal import Transformer

func laguna(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  let rotary = try RotaryReader.byLayerType(&config, theta: 500_000, isPartial: true)
  // What transformers assumes where nothing is said is two rotations.
  if !config.hasObject("full_attention", in: "rope_parameters") {
    throw config.missing("rope_parameters.full_attention")
  }
  var attention = try GroupedQueryReader(
    &config, decoder, headDimension: 128, rotary.whole)
  try attention.turnLocally(config, rotary.local)
  try attention.readBiases(&config)
  attention.norms = .ofEachHead
  attention.gate = GroupedQueryReader.Gate(
    name: "g_proj", isByHead: try config.gatesHeads(), activation: .softplus)
  let layers = decoder.layerCount
  let listed = try config.ints("num_attention_heads_per_layer")
  let heads = listed.isEmpty ? Array(repeating: decoder.heads, count: layers) : listed
  if heads.count != layers {
    throw config.implausible(
      "num_attention_heads_per_layer", expected: "\(layers) numbers, one a layer",
      found: "\(heads.count)")
  }
  try attention.check(heads, key: "num_attention_heads_per_layer", config)
  let windows = try WindowReader(&config, layers: layers) { _ in false }.windows
  let experts = try LagunaExperts(&config, decoder)
  return decoder.model { names in
    names.layer(
      attention.attention(
        names, window: windows[names.index], heads: heads[names.index]),
      experts.mlp(names))
  }
}

extension ConfigReader {
  /// Whether `gating` means a gate for each head, and not for each number.
  fileprivate mutating func gatesHeads() throws(ConfigError) -> Bool {
    if isText("gating") {
      return try choice("gating", of: ["per-head": true, "per-element": false])
    }
    try require("gating", toBe: true)
    return true
  }
}

/// Experts beside a shared one, and dense layers.
private struct LagunaExperts {
  private let decoder: DecoderReader
  private let denseSize: Int
  private let size: Int
  private let sharedSize: Int
  private let count: Int
  private let perToken: Int
  private let scalingFactor: Float
  private let logitCap: Float?
  private let isSparse: [Bool]

  init(_ config: inout ConfigReader, _ decoder: DecoderReader) throws(ConfigError) {
    self.decoder = decoder
    denseSize = try config.int("intermediate_size")
    size = try config.int("moe_intermediate_size")
    sharedSize = try config.int("shared_expert_intermediate_size")
    count = try config.int("num_experts", "num_local_experts")
    perToken = try config.int("num_experts_per_tok")
    try config.checkChoice(of: perToken, from: count)
    scalingFactor = Float(try config.positive("moe_routed_scaling_factor", default: 1))
    let cap = try config.nonNegativeIfPresent("moe_router_logit_softcapping") ?? 0
    logitCap = cap == 0 ? nil : Float(cap)
    try config.require("moe_apply_router_weight_on_input", toBe: false)
    try config.require("norm_topk_prob", toBe: true)
    // Sinks, which transformers does not know.
    try config.require("swa_attention_sink_enabled", toBe: false)
    isSparse =
      try config.choices(
        "mlp_layer_types", count: decoder.layerCount, of: ["dense": false, "sparse": true])
      ?? (0..<decoder.layerCount).map { $0 > 0 }
  }

  func mlp(_ names: LayerNames) -> MLPSpec {
    if !isSparse[names.index] { return MLPSpec(dense: names.mlp("mlp", denseSize)) }
    return MLPSpec(
      router: RouterSpec(
        linear: names.linear("mlp.gate", decoder.hidden, count), scoring: .sigmoid,
        correctionBias: names.name("mlp.experts.e_score_correction_bias"),
        expertsPerToken: perToken, normalizes: true, scalingFactor: scalingFactor,
        logitCap: logitCap),
      alwaysOn: [names.mlp("mlp.shared_expert", sharedSize)],
      routed: (0..<count).map { names.mlp("mlp.experts.\($0)", size) })
  }
}
