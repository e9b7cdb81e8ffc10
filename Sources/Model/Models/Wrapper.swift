// Classes around a text model: where its keys and its tensors are, and what lies beside it.

package import JSON

/// What the names of a text model's tensors begin with.
package struct ModelNames: Sendable, Equatable {
  /// Of all but the head's.
  package let model: String
  package let head: String

  package init(model: String, head: String) {
    self.model = model
    self.head = head
  }

  /// Of a text model that is a class by itself.
  package static let plain = ModelNames(model: "model.", head: "lm_head")

  /// What the names of a layer's tensors begin with.
  package func layer(_ index: Int) -> String { "\(model)layers.\(index)." }
}

/// A class that holds a text model beside towers for images and sounds and what joins them. Texts pass through the text
/// model alone; whatever lies beside it is copied.
struct Wrapper: Sendable {
  /// The keys of config.json that lead to the text model's, from the outside in.
  let path: [String]
  /// What `model_type` may be there.
  let texts: Set<String>
  let names: ModelNames
  /// What the names of tensors beside the text model begin with.
  let beside: [String]
  /// Keys of config.json that are read beside the text model, at any depth of `path`.
  let keys: Set<String>

  init(
    path: [String] = ["text_config"], texts: Set<String>, names: ModelNames, beside: [String],
    keys: Set<String>
  ) {
    self.path = path
    self.texts = texts
    self.names = names
    self.beside = beside
    self.keys = keys
  }

  /// Describes the text model of a whole file.
  func describe(
    _ config: inout ConfigReader,
    as text: (inout ConfigReader) throws(ConfigError) -> ModelSpec
  ) throws(ConfigError) -> ModelSpec {
    var spec = try describe(&config, path[...], as: text)
    spec.beside += beside
    return spec
  }

  private func describe(
    _ config: inout ConfigReader, _ path: ArraySlice<String>,
    as text: (inout ConfigReader) throws(ConfigError) -> ModelSpec
  ) throws(ConfigError) -> ModelSpec {
    guard let key = path.first else {
      _ = try config.choice(
        "model_type", of: Dictionary(uniqueKeysWithValues: texts.map { ($0, $0) }))
      config.names = names
      return try text(&config)
    }
    config.ignore(keys)
    guard var inner = try config.object(key) else { throw config.missing(key) }
    // transformers asks the outermost file that says anything; a text model in a wrapper has a default of its own.
    config.hand("tie_word_embeddings", to: &inner)
    let spec = try describe(&inner, path.dropFirst(), as: text)
    try config.finish(inner)
    return spec
  }
}

extension JSONObject {
  /// The value at the end of some keys, each in the object of the one before.
  package subscript(path: [String]) -> JSONValue? {
    get {
      guard let key = path.first else { return .object(self) }
      return path.count == 1 ? self[key] : self[key]?.object?[Array(path.dropFirst())]
    }
    set {
      guard let key = path.first else { return }
      if path.count == 1 { return self[key] = newValue }
      guard var inner = self[key]?.object else { return }
      inner[Array(path.dropFirst())] = newValue
      self[key] = .object(inner)
    }
  }
}

// MARK: The wrappers that are known

extension Wrapper {
  /// Source: config.json and names of Qwen/Qwen3-VL-235B-A22B-Instruct; transformers 5.17, `Qwen3VLModel`. In texts alone
  /// the three positions of a token are one, and deep features of images are not there.
  static func qwen3VL(_ text: String) -> Wrapper {
    Wrapper(
      texts: [text], names: ModelNames(model: "model.language_model.", head: "lm_head"),
      beside: ["model.visual."], keys: ["vision_config"])
  }

  /// Source: config.json and names of Qwen/Qwen3-Omni-30B-A3B-Instruct.
  static let qwen3Omni = Wrapper(
    path: ["thinker_config", "text_config"], texts: ["qwen3_omni_moe_text"],
    names: ModelNames(model: "thinker.model.", head: "thinker.lm_head"),
    beside: ["thinker.visual.", "thinker.audio_tower.", "talker.", "code2wav."],
    keys: [
      "audio_config", "code2wav_config", "enable_audio_output", "position_id_per_seconds",
      "seconds_per_chunk", "spatial_merge_size", "talker_config", "user_token_id", "vision_config",
    ])

