// What decoders in Llama's layout share: sizes, names of tensors, and the layers made of them.

internal import JSON
internal import Transformer

/// The sizes that every such config.json has.
struct DecoderReader {
  let hidden: Int
  let layerCount: Int
  let heads: Int
  let epsilon: Float
  private let vocabulary: Int
  private let tied: Bool

  init(_ config: inout ConfigReader) throws(ConfigError) {
    hidden = try config.int("hidden_size")
    heads = try config.int("num_attention_heads")
    epsilon = Float(try config.positive("rms_norm_eps"))
    vocabulary = try config.int("vocab_size")
    layerCount = try config.int("num_hidden_layers")
    tied = try config.bool("tie_word_embeddings", default: false)
    try config.require("hidden_act", toBe: "silu")
  }

  /// - Parameter predictionLayers: multi-token-prediction layers behind the decoder's own, there or not.
  func model(predictionLayers: Int = 0, _ layer: (LayerNames) -> LayerSpec) -> ModelSpec {
    ModelSpec(
      vocabularySize: vocabulary, hiddenSize: hidden, embedding: "model.embed_tokens.weight",
      layers: (0..<layerCount).map { layer(LayerNames(self, index: $0)) },
      finalNorm: NormSpec("model.norm", size: hidden, epsilon: epsilon),
      head: LinearSpec(
        tied ? "model.embed_tokens" : "lm_head", inputs: hidden, outputs: vocabulary),
      passedThrough: (0..<predictionLayers).map { "model.layers.\(layerCount + $0)." })
  }
}

/// The tensors of one layer, by their names behind `model.layers.<index>.`.
struct LayerNames {
  let index: Int
  private let decoder: DecoderReader
  private let prefix: String

  init(_ decoder: DecoderReader, index: Int) {
    self.decoder = decoder
    self.index = index
    prefix = "model.layers.\(index)."
  }

  func name(_ name: String) -> String { prefix + name }

  func norm(_ name: String, _ size: Int, epsilon: Float? = nil) -> NormSpec {
    NormSpec(prefix + name, size: size, epsilon: epsilon ?? decoder.epsilon)
  }

  func linear(_ name: String, _ inputs: Int, _ outputs: Int, bias: Bool = false) -> LinearSpec {
    LinearSpec(prefix + name, inputs: inputs, outputs: outputs, hasBias: bias)
  }

  /// - Parameters:
  ///   - name: of the module.
  ///   - size: F.
  ///   - projections: names of gate, up and down.
  ///   - outputGate: the name of a Linear with one output.
  func mlp(
    _ name: String, _ size: Int, bias: Bool = false,
    projections: (gate: String, up: String, down: String) = ("gate_proj", "up_proj", "down_proj"),
    outputGate: String? = nil
  ) -> GatedMLPSpec {
    let hidden = decoder.hidden
    return GatedMLPSpec(
      gate: linear("\(name).\(projections.gate)", hidden, size, bias: bias),
      up: linear("\(name).\(projections.up)", hidden, size, bias: bias),
      down: linear("\(name).\(projections.down)", size, hidden, bias: bias),
      outputGate: outputGate.map { linear($0, hidden, 1) })
  }

  func layer(_ attention: AttentionSpec, _ mlp: MLPSpec) -> LayerSpec {
    LayerSpec(
      index: index, inputNorm: norm("input_layernorm", decoder.hidden), attention: attention,
      postAttentionNorm: norm("post_attention_layernorm", decoder.hidden), mlp: mlp)
  }
}

/// Grouped-query attention in `self_attn`.
struct GroupedQueryReader {
  /// Of query, key and value.
  var bias = false
  var outputBias = false
  var normsHeads = false
  private let decoder: DecoderReader
  private let keyValueHeads: Int
  private let headDimension: Int
  private let rotary: RotarySpec

