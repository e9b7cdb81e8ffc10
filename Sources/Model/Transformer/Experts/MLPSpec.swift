// A mixer on each token described as data: units, what they apply between their projections, and how experts are chosen.

/// What a unit applies between its projections.
package enum Activation: Sendable, Equatable {
  case silu
  /// x times the normal distribution's Φ(x).
  case gelu
  /// GELU by way of tanh.
  case geluTanh
  /// The square of max(x, 0).
  case reluSquared
  /// Of the pairs of gate and up that a fused projection makes: (up + 1) * gate * sigmoid(alpha * gate), gate at most
  /// `limit`, up within `limit` of 0.
  case clampedPairs(alpha: Float, limit: Float)
}

/// A dense MLP, a shared expert or a routed one: down(activation(gate(x)) * up(x)), or down(activation(up(x))) without a
/// gate, where `up` may be both in one; times sigmoid(outputGate(x)) where there is one.
package struct UnitSpec: Sendable, Equatable {
  package let gate: LinearSpec?
  package let up: LinearSpec
  package let down: LinearSpec
  package let activation: Activation
  /// One output, in float32, never quantized.
  package let outputGate: LinearSpec?

  package init(
    gate: LinearSpec?, up: LinearSpec, down: LinearSpec, activation: Activation = .silu,
    outputGate: LinearSpec? = nil
  ) {
    self.gate = gate
    self.up = up
    self.down = down
    self.activation = activation
    self.outputGate = outputGate
  }

  /// The Linears that read the unit's input, as all experts have them.
  package var readers: [LinearSpec] { (gate.map { [$0] } ?? []) + [up] }

  package var linears: [LinearSpec] { readers + [down] }

  /// Whether what `down` reads grows as `up`'s outputs do, channel by channel: then scales may move from one to the other.
  package var isLinearInUp: Bool {
    switch activation {
    case .silu, .gelu, .geluTanh, .reluSquared: gate != nil
    case .clampedPairs: false
    }
  }
}

/// K of E experts by their scores, within the best groups.
///
/// Source: DeepSeek-V2 (arXiv:2405.04434, 2.2) and -V3 (arXiv:2412.19437, 2.1.2); transformers' `...TopkRouter`s.
package struct RouterSpec: Sendable, Equatable {
  package enum Scoring: Sendable, Equatable {
    case sigmoid
    /// Over all experts.
    case softmax
  }

  /// What a group of experts is judged by.
  package enum GroupScore: Sendable, Equatable {
    case best
    case sumOfTwoBest
  }

  package let linear: LinearSpec
  package let scoring: Scoring
  /// A tensor `[E]`, added to the scores for choosing only.
  package let correctionBias: String?
  /// Whether it is stored as a matrix of one row.
  package let correctionIsRow: Bool
  package let expertsPerToken: Int
  package let groups: Int
  package let chosenGroups: Int
  package let groupScore: GroupScore
  /// Whether the K weights are divided by their sum.
  package let normalizes: Bool
  package let scalingFactor: Float

  package init(
    linear: LinearSpec, scoring: Scoring, correctionBias: String? = nil,
    correctionIsRow: Bool = false, expertsPerToken: Int,
    groups: Int = 1, chosenGroups: Int = 1, groupScore: GroupScore = .sumOfTwoBest,
    normalizes: Bool, scalingFactor: Float = 1
  ) {
    self.linear = linear
    self.scoring = scoring
    self.correctionBias = correctionBias
    self.correctionIsRow = correctionIsRow
    self.expertsPerToken = expertsPerToken
    self.groups = groups
    self.chosenGroups = chosenGroups
    self.groupScore = groupScore
    self.normalizes = normalizes
    self.scalingFactor = scalingFactor
  }
}

/// A mixer on each token by itself, as a list of units that all read the same input.
///
/// The dense MLP of a layer, or shared experts, are *always-on* units; routed experts are weighted by the router.
package struct MLPSpec: Sendable, Equatable {
  package let router: RouterSpec?
  package let alwaysOn: [UnitSpec]
  package let routed: [UnitSpec]

  package init(dense: UnitSpec) {
    self.init(router: nil, alwaysOn: [dense], routed: [])
  }

  package init(router: RouterSpec?, alwaysOn: [UnitSpec], routed: [UnitSpec]) {
    precondition((router == nil) == routed.isEmpty, "routed experts come with a router")
    self.router = router
    self.alwaysOn = alwaysOn
    self.routed = routed
  }

  /// All units: the always-on ones, then the routed ones. The order of work and of progress.
  package var units: [UnitSpec] { alwaysOn + routed }

  /// One of `units`, without making them all.
  package func unit(_ index: Int) -> UnitSpec {
    index < alwaysOn.count ? alwaysOn[index] : routed[index - alwaysOn.count]
  }

  /// Linears that decide on weights of units, in float32 and never quantized: the router and gates of outputs.
  package var deciding: [LinearSpec] {
    (router.map { [$0.linear] } ?? []) + alwaysOn.compactMap(\.outputGate)
  }

  /// Smoothings of what each down projection reads.
  func smoothings(of branch: Int) -> [Smoothing] {
    units.enumerated().filter(\.element.isLinearInUp).map { index, unit in
      Smoothing(
        tap: Tap(branch, .hidden(index)), producer: .linear(unit.up), consumers: [unit.down])
    }
  }
}
