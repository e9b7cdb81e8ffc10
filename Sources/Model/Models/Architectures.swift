// Architecture name to description; the only list of models.

package import JSON

/// A class of models and its description.
package struct Architecture: Sendable {
  /// The class in transformers, as config.json names it.
  package let name: String
  /// Published models.
  package let models: String
  package let attention: String
  package let feedForward: String
  /// Set for a class around the text model that is described.
  let wrapper: Wrapper?
  private let text: @Sendable (inout ConfigReader) throws(ConfigError) -> ModelSpec

  init(
    name: String, models: String, attention: String, feedForward: String,
    in wrapper: Wrapper? = nil,
    describe: @escaping @Sendable (inout ConfigReader) throws(ConfigError) -> ModelSpec
  ) {
    self.name = name
    self.models = models
    self.attention = attention
    self.feedForward = feedForward
    self.wrapper = wrapper
    text = describe
  }

  func describe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
    guard let wrapper else { return try text(&config) }
    return try wrapper.describe(&config, as: text)
  }
}

package enum Architectures {
  package static let all = [
    Architecture(
      name: "AfmoeForCausalLM", models: "Trinity Nano, Mini, Large",
      attention: "grouped queries, norms of heads, gates, windows by layer, norm behind it",
      feedForward: "sigmoid router, shared experts, norm behind it",
      describe: afmoe),
    Architecture(
      name: "BailingMoeV2ForCausalLM", models: "Ling 2.0 and Ring 2.0 mini, flash, 1T",
      attention: "grouped queries, one Linear for queries, keys and values, norms of heads",
      feedForward: "sigmoid router in groups, shared experts", describe: bailingMoeV2),
    Architecture(
      name: "BailingMoeV3ForCausalLM", models: "Ling 3.0 Flash",
      attention: "delta nets with a decay for each channel; by layer latent, gates of heads",
      feedForward: "sigmoid router in groups, shared experts", describe: bailingMoeV3),
    Architecture(
      name: "Cohere2ForCausalLM", models: "Command R7B, Command A",
      attention: cohereAttention, feedForward: "dense, beside attention", describe: cohere2),
    Architecture(
      name: "Cohere2MoeForCausalLM", models: "Command A+",
      attention: cohereAttention,
      feedForward: "softmax or sigmoid router, shared experts, beside attention",
      describe: cohere2Moe),
    Architecture(
      name: "CohereForCausalLM", models: "Command R, Aya 23, Aya Expanse",
      attention: "grouped queries, norms around the mean", feedForward: "dense, beside attention",
      describe: cohere),
    Architecture(
      name: "DeepseekForCausalLM", models: "DeepSeek-MoE 16B", attention: "grouped queries",
      feedForward: "softmax router, shared experts", describe: deepseek),
    Architecture(
      name: "DeepseekV2ForCausalLM", models: "DeepSeek-V2, V2.5, Coder-V2",
      attention: "latent", feedForward: "softmax router in groups, shared experts",
      describe: deepseekV2),
    Architecture(
      name: "DeepseekV32ForCausalLM", models: "DeepSeek-V3.2",
      attention: "latent, up to 2048 tokens",
      feedForward: "sigmoid router in groups, shared experts",
      describe: deepseekV32),
    Architecture(
      name: "DeepseekV3ForCausalLM", models: "DeepSeek-V3, R1, Kimi K2, Moonlight",
      attention: "latent", feedForward: "sigmoid router in groups, shared experts",
      describe: deepseekV3),
    Architecture(
      name: "Dots1ForCausalLM", models: "dots.llm1",
      attention: "grouped queries, norms of heads, windows by layer",
      feedForward: "sigmoid router in groups, shared experts",
      describe: dots1),
    Architecture(
      name: "Ernie4_5_MoeForCausalLM", models: "ERNIE 4.5 21B-A3B, 300B-A47B",
      attention: "grouped queries",
      feedForward: "softmax router, shared experts",
      describe: ernie45Moe),
    Architecture(
      name: "Exaone4ForCausalLM", models: "EXAONE 4.0 1.2B, 32B",
      attention: "grouped queries, norms of heads, windows by layer, norm behind it",
      feedForward: "dense, norm behind it",
      describe: exaone4),
    Architecture(
      name: "ExaoneMoeForCausalLM", models: "K-EXAONE 236B-A23B",
      attention: "grouped queries, norms of heads, windows by layer",
      feedForward: "sigmoid router in groups, shared experts",
      describe: exaoneMoe),
    Architecture(
      name: "ExaoneMoEForCausalLM", models: "K-EXAONE 236B-A23B as published first",
      attention: "grouped queries, norms of heads, windows by layer",
      feedForward: "sigmoid router in groups, shared experts",
      describe: exaoneMoe),
    Architecture(
      name: "FlexOlmoForCausalLM", models: "FlexOlmo-7x7B",
      attention: "grouped queries, norms of all heads, norm behind it",
      feedForward: "softmax router, norm behind it",
      describe: flexOlmo),
    Architecture(
      name: "Gemma3ForCausalLM", models: "Gemma 3 270M, 1B",
      attention: "grouped queries, norms of heads, windows by layer, norm behind it",
      feedForward: "dense (GELU), norm behind it",
      describe: gemma3),
    Architecture(
      name: "Gemma4ForCausalLM", models: "text models of Gemma 4",
      attention: gemma4Attention, feedForward: gemma4FeedForward, describe: gemma4),
    Architecture(
      name: "Gemma4ForConditionalGeneration", models: "Gemma 4 26B-A4B, 31B",
      attention: gemma4Attention, feedForward: gemma4FeedForward, in: .gemma4, describe: gemma4),
    Architecture(
      name: "Glm4MoeForCausalLM", models: "GLM-4.5, 4.5-Air, 4.6, 4.7",
      attention: "grouped queries", feedForward: "sigmoid router in groups, shared experts",
      describe: glm4Moe),
    Architecture(
      name: "Glm4MoeLiteForCausalLM", models: "GLM-4.7-Flash",
      attention: "latent", feedForward: "sigmoid router in groups, shared experts",
      describe: glm4MoeLite),
    Architecture(
      name: "Glm4vMoeForConditionalGeneration", models: "GLM-4.5V, 4.6V",
      attention: "grouped queries", feedForward: "sigmoid router in groups, shared experts",
      in: .glm4v, describe: glm4vMoe),
    Architecture(
      name: "GlmMoeDsaForCausalLM", models: "GLM-5, 5.1, 5.2",
      attention: "latent, up to 2048 tokens",
      feedForward: "sigmoid router in groups, shared experts",
      describe: glmMoeDsa),
    Architecture(
      name: "GptOssForCausalLM", models: "gpt-oss-20b, 120b",
      attention: "grouped queries, sinks, windows by layer",
      feedForward: "softmax router, clamped gates",
      describe: gptOss),
    Architecture(
      name: "GraniteForCausalLM", models: "Granite 3.0 to 3.3",
      attention: "grouped queries",
      feedForward: "dense",
      describe: granite),
    Architecture(
      name: "GraniteMoeForCausalLM", models: "Granite 3.0, 3.1 1B-A400M, 3B-A800M",
      attention: "grouped queries", feedForward: "softmax router", describe: graniteMoe),
    Architecture(
      name: "GraniteMoeHybridForCausalLM", models: "Granite 4.0 H Micro, Tiny, Small, 1B, 350M",
      attention: "Mamba-2; by layer grouped queries",
      feedForward: "softmax router, shared expert; or dense", describe: graniteMoeHybrid),
    Architecture(
      name: "HYV3ForCausalLM", models: "Hy3",
      attention: "grouped queries, norms of heads",
      feedForward: "sigmoid router, shared experts",
      describe: hyV3),
    Architecture(
      name: "HunYuanDenseV1ForCausalLM", models: "Hunyuan 0.5B to 7B",
      attention: "grouped queries, norms of heads behind the rotation", feedForward: "dense",
      describe: hunYuanDenseV1),
    Architecture(
      name: "HunYuanMoEV1ForCausalLM", models: "Hunyuan-A13B",
      attention: "grouped queries, norms of heads behind the rotation",
      feedForward: "softmax router, shared expert",
      describe: hunYuanMoEV1),
    Architecture(
      name: "JambaForCausalLM", models: "Jamba 1.5 Mini, Large, 1.6, 1.7",
      attention: "Mamba, as it is; by layer grouped queries, without positions",
      feedForward: "softmax router; or dense, by layer", describe: jamba),
    Architecture(
      name: "KimiK25ForConditionalGeneration", models: "Kimi K2.5, K2.6, K2.7",
      attention: "latent", feedForward: "sigmoid router in groups, shared experts",
      in: .kimiK25, describe: deepseekV3),
    Architecture(
      name: "KimiK3ForConditionalGeneration", models: "Kimi K3",
      attention:
        "delta nets with a decay for each channel; by layer latent, without positions, gates; attention residuals",
      feedForward: "sigmoid router in groups, experts in a latent (SiTU), shared experts",
      in: .kimiK3, describe: kimiK3),
    Architecture(
      name: "KimiLinearForCausalLM", models: "Kimi-Linear-48B-A3B",
      attention: "delta nets with a decay for each channel; by layer latent, without positions",
      feedForward: "sigmoid router in groups, shared experts", describe: kimiLinear),
    Architecture(
      name: "Lfm2ForCausalLM", models: "LFM2 350M to 2.6B",
      attention: shortConvolutions, feedForward: "dense", describe: lfm2),
    Architecture(
      name: "Lfm2MoeForCausalLM", models: "LFM2-8B-A1B, 24B-A2B",
      attention: shortConvolutions, feedForward: "sigmoid router", describe: lfm2Moe),
    Architecture(
      name: "LagunaForCausalLM", models: "Laguna XS, M",
      attention: "grouped queries, norms of heads, gates, windows and heads by layer",
      feedForward: "sigmoid router, shared expert",
      describe: laguna),
    Architecture(
      name: "Llama4ForCausalLM", models: "text models of Llama 4",
      attention: llama4Attention, feedForward: llama4FeedForward, describe: llama4),
    Architecture(
      name: "Llama4ForConditionalGeneration", models: "Llama 4 Scout, Maverick",
      attention: llama4Attention, feedForward: llama4FeedForward, in: .llama4, describe: llama4),
    Architecture(
      name: "LlamaForCausalLM", models: "Llama 2 to 3.3 and kin",
      attention: "grouped queries", feedForward: "dense",
      describe: llama),
    Architecture(
      name: "MiMoForCausalLM", models: "MiMo-7B", attention: "grouped queries, windows by layer",
      feedForward: "dense", describe: miMo),
    Architecture(
      name: "MiMoV2FlashForCausalLM", models: "MiMo-V2-Flash",
      attention: "grouped queries, narrow values, sinks and more of them in layers with a window",
      feedForward: "sigmoid router in groups",
      describe: miMoV2Flash),
    Architecture(
      name: "MiniMaxForCausalLM", models: "MiniMax-Text-01 as transformers has it",
      attention: miniMaxAttention, feedForward: "softmax router", describe: miniMax),
    Architecture(
      name: "MiniMaxM1ForCausalLM", models: "MiniMax-M1 40k, 80k",
      attention: miniMaxAttention, feedForward: "softmax router", describe: miniMax),
    Architecture(
      name: "MiniMaxM2ForCausalLM", models: "MiniMax-M2, M2.1, M2.5, M2.7",
      attention: "grouped queries, norms of all heads",
      feedForward: "sigmoid router",
      describe: miniMaxM2),
    Architecture(
      name: "MiniMaxM3SparseForConditionalGeneration", models: "MiniMax-M3",
      attention: "grouped queries, norms of heads, up to 2048 tokens",
      feedForward: "sigmoid router, shared expert, clamped gates",
      in: .miniMaxM3, describe: miniMaxM3),
    Architecture(
      name: "MiniMaxText01ForCausalLM", models: "MiniMax-Text-01",
      attention: miniMaxAttention, feedForward: "softmax router", describe: miniMax),
    Architecture(
      name: "Mistral3ForConditionalGeneration", models: "Mistral Small 3.1, 3.2, Magistral",
      attention: "grouped queries, window", feedForward: "dense",
      in: .mistral3, describe: mistral),
    Architecture(
      name: "MistralForCausalLM", models: "Mistral 7B, Nemo, Small, Large",
      attention: "grouped queries, window", feedForward: "dense",
      describe: mistral),
    Architecture(
      name: "MixtralForCausalLM", models: "Mixtral 8x7B, 8x22B",
      attention: "grouped queries, window", feedForward: "softmax router",
      describe: mixtral),
    Architecture(
      name: "NemotronHForCausalLM", models: "Nemotron-H, Nemotron 3 Nano, Super, Ultra",
      attention: "Mamba-2, or grouped queries, or none, by layer",
      feedForward: "none, or dense (squared ReLU), or sigmoid router, shared expert, latents",
      describe: nemotronH),
    Architecture(
      name: "Olmo2ForCausalLM", models: "OLMo 2 1B to 32B",
      attention: "grouped queries, norms of all heads, norm behind it",
      feedForward: "dense, norm behind it",
      describe: olmo2),
    Architecture(
      name: "Olmo3ForCausalLM", models: "OLMo 3 7B, 32B",
      attention: "grouped queries, norms of all heads, windows by layer, norm behind it",
      feedForward: "dense, norm behind it",
      describe: olmo3),
    Architecture(
      name: "OlmoeForCausalLM", models: "OLMoE-1B-7B",
      attention: "grouped queries, norms of all heads", feedForward: "softmax router",
      describe: olmoe),
    Architecture(
      name: "Phi3ForCausalLM", models: "Phi-3, Phi-3.5, Phi-4 mini and 14B",
      attention: "grouped queries, one Linear for queries, keys and values, window",
      feedForward: "dense, one Linear for gates and up",
      describe: phi3),
    Architecture(
      name: "PhiMoEForCausalLM", models: "Phi-3.5-MoE, Phi-mini-MoE, Phi-tiny-MoE",
      attention: "grouped queries, window, norms around the mean",
      feedForward: "one expert after the other", describe: phiMoE),
    Architecture(
      name: "Qwen2ForCausalLM", models: "Qwen2, Qwen2.5",
      attention: "grouped queries, windows by layer", feedForward: "dense",
      describe: qwen2),
    Architecture(
      name: "Qwen2MoeForCausalLM", models: "Qwen1.5-MoE, Qwen2-57B-A14B",
      attention: "grouped queries, windows by layer",
      feedForward: "softmax router, gated shared expert",
      describe: qwen2Moe),
    Architecture(
      name: "Qwen3ForCausalLM", models: "Qwen3 0.6B to 32B",
      attention: "grouped queries, norms of heads, windows by layer", feedForward: "dense",
      describe: qwen3),
    Architecture(
      name: "Qwen3MoeForCausalLM", models: "Qwen3-30B-A3B, 235B-A22B, Coder",
      attention: "grouped queries, norms of heads, window", feedForward: "softmax router",
      describe: qwen3Moe),
    Architecture(
      name: "Qwen3NextForCausalLM", models: "Qwen3-Next-80B-A3B, Qwen3-Coder-Next",
      attention: deltaNetAttention, feedForward: "softmax router, gated shared expert",
      describe: qwen3Next),
    Architecture(
      name: "Qwen3OmniMoeForConditionalGeneration", models: "Qwen3-Omni-30B-A3B",
      attention: "grouped queries, norms of heads, window", feedForward: "softmax router",
      in: .qwen3Omni, describe: qwen3OmniMoe),
    Architecture(
      name: "Qwen3VLForConditionalGeneration", models: "Qwen3-VL 2B to 32B",
      attention: "grouped queries, norms of heads, windows by layer", feedForward: "dense",
      in: .qwen3VL("qwen3_vl_text"), describe: qwen3),
    Architecture(
      name: "Qwen3VLMoeForConditionalGeneration", models: "Qwen3-VL-30B-A3B, 235B-A22B",
      attention: "grouped queries, norms of heads, window", feedForward: "softmax router",
      in: .qwen3VL("qwen3_vl_moe_text"), describe: qwen3VLMoe),
    Architecture(
      name: "Qwen3_5ForCausalLM", models: "dense text models of Qwen3.5, Qwen3.6",
      attention: deltaNetAttention, feedForward: "dense",
      describe: qwen35),
    Architecture(
      name: "Qwen3_5ForConditionalGeneration", models: "Qwen3.5 0.8B to 27B, Qwen3.6-27B",
      attention: deltaNetAttention, feedForward: "dense",
      in: .qwen3VL("qwen3_5_text"), describe: qwen35),
    Architecture(
      name: "Qwen3_5MoeForCausalLM", models: "text models of Qwen3.5, Qwen3.6",
      attention: deltaNetAttention, feedForward: "softmax router, gated shared expert",
      describe: qwen35Moe),
    Architecture(
      name: "Qwen3_5MoeForConditionalGeneration",
      models: "Qwen3.5-35B-A3B, 122B-A10B, 397B-A17B, Qwen3.6-35B-A3B",
      attention: deltaNetAttention, feedForward: "softmax router, gated shared expert",
      in: .qwen3VL("qwen3_5_moe_text"), describe: qwen35Moe),
    Architecture(
      name: "SarvamMLAForCausalLM", models: "Sarvam 105B",
      attention: "latent", feedForward: "sigmoid router in groups, shared experts",
      describe: sarvamMLA),
    Architecture(
      name: "SarvamMoEForCausalLM", models: "Sarvam 30B",
      attention: "grouped queries, one Linear for queries, keys and values, norms of heads",
      feedForward: "sigmoid router in groups, shared experts", describe: sarvamMoE),
    Architecture(
      name: "SeedOssForCausalLM", models: "Seed-OSS 36B",
      attention: "grouped queries",
      feedForward: "dense",
      describe: seedOss),
    Architecture(
      name: "SmolLM3ForCausalLM", models: "SmolLM3 3B",
      attention: "grouped queries, turned in some layers",
      feedForward: "dense",
      describe: smolLM3),
    Architecture(
      name: "SolarOpenForCausalLM", models: "Solar Open 100B",
      attention: "grouped queries",
      feedForward: "sigmoid router in groups, shared experts",
      describe: solarOpen),
    Architecture(
      name: "Step3p5ForCausalLM", models: "Step-3.5-Flash",
      attention: step3p5Attention, feedForward: step3p5FeedForward, describe: step3p5),
    Architecture(
      name: "Step3p7ForConditionalGeneration", models: "Step-3.7-Flash",
      attention: step3p5Attention, feedForward: step3p5FeedForward, in: .step3p7,
      describe: step3p5),
  ]

  private static let cohereAttention =
    "grouped queries, windows by layer that turn, norms around the mean"

  private static let miniMaxAttention =
    "lightning attention; by layer grouped queries, window; added to normed states"

  private static let step3p5Attention =
    "grouped queries, norms of heads, gates of heads, windows by layer"
  private static let step3p5FeedForward = "sigmoid router, shared expert, clamped by layer"

  private static let deltaNetAttention =
    "gated delta nets; by layer grouped queries, norms of heads, gates"

  private static let shortConvolutions =
    "short convolutions; by layer grouped queries, norms of heads"

  private static let gemma4Attention =
    "grouped queries, norms of heads, windows by layer, values that are keys, norm behind it"
  private static let gemma4FeedForward = "dense (GELU), softmax router beside it, norms behind them"

  private static let llama4Attention =
    "grouped queries, chunks by layer, layers without positions, norms without weights"
  private static let llama4FeedForward =
    "sigmoid router that scales what experts read, shared expert"

  package static var known: [String] { all.map(\.name) }

  /// The model that a config.json describes.
  ///
  /// - Parameters:
  ///   - ignoring: keys that the caller reads itself.
  ///   - accepting: unknown keys that the user takes to change nothing.
  ///   - tensors: names in the checkpoint, to find the nearest of the known where the class is unknown.
  package static func describe(
    config: JSONObject, file: String, ignoring: [String] = [], accepting: Set<String> = [],
    tensors: () -> [String] = { [] }
  ) throws(ConfigError) -> ModelSpec {
    guard let names = config["architectures"]?.array, names.count == 1, let name = names[0].string
    else {
      throw .unknownArchitecture(
        file: file, found: config["architectures"]?.serialized() ?? "(no `architectures`)",
        known: known, nearest: nil)
    }
    for path in Set(all.map { $0.wrapper?.path ?? [] }) {
      guard let text = config[path]?.object else { continue }
      let prefix = path.map { $0 + "." }.joined()
      try checkCounts(text, prefix: prefix, file: file, tensors: tensors)
    }
    guard let architecture = all.first(where: { $0.name == name }) else {
      throw .unknownArchitecture(
        file: file, found: name, known: known,
        nearest: nearest(to: tensors(), config: config, file: file, ignoring: ignoring))
    }
    var reader = ConfigReader(
      file: file, object: config, architecture: name, accepting: accepting, ignoring: ignoring)
    var spec = try architecture.describe(&reader)
    try reader.finish()
    spec.notes = reader.notes
    return spec
  }

  /// The keys of a config.json that lead to its text model's; none where it is that of a text model.
  package static func textPath(of config: JSONObject) -> [String] {
    let name = config["architectures"]?.array?.first?.string
    return all.first { $0.name == name }?.wrapper?.path ?? []
  }

  /// What a config.json says of its text model.
  package static func text(of config: JSONObject) -> JSONObject {
    config[textPath(of: config)]?.object ?? config
  }

  /// Counts of layers, and of experts over all layers, that are believed: several times those of the largest models.
  private static let believed = (layers: 1 << 10, experts: 1 << 17)

  /// Refuses more layers or experts than there are tensors, before lists of them are made.
  private static func checkCounts(
    _ config: JSONObject, prefix: String, file: String, tensors: () -> [String]
  ) throws(ConfigError) {
    // Prediction layers have the experts of the others.
    let predicting = [
      "num_nextn_predict_layers", "num_mtp_layers", "num_mtp_modules", "mtp_num_hidden_layers",
    ]
    // Some files name the kind of each layer instead of their number.
    let naming = ["layers_block_type", "hybrid_override_pattern"]
    // A list may have a number for each layer.
    func count(_ key: String) -> Int? {
      config[key].flatMap { value in
        value.int ?? value.array.map { $0.compactMap(\.int).max() ?? $0.count }
          ?? value.string?.count
      }
    }
    func most(_ keys: [String]) -> Int {
      keys.map { (0...1 << 48).contains(count($0) ?? 0) ? count($0) ?? 0 : 0 }.max() ?? 0
    }
    let decoding = most(["num_hidden_layers"] + naming)
    let all = max(1, decoding + most(predicting))
    for (keys, layers, believed) in [
      (["num_hidden_layers"] + naming + predicting, 1, believed.layers),
      (
        ["n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts"], all,
        believed.experts
      ),
    ] {
      for key in keys {
        guard let count = count(key), count > 0 else { continue }
        let (total, overflows) = count.multipliedReportingOverflow(by: layers)
        if !overflows, total <= believed { continue }
        let present = tensors().count
        if overflows || total > present {
          throw .tooMany(
            file: file, key: prefix + key, count: count, layers: min(layers, max(1, decoding)),
            tensors: present)
        }
      }
    }
  }

  /// The architecture whose tensors under this config.json are, kind by kind, those of the checkpoint; one that knows
  /// every key of it before one that does not, and one that has these very tensors before one that has several of its own
  /// in one of them.
  private static func nearest(
    to tensors: [String], config: JSONObject, file: String, ignoring: [String]
  ) -> String? {
    if tensors.isEmpty { return nil }
    var named: [(rank: Int, name: String)] = []
    for architecture in all {
      var reader = ConfigReader(
        file: file, object: config, architecture: architecture.name, ignoring: ignoring)
      guard let spec = try? architecture.describe(&reader) else { continue }
      let parameters = spec.parameters(among: Set(tensors))
      let own = parameters.names.filter { !spec.passesThrough($0) && !isScale($0) }
      guard kinds(spec.claims.map(\.name)) == kinds(own) else { continue }
      let knows = (try? reader.finish()) != nil
      named.append(((knows ? 2 : 0) + (parameters.places.isEmpty ? 1 : 0), architecture.name))
    }
    let best = named.map(\.rank).max()
    return named.first { $0.rank == best }?.name
  }

  /// Whether a tensor scales a weight in low precision.
  private static func isScale(_ tensor: String) -> Bool {
    let end = tensor[(tensor.lastIndex(of: ".") ?? tensor.startIndex)...]
    return end.hasPrefix(".weight") && ["_scale", "_scale_inv"].contains { end.hasSuffix($0) }
  }

  /// Names without the numbers of layers and experts.
  private static func kinds(_ names: some Sequence<String>) -> Set<String> {
    Set(
      names.map { name in
        name.split(separator: ".").map { Int($0) == nil ? String($0) : "*" }.joined(separator: ".")
      })
  }
}
