// Step3p5ForCausalLM, the text model of Step3p7ForConditionalGeneration: Step-3.5-Flash and Step-3.7-Flash.
//
// Source: transformers 5.17 modeling_step3p7.py and configuration_step3p7.py, which know the published keys; names as vLLM
// 0.33 (step3p5.py) loads them one expert at a time.

internal import JSON
internal import Transformer

func step3p5(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(offsetNorms: &config)
  let predictionLayers = try config.predictionLayers()
  config.ignore("mtp_layer_types", "mtp_mlp_layer_types")
  let attention = try Step3p5Attention(&config, decoder, predictionLayers)
  let mlp = try Step3p5MLP(&config, decoder, predictionLayers)
  return decoder.model(predictionLayers: predictionLayers) { names in
    names.layer(attention.mixer(names), mlp.mlp(names))
  }
}

/// Layers with a window, which may have more heads, among those that see all tokens.
private struct Step3p5Attention {
  private var attention: GroupedQueryReader
  private let localHeads: Int
  private let windows: [Int?]

  init(
    _ config: inout ConfigReader, _ decoder: DecoderReader, _ further: Int
  ) throws(ConfigError) {
    let layers = decoder.layerCount
    let slides =
      try config.choices(
        "layer_types", count: layers, further: further,
        of: ["full_attention": false, "sliding_attention": true])
      ?? Array(repeating: false, count: layers)
    let window = try config.intIfPresent("sliding_window")
    if window == nil, slides.contains(true) { throw config.missing("sliding_window") }
    windows = slides.map { $0 ? window : nil }
    let rotary =
      config.hasObject("full_attention", in: "rope_parameters")
      ? try RotaryReader.byLayerType(&config, theta: 10_000, isPartial: true)
      : try RotaryReader.byLayer(&config, theta: 10_000, slides: slides, further: further)
    let shared = try config.int("num_key_value_heads", "num_attention_groups")
    let width = try config.int("head_dim", default: decoder.hidden / decoder.heads)
    attention = try GroupedQueryReader(
      config, decoder, keyValueHeads: shared, headDimension: width, rotary.whole)
    try attention.turnLocally(config, rotary.local)
    try attention.readBiases(&config)
    attention.norms = .ofEachHead
    attention.scale = Float(
      1 / (try config.positive("query_pre_attn_scalar", default: Double(width))).squareRoot())
    attention.gate = GroupedQueryReader.Gate(name: "g_proj", isByHead: true)
    localHeads = try Self.localHeads(&config, decoder.heads, shared, width)
    try attention.check([localHeads], key: "attention_other_setting", config)
    for key in ["use_qk_norm", "use_head_wise_attn_gate", "gating", "zero_centered"] {
      try config.require(key, toBe: true)
    }
    try config.require("att_impl_type", toBe: "GQA")
    try config.require("yarn_only_types", toBe: ["full_attention"])
    // Which layers turn: all of them.
    try config.require("use_rope_layers", toBe: [])
  }

  /// Heads of layers with a window.
  private static func localHeads(
    _ config: inout ConfigReader, _ heads: Int, _ shared: Int, _ width: Int
  ) throws(ConfigError) -> Int {
    let named = try config.intIfPresent("num_sliding_attention_heads")
    guard var other = try config.object("attention_other_setting") else { return named ?? heads }
    let count = try other.int("num_attention_heads", default: heads)
    try other.require("attention_type", toBe: "sliding_attention")
    try other.require("num_attention_groups", "num_key_value_heads", toBe: JSONValue(shared))
    try other.require("head_dim", toBe: JSONValue(width))
    try other.require("true_head_dim", toBe: JSONValue(width))
    try config.finish(other)
    return named ?? count
  }

  func mixer(_ names: LayerNames) -> SequenceMixer {
    let window = windows[names.index]
    return attention.attention(names, window: window, heads: window == nil ? nil : localHeads)
  }
}

extension JSONValue {
  fileprivate init(_ number: Int) { self = .number(JSONNumber(number)) }
}

