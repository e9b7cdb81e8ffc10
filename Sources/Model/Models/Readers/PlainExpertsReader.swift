// Routed experts alone, in every layer, as wide as `intermediate_size` says.

internal import JSON
internal import Transformer

struct PlainExpertsReader {
  private let size: Int
  private let count: Int
  private let perToken: Int

  init(_ config: inout ConfigReader) throws(ConfigError) {
    size = try config.int("intermediate_size")
    count = try config.int("num_local_experts", "num_experts")
    perToken = try config.int("num_experts_per_tok")
    try config.checkChoice(of: perToken, from: count)
  }

  /// - Parameters:
  ///   - block: the module that router and experts are in.
  ///   - correction: the name in it of what is added to scores for choosing only.
  func mlp(
    _ names: LayerNames, hidden: Int, block: String, _ scoring: RouterSpec.Scoring,
    correction: String? = nil, normalizes: Bool,
    projections: (gate: String?, up: String, down: String) = ("gate_proj", "up_proj", "down_proj")
  ) -> MLPSpec {
    MLPSpec(
      router: RouterSpec(
        linear: names.linear("\(block).gate", hidden, count), scoring: scoring,
        correctionBias: correction.map { names.name("\(block).\($0)") },
        expertsPerToken: perToken, normalizes: normalizes),
      alwaysOn: [],
      routed: (0..<count).map {
        names.mlp("\(block).experts.\($0)", size, projections: projections)
      })
  }

  /// As Mixtral's models spell it.
  func mixtral(
    _ names: LayerNames, hidden: Int, _ scoring: RouterSpec.Scoring = .softmax,
    correction: String? = nil, normalizes: Bool = true
  ) -> MLPSpec {
    mlp(
      names, hidden: hidden, block: "block_sparse_moe", scoring, correction: correction,
      normalizes: normalizes, projections: ("w1", "w3", "w2"))
  }
}
