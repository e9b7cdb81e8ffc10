// Cohere2MoeForCausalLM: Command A+.
//
// Source: transformers 5.17 modeling_cohere2_moe.py and configuration_cohere2_moe.py.

internal import JSON
internal import Transformer

func cohere2Moe(_ config: inout ConfigReader) throws(ConfigError) -> ModelSpec {
  let hasPlainNorms = try config.positiveIfPresent("rms_norm_eps") != nil
  var decoder = try DecoderReader(
    cohere: &config, epsilon: hasPlainNorms ? "rms_norm_eps" : "layer_norm_eps")
  if hasPlainNorms {
    decoder.normKind = .rootMeanSquare
    config.ignore("layer_norm_eps")
  }
  let attention = try GroupedQueryReader(cohere: &config, decoder, headDimension: 128)
  let count = decoder.layerCount
  let first = try config.int("first_k_dense_replace", atLeast: 0, default: 0)
  let isDense =
    try config.choices("mlp_layer_types", count: count, of: ["dense": true, "sparse": false])
    ?? (0..<count).map { $0 < first }
  let period = try config.int("prefix_dense_sliding_window_pattern", default: 1)
  let windows = try WindowReader(&config, layers: count, period: 4, behind: (first, period)).windows
  let experts = try CohereExperts(&config, decoder)
  let scale = try config.positive("logit_scale", default: 0.0625)
  var model = decoder.model { names in
    let (window, isDense) = (windows[names.index], isDense[names.index])
    let mixer = attention.attention(
      names, window: window, turns: window != nil || isDense && period == 1)
    return isDense
      ? names.parallelLayer(mixer, experts.dense(names))
      : names.parallelLayer(mixer, experts.mlp(names), scale: experts.scale)
  }
  model.logitScale = Float(scale)
  return model
}

private struct CohereExperts {
  private let hidden: Int
  private let size: Int
  private let denseSize: Int
  private let experts: Int
  private let perToken: Int
  private let shared: Int
  private let scoring: RouterSpec.Scoring
  private let normalizes: Bool
  /// Of routed and shared experts together: half of them where they are averaged.
  let scale: Float

  init(_ config: inout ConfigReader, _ decoder: DecoderReader) throws(ConfigError) {
    hidden = decoder.hidden
    size = try config.int("intermediate_size")
    denseSize = try config.intIfPresent("prefix_dense_intermediate_size") ?? size
    experts = try config.int("num_experts", "num_local_experts", default: 8)
    perToken = try config.int("num_experts_per_tok", default: 2)
    shared = try config.int("num_shared_experts", atLeast: 0, default: 0)
    scoring = try config.choice(
      "expert_selection_fn", of: ["softmax": .softmax, "sigmoid": .sigmoid], default: "softmax")
    // transformers does not ask where scores are a softmax over the chosen.
    if scoring == .softmax { try config.require("norm_topk_prob", toBe: true) }
    normalizes = try config.bool("norm_topk_prob", default: true)
    let averages = try config.choice(
      "shared_expert_combination_strategy", of: ["average": true, "sum": false],
      default: "average")
    scale = averages && shared > 0 ? 0.5 : 1
    try config.checkChoice(of: perToken, from: experts)
  }

  func dense(_ names: LayerNames) -> MLPSpec { MLPSpec(dense: names.mlp("mlp", denseSize)) }

  func mlp(_ names: LayerNames) -> MLPSpec {
    MLPSpec(
      router: RouterSpec(
        linear: names.linear("mlp.gate", hidden, experts), scoring: scoring,
        expertsPerToken: perToken, normalizes: normalizes),
      alwaysOn: shared == 0 ? [] : [names.mlp("mlp.shared_experts", shared * size)],
      routed: (0..<experts).map { names.mlp("mlp.experts.\($0)", size) })
  }
}
