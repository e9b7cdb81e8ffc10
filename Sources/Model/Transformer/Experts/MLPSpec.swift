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
  /// Of the gates and ups that a fused projection makes, all gates first: silu(gate) * up.
  case gatedHalves
  /// Of the pairs of gate and up that a fused projection makes: (up + 1) * gate * sigmoid(alpha * gate), gate at most
  /// `limit`, up within `limit` of 0.
  case clampedPairs(alpha: Float, limit: Float)
  /// What `clampedPairs` is of pairs, of a gate and an up that are Linears of their own.
  case clampedGates(alpha: Float, limit: Float)
  /// SiLU of the gate, at most `limit`, times up within `limit` of 0.
  case clampedSilu(limit: Float)
  /// beta * tanh(gate / beta) * sigmoid(gate) times up, which is held within `upBeta` of 0 by tanh, too; nil for up as it
  /// is.
  case situ(beta: Float, upBeta: Float?)
}

/// A dense MLP, a shared expert or a routed one: down(activation(gate(x)) * up(x)), or down(activation(up(x))) without a
/// gate, where `up` may be both in one; times sigmoid(outputGate(x)) where there is one.
package struct UnitSpec: Sendable, Equatable {
  package let gate: LinearSpec?
  package let up: LinearSpec
  /// Whether `up` makes gates, too: all of them, then as many numbers that they multiply.
  package let upMakesGates: Bool
  package let down: LinearSpec
  package let activation: Activation
  /// One output, in float32, never quantized.
  package let outputGate: LinearSpec?

  package init(
    gate: LinearSpec?, up: LinearSpec, upMakesGates: Bool = false, down: LinearSpec,
    activation: Activation = .silu, outputGate: LinearSpec? = nil
  ) {
    self.gate = gate
    self.up = up
    self.upMakesGates = upMakesGates
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
    case .silu, .gelu, .geluTanh, .reluSquared: gate != nil || upMakesGates
    case .situ(_, let upBeta): gate != nil && upBeta == nil
    case .gatedHalves, .clampedPairs, .clampedGates, .clampedSilu: false
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
    /// One after the other: the best of those that are left, and its share of a softmax over all of them whose scores are
    /// within this share of its own.
    ///
    /// Source: Liu et al., arXiv:2409.12136; transformers `PhimoeTopKRouter`.
    case sparseMixer(within: Float)
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
  /// A norm of its own before it; it reads what the mixer reads then.
  package let norm: RouterNorm?
  /// A tensor `[E]` that the weights of chosen experts are multiplied by at last.
  package let expertScales: String?
  /// Whether an expert's weight scales what it reads, and not what it gives.
  package let scalesInputs: Bool
  /// Logits are cap * tanh(logits / cap) before they are scored.
  package let logitCap: Float?

  package init(
    linear: LinearSpec, scoring: Scoring, correctionBias: String? = nil,
    correctionIsRow: Bool = false, expertsPerToken: Int,
    groups: Int = 1, chosenGroups: Int = 1, groupScore: GroupScore = .sumOfTwoBest,
    normalizes: Bool, scalingFactor: Float = 1, norm: RouterNorm? = nil,
    expertScales: String? = nil, scalesInputs: Bool = false, logitCap: Float? = nil
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
    self.norm = norm
    self.expertScales = expertScales
    self.scalesInputs = scalesInputs
    self.logitCap = logitCap
  }

  /// Vectors that no Linear reads.
  var vectors: [VectorSpec] {
    [
      correctionBias.map { VectorSpec($0, size: linear.outputs, isRow: correctionIsRow) },
      norm.map { VectorSpec($0.gains, size: linear.inputs) },
      expertScales.map { VectorSpec($0, size: linear.outputs) },
    ].compactMap(\.self)
  }
}

/// A root-mean-square norm whose gains are a tensor `[H]` times a factor.
package struct RouterNorm: Sendable, Equatable {
  package let gains: String
  package let factor: Float
  package let epsilon: Float

  package init(gains: String, factor: Float, epsilon: Float) {
    self.gains = gains
    self.factor = factor
    self.epsilon = epsilon
  }
}

/// Norms around some units of a mixer: behind(sum of units(before(x))).
package struct Strand: Sendable, Equatable {
  package let before: NormSpec
  package let behind: NormSpec

  package init(before: NormSpec, behind: NormSpec) {
    self.before = before
    self.behind = behind
  }
}

/// Linears around the routed units of a mixer: up(norm(sum of units(down(x)))). They stay as they are.
package struct LatentExperts: Sendable, Equatable {
  /// To what the units read, `[T, latent]`.
  package let down: LinearSpec
  /// Of the units' sum, `[T, latent]`; nil where `up` reads it as it is.
  package let norm: NormSpec?
  package let up: LinearSpec

  package init(down: LinearSpec, norm: NormSpec? = nil, up: LinearSpec) {
    self.down = down
    self.norm = norm
    self.up = up
  }
}

/// A mixer on each token by itself, as a list of units that all read the same input, or one in two strands.
///
/// The dense MLP of a layer, or shared experts, are *always-on* units; routed experts are weighted by the router.
package struct MLPSpec: Sendable, Equatable {
  /// Always-on units and routed ones with norms of their own, side by side; the two are added.
  package struct Strands: Sendable, Equatable {
    package let alwaysOn: Strand
    package let routed: Strand

    package init(alwaysOn: Strand, routed: Strand) {
      self.alwaysOn = alwaysOn
      self.routed = routed
    }
  }

  package let router: RouterSpec?
  package let alwaysOn: [UnitSpec]
  package let routed: [UnitSpec]
  package let strands: Strands?
  /// Where routed units read a latent instead of the mixer's input.
  package let latent: LatentExperts?

  package init(dense: UnitSpec) {
    self.init(router: nil, alwaysOn: [dense], routed: [])
  }

  package init(
    router: RouterSpec?, alwaysOn: [UnitSpec], routed: [UnitSpec], strands: Strands? = nil,
    latent: LatentExperts? = nil
  ) {
    precondition((router == nil) == routed.isEmpty, "routed experts come with a router")
    precondition(strands == nil || latent == nil, "routed experts have one input")
    precondition(strands == nil || router?.norm != nil, "a router beside strands has its own norm")
    self.router = router
    self.alwaysOn = alwaysOn
    self.routed = routed
    self.strands = strands
    self.latent = latent
  }

  /// Norms within the mixer.
  package var norms: [NormSpec] {
    strands.map { [$0.alwaysOn.before, $0.alwaysOn.behind, $0.routed.before, $0.routed.behind] }
      ?? latent?.norm.map { [$0] } ?? []
  }

  package var vectors: [VectorSpec] { router?.vectors ?? [] }

  /// Whether routed units read something else than the others.
  package var hasRoutedInput: Bool { strands != nil || latent != nil }

  /// What units read: the mixer's input, or that of each strand, or a latent.
  package var inputPlaces: [Tap.Place] { hasRoutedInput ? [.input, .routedInput] : [.input] }

  /// Which of `inputPlaces` a unit reads.
  package func inputPlace(of unit: Int) -> Tap.Place {
    hasRoutedInput && unit >= alwaysOn.count ? .routedInput : .input
  }

  /// All units: the always-on ones, then the routed ones. The order of work and of progress.
  package var units: [UnitSpec] { alwaysOn + routed }

  /// One of `units`, without making them all.
  package func unit(_ index: Int) -> UnitSpec {
    index < alwaysOn.count ? alwaysOn[index] : routed[index - alwaysOn.count]
  }

  /// Linears that decide on weights of units, in float32, and those around routed units, all never quantized: the router,
  /// gates of outputs, and the way to a latent and back.
  package var deciding: [LinearSpec] { decidingAtInput + (latent.map { [$0.up] } ?? []) }

  /// Those that read the mixer's input.
  private var decidingAtInput: [LinearSpec] {
    (router.map { [$0.linear] } ?? []) + alwaysOn.compactMap(\.outputGate)
      + (latent.map { [$0.down] } ?? [])
  }

  /// The strand of one of `inputPlaces`; nil where there are none.
  package func strand(at place: Tap.Place) -> Strand? {
    strands.map { place == .routedInput ? $0.routed : $0.alwaysOn }
  }

  /// The units that read at one of `inputPlaces`.
  package func units(at place: Tap.Place) -> [UnitSpec] {
    hasRoutedInput ? (place == .routedInput ? routed : alwaysOn) : units
  }

  /// Everything that reads the mixer's input as it is, be it quantized or not.
  var inputReaders: [LinearSpec] {
    strands == nil ? decidingAtInput + units(at: .input).flatMap(\.readers) : []
  }

  /// Smoothings of what strands or routed units read, and of what each down projection reads.
  func smoothings(of branch: Int) -> [Smoothing] {
    let inputs = strands.map { strands in
      [(Tap.Place.input, strands.alwaysOn), (.routedInput, strands.routed)].map { place, strand in
        Smoothing(
          tap: Tap(branch, place), producer: .norm(strand.before),
          consumers: units(at: place).flatMap(\.readers))
      }
    }
    let latents = latent.map { latent in
      [
        Smoothing(
          tap: Tap(branch, .routedInput), producer: .linear(latent.down),
          consumers: routed.flatMap(\.readers))
      ]
    }
    return (inputs ?? []) + (latents ?? [])
      + units.enumerated().filter(\.element.isLinearInUp).map { index, unit in
        Smoothing(
          tap: Tap(branch, .hidden(index)), producer: .linear(unit.up),
          channels: unit.down.inputs, consumers: [unit.down])
      }
  }
}
