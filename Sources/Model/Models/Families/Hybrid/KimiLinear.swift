// KimiLinearForCausalLM: Kimi-Linear-48B-A3B.
//
// Source: transformers 5.17 modeling_kimi_linear.py and configuration_kimi_linear.py; config.json and names of
// moonshotai/Kimi-Linear-48B-A3B-Instruct, which vLLM 0.33 loads.

internal import JSON
internal import Transformer

func kimiLinear(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(&config)
  try config.require("mla_use_nope", toBe: true)
  // Nothing turns, whatever they say; heads have the widths below.
  config.ignore("rope_theta", "rope_scaling", "rope_parameters", "head_dim")
  let attention = try LatentReader(&config, decoder, interleaves: nil, turns: false)
  let deltaNets = try ChannelDeltaNetReader(&config, decoder)
  try config.require("moe_router_activation_func", toBe: "sigmoid")
  try config.require("use_grouped_topk", toBe: true)
  try config.require("topk_method", toBe: "noaux_tc")
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount,
    SharedExpertsReader.Choice(
      scoring: .sigmoid, groupScore: .sumOfTwoBest, hasCorrection: true,
      normalizes: try config.bool("moe_renormalize", "norm_topk_prob", default: true)),
    firstSparse: 1, assuming: SharedExpertsReader.Assumed(scalingFactor: 2.446), isListed: true,
    spelling: SharedExpertsReader.Spelling(
      experts: ["num_experts", "num_local_experts"],
      shared: ["num_shared_experts", "n_shared_experts"],
      perToken: ["num_experts_per_token", "num_experts_per_tok"],
      groups: ["num_expert_group", "n_group"], router: "block_sparse_moe.gate",
      correction: "block_sparse_moe.gate.e_score_correction_bias",
      sharedUnit: "block_sparse_moe.shared_experts", routedUnits: "block_sparse_moe.experts",
      projections: ("w1", "w3", "w2")))
  let predictionLayers = try config.predictionLayers()
  return decoder.model(predictionLayers: predictionLayers) { names in
    names.layer(
      deltaNets.isDelta[names.index] ? deltaNets.deltaNet(names) : attention.attention(names),
      experts.mlp(names, hidden: decoder.hidden))
  }
}

/// Kimi delta attention in `self_attn`.
private struct ChannelDeltaNetReader {
  private let decoder: DecoderReader
  private let heads: Int
  private let headDimension: Int
  private let taps: Int
  /// Which layers are delta nets.
  let isDelta: [Bool]

  init(_ config: inout ConfigReader, _ decoder: DecoderReader) throws(ConfigError) {
    self.decoder = decoder
    var sizes = (
      heads: try config.int("linear_num_heads", default: 32),
      width: try config.int("linear_head_dim", default: 128),
      taps: try config.int("linear_conv_kernel_dim", default: 4)
    )
    let count = decoder.layerCount
    let listed = try config.choices(
      "layer_types", count: count, of: ["linear_attention": true, "full_attention": false])
    // As transformers has it where nothing is said.
    var kinds = listed ?? (0..<count).map { $0 == 0 || $0 % 4 != 0 }
    if var nested = try config.object("linear_attn_config") {
      sizes = (
        try nested.int("num_heads", default: sizes.heads),
        try nested.int("head_dim", default: sizes.width),
        try nested.int("short_conv_kernel_size", default: sizes.taps)
      )
      kinds = try Self.kinds(&nested, count: count, listed: listed) ?? kinds
      try config.finish(nested)
    }
    (heads, headDimension, taps) = sizes
    isDelta = kinds
  }

  /// By the numbers of layers, which count from 1.
  private static func kinds(
    _ nested: inout ConfigReader, count: Int, listed: [Bool]?
  ) throws(ConfigError) -> [Bool]? {
    let delta = Set(try nested.ints("kda_layers"))
    let full = Set(try nested.ints("full_attn_layers"))
    if delta.isEmpty, full.isEmpty { return nil }
    guard delta.isDisjoint(with: full), delta.union(full) == Set(1...count) else {
      throw nested.implausible(
        "kda_layers", expected: "with `full_attn_layers` each of \(count) layers once",
        found: "other layers")
    }
    let numbered = (1...count).map(delta.contains)
    if let listed, listed != numbered {
      throw nested.implausible(
        "kda_layers", expected: "the layers of `layer_types`", found: "other layers")
    }
    return numbered
  }

  func deltaNet(_ names: LayerNames) -> SequenceMixer {
    let (hidden, width) = (decoder.hidden, heads * headDimension)
    func name(_ part: String) -> String { names.name("self_attn.\(part)") }
    /// - Parameter module: what transformers has around it, where config.json is asked for it by that name.
    func linear(
      _ part: String, _ inputs: Int, _ outputs: Int, in module: String? = nil
    ) -> LinearSpec {
      names.linear(
        "self_attn.\(part)_proj", inputs, outputs,
        servedAs: module.map { ["self_attn.\($0).\(part)_proj"] } ?? [])
    }
    func projection(_ part: String) -> ChannelDeltaNetSpec.Projection {
      ChannelDeltaNetSpec.Projection(
        linear: linear(part, hidden, width),
        convolution: CausalConvolution(
          weight: ParameterName.weight(of: name("\(part)_conv1d")), channels: width, taps: taps))
    }
    func narrow(_ part: String, in module: String? = nil) -> ChannelDeltaNetSpec.Way {
      .narrow(
        down: linear("\(part)_a", hidden, headDimension, in: module),
        up: linear("\(part)_b", headDimension, width, in: module))
    }
    return .channelDeltaNet(
      ChannelDeltaNetSpec(
        query: projection("q"), key: projection("k"), value: projection("v"),
        strength: linear("b", hidden, heads), decay: narrow("f", in: "forget_gate"),
        gate: narrow("g"),
        output: linear("o", width, hidden), norm: names.norm("self_attn.o_norm", headDimension),
        heads: heads, headDimension: headDimension,
        decayRate: VectorSpec(name("A_log"), shape: [1, 1, heads, 1]),
        decayBias: name("dt_bias")))
  }
}