  /// Source: config.json of meta-llama/Llama-4-Scout-17B-16E-Instruct; names as transformers 5.17,
  /// `Llama4ForConditionalGeneration`, has them.
  static let llama4 = Wrapper(
    texts: ["llama4_text"],
    names: ModelNames(model: "language_model.model.", head: "language_model.lm_head"),
    beside: ["vision_model.", "multi_modal_projector."],
    keys: ["boi_token_index", "eoi_token_index", "image_token_index", "vision_config"])

  /// Source: config.json of google/gemma-4-26B-A4B; names as transformers 5.17, `Gemma4Model`, has them.
  static let gemma4 = Wrapper(
    texts: ["gemma4_text"],
    names: ModelNames(model: "model.language_model.", head: "lm_head"),
    beside: [
      "model.vision_tower.", "model.embed_vision.", "model.audio_tower.", "model.embed_audio.",
    ],
    keys: ["audio_config", "eoa_token_index", "vision_config", "vision_soft_tokens_per_image"])

  /// Source: config.json and names of zai-org/GLM-4.5V; transformers 5.17, `Glm4vMoeModel`.
  static let glm4v = Wrapper(
    texts: ["glm4v_moe_text"],
    names: ModelNames(model: "model.language_model.", head: "lm_head"),
    beside: ["model.visual."], keys: ["vision_config"])

  /// Source: config.json of moonshotai/Kimi-K2.5; names as vLLM 0.33, `KimiK25ForConditionalGeneration`, loads them.
  static let kimiK25 = Wrapper(
    texts: ["kimi_k2", "deepseek_v3"],
    names: ModelNames(model: "language_model.model.", head: "language_model.lm_head"),
    beside: ["vision_tower.", "mm_projector."],
    keys: [
      "ignore_index", "projection_hidden_size", "projection_layer_norm_eps",
      "use_unified_vision_chunk", "video_placeholder", "vision_config",
    ])

  /// Source: config.json of moonshotai/Kimi-K3; names as vLLM loads them.
  static let kimiK3 = Wrapper(
    texts: ["kimi_linear"],
    names: ModelNames(model: "language_model.model.", head: "language_model.lm_head"),
    beside: ["vision_tower.", "mm_projector."],
    keys: ["ignore_index", "image_placeholder", "vision_config"])

  /// Source: transformers 5.17, `MiniMaxM3VLConfig` and conversion_mapping.py; names as vLLM 0.33,
  /// `MiniMaxM3SparseForConditionalGeneration`, loads them.
  static let miniMaxM3 = Wrapper(
    texts: ["minimax_m3_vl_text", "minimax_m3"],
    names: ModelNames(model: "language_model.model.", head: "language_model.lm_head"),
    beside: ["vision_tower.", "multi_modal_projector.", "patch_merge_mlp."],
    keys: [
      "image_token_index", "merged_hidden_size", "projector_hidden_size", "video_token_index",
      "vision_config",
    ])

  /// Source: transformers 5.17, `Step3p7Config` and conversion_mapping.py, whose names are those that are published.
  static let step3p7 = Wrapper(
    texts: ["step3p5"], names: .plain, beside: ["vision_model.", "vit_large_projector."],
    keys: [
      "image_token_len", "patch_token_len", "projector_bias", "understand_projector_stride",
      "vision_config", "vision_select_layer",
    ])

  /// Source: config.json and names of mistralai/Mistral-Small-3.1-24B-Instruct-2503.
  static let mistral3 = Wrapper(
    texts: ["mistral"],
    names: ModelNames(model: "language_model.model.", head: "language_model.lm_head"),
    beside: ["vision_tower.", "multi_modal_projector."],
    keys: [
      "image_token_index", "multimodal_projector_bias", "projector_hidden_act",
      "spatial_merge_size", "vision_config", "vision_feature_layer",
    ])
}
