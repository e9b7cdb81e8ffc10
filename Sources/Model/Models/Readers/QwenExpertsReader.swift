// Routed experts as Qwen's models spell them: a softmax router, and dense layers by list or by step.

internal import Transformer

struct QwenExpertsReader {
  private let denseSize: Int
  private let expertSize: Int
  private let experts: Int
  private let perToken: Int
  private let normalizes: Bool
  private let step: Int
  private let dense: Set<Int>

  /// Source: transformers `Qwen3MoeDecoderLayer`, `Qwen3MoeTopKRouter`.
  ///
  /// - Parameters:
  ///   - fallback: whether the chosen weights are divided by their sum, where nothing is said.
  ///   - hasDense: whether the architecture knows dense layers.
  init(
    _ config: inout ConfigReader, normalizes fallback: Bool = false, hasDense: Bool = true
  ) throws(ConfigError) {
    denseSize = hasDense ? try config.int("intermediate_size") : 0
    expertSize = try config.int("moe_intermediate_size")
    experts = try config.int("num_experts", "num_local_experts")
    perToken = try config.int("num_experts_per_tok")
    normalizes = try config.bool("norm_topk_prob", default: fallback)
    step = hasDense ? try config.int("decoder_sparse_step", default: 1) : 1
    dense = hasDense ? Set(try config.ints("mlp_only_layers")) : []
    try config.checkChoice(of: perToken, from: experts)
  }

  /// - Parameter shared: the expert that every token sees.
  func mlp(_ names: LayerNames, hidden: Int, shared: UnitSpec? = nil) -> MLPSpec {
    if dense.contains(names.index) || (names.index + 1) % step != 0 {
      return MLPSpec(dense: names.mlp("mlp", denseSize))
    }
    return MLPSpec(
      router: RouterSpec(
        linear: names.linear("mlp.gate", hidden, experts), scoring: .softmax,
        expertsPerToken: perToken, normalizes: normalizes),
      alwaysOn: [shared].compactMap(\.self),
      routed: (0..<experts).map { names.mlp("mlp.experts.\($0)", expertSize) })
  }
}
