// JambaForCausalLM: Jamba 1.5 Mini, Large, 1.6, 1.7.
//
// Source: transformers 5.17 modeling_jamba.py and configuration_jamba.py; config.json of ai21labs/AI21-Jamba-Mini-1.5.

internal import JSON
internal import Transformer

func jamba(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  try config.require("hidden_act", toBe: "silu")
  let decoder = try DecoderReader(
    &config, activation: .silu, normOffset: 0, isTied: false,
    spelling: DecoderReader.Spelling(finalNorm: "final_layernorm"))
  let attention = try GroupedQueryReader(&config, decoder, keyValueHeads: 8, nil)
  let isAttention = try turns(&config, "attn_layer", decoder.layerCount, period: 8, offset: 4)
  let isSparse = try turns(&config, "expert_layer", decoder.layerCount, period: 2, offset: 1)
  // What follows from them.
  config.ignore("layers_block_type", "layers_num_experts", "layer_types")
  // Older names of what is always so, and of kernels.
  try config.require("mamba_inner_layernorms", toBe: true)
  config.ignore(
    "num_logits_to_keep", "use_associative_scan", "use_mamba_kernels", "use_mambapy")
  let selective = try JambaSelectiveReader(&config, decoder)
  let size = try config.int("intermediate_size")
  let experts = try config.int("num_experts", "num_local_experts", default: 16)
  let perToken = try config.int("num_experts_per_tok", default: 2)
  try config.checkChoice(of: perToken, from: experts)
  return decoder.model { names in
    let mlp =
      isSparse[names.index] && experts > 1
      ? MLPSpec(
        router: RouterSpec(
          linear: names.linear("feed_forward.router", decoder.hidden, experts),
          scoring: .softmax, expertsPerToken: perToken, normalizes: false),
        alwaysOn: [],
        routed: (0..<experts).map { names.mlp("feed_forward.experts.\($0)", size) })
      : MLPSpec(dense: names.mlp("feed_forward", size))
    return names.layer(
      isAttention[names.index] ? attention.attention(names) : selective.mixer(names), mlp,
      norms: ("input_layernorm", "pre_ff_layernorm"))
  }
}

/// Which layers are of a kind that comes back after a period.
private func turns(
  _ config: inout ConfigReader, _ key: String, _ count: Int, period: Int, offset: Int
) throws(ConfigError) -> [Bool] {
  let period = try config.int("\(key)_period", default: period)
  let offset = try config.int("\(key)_offset", atLeast: 0, default: offset)
  if offset >= period {
    throw config.implausible(
      "\(key)_offset", expected: "less than `\(key)_period`, \(period),", found: "\(offset)")
  }
  return (0..<count).map { $0 % period == offset }
}

private struct JambaSelectiveReader {
  private let decoder: DecoderReader
  private let channels: Int
  private let stateSize: Int
  private let taps: Int
  private let rank: Int
  private let bias: Bool
  private let convolutionHasBias: Bool

  init(_ config: inout ConfigReader, _ decoder: DecoderReader) throws(ConfigError) {
    self.decoder = decoder
    channels = try config.int("mamba_expand", default: 2) * decoder.hidden
    stateSize = try config.int("mamba_d_state", default: 16)
    taps = try config.int("mamba_d_conv", default: 4)
    let derived = (decoder.hidden + 15) / 16
    // `auto`.
    if config.isText("mamba_dt_rank") {
      try config.require("mamba_dt_rank", toBe: "auto")
      rank = derived
    } else {
      rank = try config.int("mamba_dt_rank", default: derived)
    }
    bias = try config.bool("mamba_proj_bias", default: false)
    convolutionHasBias = try config.bool("mamba_conv_bias", default: true)
  }

  func mixer(_ names: LayerNames) -> SequenceMixer {
    func name(_ part: String) -> String { names.name("mamba.\(part)") }
    func linear(_ part: String, _ inputs: Int, _ outputs: Int, bias: Bool) -> LinearSpec {
      names.linear("mamba.\(part)_proj", inputs, outputs, bias: bias)
    }
    func norm(_ part: String, _ size: Int) -> NormSpec {
      names.norm("mamba.\(part)_layernorm", size)
    }
    return .selective(
      SelectiveSpec(
        input: linear("in", decoder.hidden, 2 * channels, bias: bias),
        convolution: CausalConvolution(
          weight: ParameterName.weight(of: name("conv1d")),
          bias: convolutionHasBias ? ParameterName.bias(of: name("conv1d")) : nil,
          channels: channels, taps: taps),
        selection: linear("x", channels, rank + 2 * stateSize, bias: false),
        step: linear("dt", rank, channels, bias: true),
        output: linear("out", channels, decoder.hidden, bias: bias), stepNorm: norm("dt", rank),
        keyNorm: norm("b", stateSize), queryNorm: norm("c", stateSize), stateSize: stateSize,
        decayRate: name("A_log"), skip: name("D")))
  }
}