  /// - Parameters:
  ///   - keyValueHeads: where nothing is said.
  ///   - headDimension: where nothing is said; hidden size over heads where that is nil.
  ///   - rotary: of the whole head, or the share that the file names.
  ///   - share: of a head that is rotated where nothing is said.
  init(
    _ config: inout ConfigReader, _ decoder: DecoderReader, keyValueHeads assumed: Int? = nil,
    headDimension fallback: Int? = nil, _ rotary: RotaryReader, share: Double = 1
  ) throws(ConfigError) {
    self.decoder = decoder
    keyValueHeads = try config.int("num_key_value_heads", default: assumed)
    if decoder.heads % keyValueHeads != 0 {
      throw config.unsupported(
        "num_key_value_heads", expected: "a divisor of \(decoder.heads) attention heads",
        found: "\(keyValueHeads)")
    }
    headDimension = try config.int("head_dim", default: fallback ?? decoder.hidden / decoder.heads)
    self.rotary = try rotary.spec(config, headDimension: headDimension, share: share)
  }

  func attention(_ names: LayerNames, window: Int? = nil) -> AttentionSpec {
    let (own, shared) = (decoder.heads * headDimension, keyValueHeads * headDimension)
    func projection(_ name: String, _ outputs: Int) -> LinearSpec {
      names.linear("self_attn.\(name)", decoder.hidden, outputs, bias: bias)
    }
    return .groupedQuery(
      GroupedQuerySpec(
        query: projection("q_proj", own), key: projection("k_proj", shared),
        value: projection("v_proj", shared),
        output: names.linear("self_attn.o_proj", own, decoder.hidden, bias: outputBias),
        queryNorm: normsHeads ? names.norm("self_attn.q_norm", headDimension) : nil,
        keyNorm: normsHeads ? names.norm("self_attn.k_norm", headDimension) : nil,
        heads: decoder.heads, keyValueHeads: keyValueHeads, headDimension: headDimension,
        rotary: rotary, window: window))
  }
}

/// How many tokens each layer sees, as Qwen's models spell it.
struct WindowReader {
  /// By layer; nil for all.
  let windows: [Int?]

  /// Source: transformers `Qwen2Config`, `Qwen2MoeConfig`.
  ///
  /// - Parameter slides: whether a layer slides where `layer_types` is not there; with `max_window_layers`.
  init(
    _ config: inout ConfigReader, layers: Int, slides: (_ layer: Int, _ limit: Int) -> Bool
  ) throws(ConfigError) {
    let isUsed = try config.bool("use_sliding_window", default: false)
    let window = try config.intIfPresent("sliding_window")
    let limit = try config.int("max_window_layers", atLeast: 0, default: 28)
    let listed = try config.choices(
      "layer_types", count: layers, of: ["full_attention": false, "sliding_attention": true])
    let slide = listed ?? (0..<layers).map { isUsed && slides($0, limit) }
    guard slide.contains(true) else {
      windows = Array(repeating: nil, count: layers)
      return
    }
    guard isUsed, let window else {
      throw config.unsupported(
        isUsed ? "sliding_window" : "use_sliding_window",
        expected: isUsed ? "a number of tokens" : "true where `layer_types` has sliding_attention",
        found: isUsed ? "null" : "false")
    }
    windows = slide.map { $0 ? window : nil }
  }
}

extension ConfigReader {
  /// Refuses a choice of experts that cannot be made.
  func checkChoice(
    of perToken: Int, from experts: Int, groups: Int = 1, chosenGroups: Int = 1,
    atLeastInGroup least: Int = 1
  ) throws(ConfigError) {
    guard experts % groups == 0, experts / groups >= least, chosenGroups <= groups,
      perToken <= chosenGroups * (experts / groups)
    else {
      throw unsupported(
        "num_experts_per_tok",
        expected: groups == 1
          ? "a choice of \(experts) experts"
          : "a choice that \(chosenGroups) of \(groups) groups of \(experts) experts allow",
        found: "\(perToken)")
    }
  }
}