/// Experts beside a shared one, and dense layers; the activations of some layers are clamped.
private struct Step3p5MLP {
  private let decoder: DecoderReader
  private let denseSize: Int
  private let size: Int
  private let sharedSize: Int
  private let count: Int
  private let perToken: Int
  private let scalingFactor: Float
  private let isSparse: [Bool]
  /// By layer; nothing is clamped at 0.
  private let limits: [Double]
  private let sharedLimits: [Double]
  private let bias: Bool

  init(
    _ config: inout ConfigReader, _ decoder: DecoderReader, _ further: Int
  ) throws(ConfigError) {
    self.decoder = decoder
    let layers = decoder.layerCount
    denseSize = try config.int("intermediate_size")
    size = try config.int("moe_intermediate_size")
    sharedSize = try config.int("share_expert_dim", "share_expert_dims")
    count = try config.int("n_routed_experts", "moe_num_experts", "num_local_experts")
    perToken = try config.int("num_experts_per_tok", "moe_top_k")
    try config.checkChoice(of: perToken, from: count)
    scalingFactor = Float(try config.positive("moe_router_scaling_factor", default: 1))
    bias = try config.bool("mlp_bias", default: false)
    for key in ["use_moe", "use_moe_router_bias", "norm_expert_weight"] {
      try config.require(key, toBe: true)
    }
    try config.require("moe_router_activation", toBe: "sigmoid")
    try config.require("moe_every_n_layer", toBe: 1)
    try config.require("moe_layer_offset", toBe: 0)
    config.ignore("need_fp32_gate")
    isSparse = try config.sparseLayers(layers, further)
    func limits(_ key: String) throws(ConfigError) -> [Double] {
      let found = try config.limits(key)
      guard found.isEmpty || [layers, layers + further].contains(found.count) else {
        throw config.implausible(
          key, expected: "a list of \(layers), one a layer,", found: "a list of \(found.count)")
      }
      return found.isEmpty ? Array(repeating: 0, count: layers) : found
    }
    self.limits = try limits("swiglu_limits")
    sharedLimits = try limits("swiglu_limits_shared")
  }

  func mlp(_ names: LayerNames) -> MLPSpec {
    func activation(_ limits: [Double]) -> Activation {
      let limit = limits[names.index]
      return limit == 0 ? .silu : .clampedSilu(limit: Float(limit))
    }
    func always(_ name: String, _ size: Int) -> UnitSpec {
      names.mlp(name, size, bias: bias, activation: activation(sharedLimits))
    }
    if !isSparse[names.index] { return MLPSpec(dense: always("mlp", denseSize)) }
    return MLPSpec(
      router: RouterSpec(
        linear: names.linear("moe.gate", decoder.hidden, count), scoring: .sigmoid,
        correctionBias: names.name("moe.router_bias"), expertsPerToken: perToken,
        normalizes: true, scalingFactor: scalingFactor),
      alwaysOn: [always("share_expert", sharedSize)],
      routed: (0..<count).map {
        names.mlp("moe.experts.\($0)", size, activation: activation(limits))
      })
  }
}

extension ConfigReader {
  /// Layers with experts: by `mlp_layer_types`, or by the numbers in `moe_layers_enum`, in a list or a text.
  fileprivate mutating func sparseLayers(
    _ layers: Int, _ further: Int
  ) throws(ConfigError) -> [Bool] {
    let listed = try choices(
      "mlp_layer_types", count: layers, further: further, of: ["dense": false, "sparse": true])
    var sparse = Set(3..<max(3, layers))
    if isText("moe_layers_enum") {
      let listing = try text("moe_layers_enum")
      // As transformers reads it: blanks around numbers, and nothing between commas, are as good.
      let pieces = listing.split(separator: ",").map { $0.split(whereSeparator: \.isWhitespace) }
        .filter { !$0.isEmpty }
      let numbers = pieces.compactMap { $0.count == 1 ? Int($0[0]) : nil }
      if numbers.count != pieces.count {
        throw implausible(
          "moe_layers_enum", expected: "a text of whole numbers between commas",
          found: "\"\(listing)\"")
      }
      sparse = Set(numbers)
    } else if hasList("moe_layers_enum") {
      sparse = Set(try ints("moe_layers_enum"))
    }
    return listed ?? (0..<layers).map(sparse.contains)
  }
}
