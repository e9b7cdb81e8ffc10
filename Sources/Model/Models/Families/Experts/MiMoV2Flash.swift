// MiMoV2FlashForCausalLM: MiMo-V2-Flash.
//
// Source: transformers 5.17 modeling_mimo_v2_flash.py and configuration_mimo_v2_flash.py; config.json of
// XiaomiMiMo/MiMo-V2-Flash, whose keys vLLM 0.33 (mimo_v2.py) reads.

internal import JSON
internal import Transformer

func miMoV2Flash(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(
    &config,
    spelling: DecoderReader.Spelling(epsilon: ["layernorm_epsilon", "rms_norm_eps"]))
  let attention = try MiMoV2Attention(&config, decoder)
  let choice = try SharedExpertsReader.Choice.corrected(&config)
  let sparse = try config.eachLayer(
    decoder.layerCount, "mlp_layer_types", of: ["dense": false, "sparse": true],
    or: "moe_layer_freq"
  ) { $0 > 0 }
  let experts = try SharedExpertsReader(
    &config, layers: decoder.layerCount, choice, sparse: sparse,
    spelling: SharedExpertsReader.Spelling(shared: []))
  var model = decoder.model { names in
    names.layer(attention.mixer(names), experts.mlp(names, hidden: decoder.hidden))
  }
  model.beside = ["model.mtp."]
  return model
}

/// Layers with a window, which have sinks and more keys and values, among those that see all tokens.
private struct MiMoV2Attention {
  private let local: GroupedQueryReader
  private let whole: GroupedQueryReader
  private let windows: [Int?]

  init(_ config: inout ConfigReader, _ decoder: DecoderReader) throws(ConfigError) {
    let rotary = try RotaryReader.byLayerType(
      &config, theta: 5_000_000, localKey: "swa_rope_theta", isPartial: true)
    let shared = try config.int("num_key_value_heads", default: 4)
    let width = try config.int("head_dim", default: 192)
    let valueWidth = try config.int("v_head_dim", default: 128)
    // transformers knows no others.
    for (key, value) in [
      ("swa_num_attention_heads", decoder.heads), ("swa_num_key_value_heads", 2 * shared),
      ("swa_head_dim", width), ("swa_v_head_dim", valueWidth),
    ] {
      try config.require(key, toBe: .number(JSONNumber(value)))
    }
    try config.require("add_swa_attention_sink_bias", toBe: true)
    try config.require("add_full_attention_sink_bias", toBe: false)
    let bias = try config.bool("attention_bias", default: false)
    // Null means that values stay as they are.
    let scale =
      config.names("attention_value_scale")
      ? try config.positiveIfPresent("attention_value_scale") ?? 1 : 0.707
    func reader(_ heads: Int, _ rotary: RotaryReader) throws(ConfigError) -> GroupedQueryReader {
      var reader = try GroupedQueryReader(
        config, decoder, keyValueHeads: heads, headDimension: width, rotary, share: 0.334)
      reader.bias = bias
      reader.valueDimension = valueWidth
      reader.valueScale = Float(scale)
      return reader
    }
    whole = try reader(shared, rotary.whole)
    var local = try reader(2 * shared, rotary.local)
    local.sinks = "attention_sink_bias"
    self.local = local
    // The size of windows under other names; nothing is cut into chunks.
    let window = try config.int("sliding_window", "sliding_window_size", default: 128)
    config.ignore("attention_chunk_size")
    windows = try config.eachLayer(
      decoder.layerCount, "layer_types",
      of: ["full_attention": false, "sliding_attention": true], or: "hybrid_layer_pattern"
    ) { $0 > 0 && ($0 + 1) % 6 != 0 }.map { $0 ? window : nil }
  }

  func mixer(_ names: LayerNames) -> SequenceMixer {
    let window = windows[names.index]
    return (window == nil ? whole : local).attention(names, window: window)
  }
}
