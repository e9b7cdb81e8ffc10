// Kimi delta attention as Kimi's models spell it.

internal import JSON
internal import Transformer

/// Kimi delta attention in `self_attn`.
struct ChannelDeltaNetReader {
  private let decoder: DecoderReader
  private let heads: Int
  private let headDimension: Int
  private let taps: Int
  /// Whether gates are made at once, without a narrow latent. vLLM 0.33 then loads all that reads the mixer's input as one
  /// (`in_proj_qkvgfab` in kda.py of its kimi_k3), whose outputs it pads as plain weights where devices share them, and
  /// its kernels for packed weights do not take their number where they do not.
  private var gatesAtOnce = false
  /// The logarithm of what is kept of a channel where most is forgotten.
  private var leastDecay: Float?
  /// Of the tensor that says how fast each head forgets.
  private let rates: [Int]
  /// Which layers are delta nets.
  let isDelta: [Bool]

  /// - Parameter isNewer: whether gates may be made at once and decays bounded, as in Kimi-K3. It is published with as many
  ///   rates as a head has channels, and those behind the last head mean nothing.
  init(
    _ config: inout ConfigReader, _ decoder: DecoderReader, isNewer: Bool = false
  ) throws(ConfigError) {
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
      if isNewer {
        gatesAtOnce = try nested.bool("use_full_rank_gate", default: false)
        leastDecay = try nested.negativeIfPresent("gate_lower_bound")
      }
      try config.finish(nested)
    }
    (heads, headDimension, taps) = sizes
    rates = isNewer ? [max(heads, headDimension)] : [1, 1, heads, 1]
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
        gate: gatesAtOnce ? .direct(linear("g", hidden, width)) : narrow("g"),
        output: linear("o", width, hidden), norm: names.norm("self_attn.o_norm", headDimension),
        heads: heads, headDimension: headDimension,
        decayRate: VectorSpec(name("A_log"), shape: rates), decayBias: name("dt_bias"),
        leastDecay: leastDecay, keepsReaders: gatesAtOnce))
  }
}
