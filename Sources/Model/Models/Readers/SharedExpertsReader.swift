// Routed experts beside shared ones, behind leading dense layers: GLM-4.5's and DeepSeek's layout.

internal import JSON
internal import Transformer

struct SharedExpertsReader {
  /// Whether each layer has experts.
  let isSparse: [Bool]
  private let denseSize: Int
  private let expertSize: Int
  private let experts: Int
  /// Of what every token sees; 0 where there is none.
  private let sharedSize: Int
  private let perToken: Int
  private let groups: Int
  private let chosenGroups: Int
  private let scalingFactor: Float
  private let choice: Choice
  private let spelling: Spelling

  /// Keys of config.json, and names of modules and tensors in a layer.
  struct Spelling {
    var experts = ["n_routed_experts", "num_local_experts", "num_experts"]
    var expertSize = ["moe_intermediate_size"]
    /// Empty where no model of the class has any.
    var shared = ["n_shared_experts"]
    /// The width of each of them; nil where it is that of the others.
    var sharedSize: String?
    var perToken = ["num_experts_per_tok"]
    var groups = ["n_group"]
    var scalingFactor = "routed_scaling_factor"
    var firstSparse = "first_k_dense_replace"

    var router = "mlp.gate"
    var correction = "mlp.gate.e_score_correction_bias"
    var correctionIsRow = false
    var sharedUnit = "mlp.shared_experts"
    var routedUnits = "mlp.experts"
    /// Of routed units.
    var projections: (gate: String?, up: String, down: String) = (
      "gate_proj", "up_proj", "down_proj"
    )
  }

  /// What the class in transformers has where nothing is said; nil asks for the key.
  struct Assumed {
    var groups: Int? = 1
    var chosenGroups: Int? = 1
    var scalingFactor: Double? = 1
  }

  /// How experts are chosen.
  struct Choice {
    let scoring: RouterSpec.Scoring
    let groupScore: RouterSpec.GroupScore
    let hasCorrection: Bool
    let normalizes: Bool

    /// Balanced by a bias instead of an auxiliary loss, as since DeepSeek-V3.
    static func corrected(_ config: inout ConfigReader) throws(ConfigError) -> Choice {
      try config.require("scoring_func", toBe: "sigmoid")
      try config.require("topk_method", toBe: "noaux_tc")
      return Choice(
        scoring: .sigmoid, groupScore: .sumOfTwoBest, hasCorrection: true,
        normalizes: try config.bool("norm_topk_prob", default: true))
    }
  }

  /// - Parameters:
  ///   - firstSparse: layers before it are dense, where nothing is said.
  ///   - isGrouped: whether groups are looked at.
  ///   - assumed: of groups and weights, where nothing is said.
  ///   - isListed: whether the architecture knows `mlp_layer_types`.
  ///   - sparse: which layers have experts, where its caller has read it.
  init(
    _ config: inout ConfigReader, layers: Int, _ choice: Choice, firstSparse fallback: Int? = nil,
    isGrouped: Bool = true, assuming assumed: Assumed = Assumed(), isListed: Bool = false,
    sparse: [Bool]? = nil, spelling: Spelling = Spelling()
  ) throws(ConfigError) {
    self.choice = choice
    self.spelling = spelling
    if let sparse {
      isSparse = sparse
    } else {
      isSparse = try Self.sparseLayers(
        &config, count: layers, fallback, key: spelling.firstSparse, isListed: isListed)
    }
    // Some name it where every layer has experts.
    config.ignore("intermediate_size")
    denseSize = isSparse.contains(false) ? try config.int("intermediate_size") : 0
    expertSize = try config.int(spelling.expertSize)
    experts = try config.int(spelling.experts)
    let shared = spelling.shared.isEmpty ? 0 : try config.int(spelling.shared, atLeast: 0)
    let size = expertSize
    let own = try spelling.sharedSize.map { key throws(ConfigError) in
      try config.int(key, default: size)
    }
    sharedSize = shared * (own ?? size)
    perToken = try config.int(spelling.perToken)
    let groups = try config.int(spelling.groups, default: assumed.groups)
    let chosenGroups = try config.int("topk_group", default: assumed.chosenGroups)
    self.groups = isGrouped ? groups : 1
    self.chosenGroups = isGrouped ? chosenGroups : 1
    scalingFactor = Float(
      try config.positive(spelling.scalingFactor, default: assumed.scalingFactor))
    try config.checkChoice(
      of: perToken, from: experts, groups: self.groups, chosenGroups: self.chosenGroups,
      atLeastInGroup: choice.groupScore == .best ? 1 : 2)
  }

  /// By `mlp_layer_types` where it is there, else from `first_k_dense_replace` on; where both are, they must agree.
  private static func sparseLayers(
    _ config: inout ConfigReader, count: Int, _ fallback: Int?, key: String, isListed: Bool
  ) throws(ConfigError) -> [Bool] {
    let listed =
      isListed
      ? try config.choices(
        "mlp_layer_types", count: count, of: ["dense": false, "sparse": true]) : nil
    let first = try config.intIfPresent(key, atLeast: 0)
    if let listed, first == nil { return listed }
    guard let first = first ?? fallback else { throw config.missing(key) }
    let counted = (0..<count).map { $0 >= first }
    if let listed, listed != counted {
      throw config.implausible(
        "mlp_layer_types", expected: "\(first) dense layers as `\(key)` says",
        found: "another order")
    }
    return counted
  }

  /// - Parameter latent: where routed experts read one.
  func mlp(_ names: LayerNames, hidden: Int, latent: LatentExperts? = nil) -> MLPSpec {
    // Prediction layers have experts.
    if names.index < isSparse.count, !isSparse[names.index] {
      return MLPSpec(dense: names.mlp("mlp", denseSize))
    }
    return MLPSpec(
      router: RouterSpec(
        linear: names.linear(spelling.router, hidden, experts), scoring: choice.scoring,
        correctionBias: choice.hasCorrection ? names.name(spelling.correction) : nil,
        correctionIsRow: spelling.correctionIsRow,
        expertsPerToken: perToken, groups: groups, chosenGroups: chosenGroups,
        groupScore: choice.groupScore, normalizes: choice.normalizes,
        scalingFactor: scalingFactor),
      alwaysOn: sharedSize == 0 ? [] : [names.mlp(spelling.sharedUnit, sharedSize)],
      routed: (0..<experts).map {
        names.mlp(
          "\(spelling.routedUnits).\($0)", expertSize, inputs: latent?.up.inputs,
          projections: spelling.projections)
      }, latent: latent)
  }
}
