// Cohere2ForCausalLM: Command R7B, Command A; and CohereForCausalLM: Command R, Aya.
//
// Source: transformers 5.17 modeling_cohere2.py, modeling_cohere.py and their configurations; config.json of
// CohereLabs/c4ai-command-r7b-12-2024. vLLM 0.33 lets a token see one more than transformers does where there is a window.

internal import JSON
internal import Transformer

func cohere2(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(cohere: &config)
  let attention = try GroupedQueryReader(cohere: &config, decoder)
  let windows = try WindowReader(&config, layers: decoder.layerCount, period: 4).windows
  let size = try config.int("intermediate_size")
  let scale = try config.positive("logit_scale", default: 0.0625)
  // What it is in all published models.
  try config.require("order_of_interleaved_layers", toBe: "local_attn_first")
  config.ignore("layer_switch", "use_embedding_sharing", "use_parallel_embedding")
  var model = decoder.model { names in
    let window = windows[names.index]
    return names.parallelLayer(
      attention.attention(names, window: window, turns: window != nil),
      MLPSpec(dense: names.mlp("mlp", size)))
  }
  model.logitScale = Float(scale)
  return model
}

func cohere(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let decoder = try DecoderReader(cohere: &config)
  let attention = try GroupedQueryReader(cohere: &config, decoder)
  // Norms of heads, which Command R+ has.
  try config.require("use_qk_norm", toBe: false)
  let size = try config.int("intermediate_size")
  let scale = try config.positive("logit_scale", default: 0.0625)
  var model = decoder.model { names in
    names.parallelLayer(attention.attention(names), MLPSpec(dense: names.mlp("mlp", size)))
  }
  model.logitScale = Float(scale)
  return model
}

extension DecoderReader {
  /// Norms around the mean, without biases, and one matrix for embedding and head.
  ///
  /// - Parameter epsilon: the key of theirs.
  init(cohere config: inout ConfigReader, epsilon: String = "layer_norm_eps") throws(ConfigError) {
    try config.require("position_embedding_type", toBe: "rope_gptj")
    for key in ["use_gated_activation", "use_parallel_block"] {
      try config.require(key, toBe: true)
    }
    try self.init(&config, isTied: true, spelling: Spelling(epsilon: [epsilon]))
    normKind = .deviation(hasBias: false)
  }
}

extension GroupedQueryReader {
  /// Heads whose neighbours turn together.
  init(
    cohere config: inout ConfigReader, _ decoder: DecoderReader, headDimension: Int? = nil
  ) throws(ConfigError) {
    try self.init(
      &config, decoder, keyValueHeads: decoder.heads, headDimension: headDimension,
      RotaryReader(&config, theta: 10_000), order: .pairs)
    try readBiases(&config)
  }
}

extension WindowReader {
  /// As Cohere's models spell it: the last layer of each period sees all tokens.
  ///
  /// - Parameters:
  ///   - period: where nothing is said.
  ///   - first: layers before it are counted by themselves, with a period of their own.
  init(
    _ config: inout ConfigReader, layers: Int, period fallback: Int,
    behind first: (layers: Int, period: Int) = (0, 1)
  ) throws(ConfigError) {
    let period = try config.int("sliding_window_pattern", default: fallback)
    try self.init(&config, layers: layers) { layer in
      layer < first.layers
        ? (layer + 1) % first.period != 0 : (layer - first.layers + 1) % period != 0
    }
  }
}
