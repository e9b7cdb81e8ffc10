// Gated delta nets as config.json spells them.

internal import JSON
internal import Transformer

/// A gated delta net in `linear_attn`.
struct DeltaNetReader {
  private let decoder: DecoderReader
  private let keyHeads: Int
  private let valueHeads: Int
  private let keyDimension: Int
  private let valueDimension: Int
  private let taps: Int
  /// Which layers are delta nets.
  let isDelta: [Bool]
  /// Whether projections are stored key head by key head, all in one.
  private let isByKeyHead: Bool

  /// Source: transformers `Qwen3NextConfig`.
  init(
    _ config: inout ConfigReader, _ decoder: DecoderReader, isByKeyHead: Bool
  ) throws(ConfigError) {
    self.decoder = decoder
    self.isByKeyHead = isByKeyHead
    keyHeads = try config.int("linear_num_key_heads", default: 16)
    valueHeads = try config.int("linear_num_value_heads", default: 32)
    keyDimension = try config.int("linear_key_head_dim", default: 128)
    valueDimension = try config.int("linear_value_head_dim", default: 128)
    taps = try config.int("linear_conv_kernel_dim", default: 4)
    if valueHeads % keyHeads != 0 {
      throw config.implausible(
        "linear_num_value_heads", expected: "a multiple of \(keyHeads) key heads",
        found: "\(valueHeads)")
    }
    let interval = try config.int("full_attention_interval", default: 4)
    isDelta =
      try config.choices(
        "layer_types", count: decoder.layerCount,
        of: ["linear_attention": true, "full_attention": false])
      ?? (0..<decoder.layerCount).map { ($0 + 1) % interval != 0 }
  }

  func deltaNet(_ names: LayerNames) -> SequenceMixer {
    let (keys, values) = (keyHeads * keyDimension, valueHeads * valueDimension)
    func projection(_ name: String, _ outputs: Int) -> LinearSpec {
      names.linear("linear_attn.in_proj_\(name)", decoder.hidden, outputs)
    }
    let input: DeltaNetSpec.Input =
      isByKeyHead
      ? .byKeyHead(
        mixed: projection("qkvz", 2 * (keys + values)), steps: projection("ba", 2 * valueHeads))
      : .byKind(
        mixed: projection("qkv", 2 * keys + values), gates: projection("z", values),
        strengths: projection("b", valueHeads), decays: projection("a", valueHeads))
    return .deltaNet(
      DeltaNetSpec(
        input: input, output: names.linear("linear_attn.out_proj", values, decoder.hidden),
        // Stored as it is, other than the norms around it.
        norm: NormSpec(
          names.name("linear_attn.norm"), size: valueDimension, epsilon: decoder.epsilon),
        keyHeads: keyHeads, valueHeads: valueHeads, keyDimension: keyDimension,
        valueDimension: valueDimension,
        convolution: CausalConvolution(
          weight: names.name(ParameterName.weight(of: "linear_attn.conv1d")),
          channels: 2 * keys + values, taps: taps),
        decayRate: names.name("linear_attn.A_log"), decayBias: names.name("linear_attn.dt_bias")))
  }
}
