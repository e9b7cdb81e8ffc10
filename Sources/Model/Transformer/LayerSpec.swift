// A decoder layer described as data: its parts, their tensors, and who consumes what.
//
// Letters of this target: T tokens, H hidden size, F intermediate size of an MLP, E experts, K experts per token.
// Shapes are row-major, outermost first; a Linear's weight is [out, in].

/// A Linear and its parameters: a weight `[outputs, inputs]` and, with `hasBias`, a bias `[outputs]`.
package struct LinearSpec: Sendable, Equatable {
  package let name: String
  package let inputs: Int
  package let outputs: Int
  package let hasBias: Bool

  package init(_ name: String, inputs: Int, outputs: Int, hasBias: Bool = false) {
    self.name = name
    self.inputs = inputs
    self.outputs = outputs
    self.hasBias = hasBias
  }

  package var weight: String { ParameterName.weight(of: name) }
  package var bias: String { ParameterName.bias(of: name) }
}

/// A root-mean-square norm, whose weight is `[size]`.
package struct NormSpec: Sendable, Equatable {
  package let name: String
  package let size: Int
  package let epsilon: Float

  package init(_ name: String, size: Int, epsilon: Float) {
    self.name = name
    self.size = size
    self.epsilon = epsilon
  }

  package var weight: String { ParameterName.weight(of: name) }
}

/// What a unit applies between its projections.
package enum Activation: Sendable, Equatable {
  case silu
  /// x times the normal distribution's Φ(x).
  case gelu
  /// GELU by way of tanh.
  case geluTanh
  /// The square of max(x, 0).
  case reluSquared
}

/// A dense MLP, a shared expert or a routed one: down(activation(gate(x)) * up(x)), or down(activation(up(x))) without a
/// gate; times sigmoid(outputGate(x)) where there is one.
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
  package let expertsPerToken: Int
  package let groups: Int
  package let chosenGroups: Int
  package let groupScore: GroupScore
  /// Whether the K weights are divided by their sum.
  package let normalizes: Bool
  package let scalingFactor: Float

  package init(
    linear: LinearSpec, scoring: Scoring, correctionBias: String? = nil, expertsPerToken: Int,
    groups: Int = 1, chosenGroups: Int = 1, groupScore: GroupScore = .sumOfTwoBest,
    normalizes: Bool, scalingFactor: Float = 1
  ) {
    self.linear = linear
    self.scoring = scoring
    self.correctionBias = correctionBias
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

/// What a branch does between its norms. Each kind is a file of its own.
package enum Mixer: Sendable, Equatable {
  /// Along the sequence.
  case sequence(SequenceMixer)
  /// On each token by itself.
  case tokens(MLPSpec)
}

/// x += scale * postNorm(mixer(preNorm(x))), without the norms that are nil.
package struct Branch<Kind: Sendable & Equatable>: Sendable, Equatable {
  /// Among the branches of its layer.
  package private(set) var number = 0
  package let preNorm: NormSpec?
  package let mixer: Kind
  package let postNorm: NormSpec?
  package let scale: Float

  package init(
    preNorm: NormSpec?, _ mixer: Kind, postNorm: NormSpec? = nil, scale: Float = 1
  ) {
    self.preNorm = preNorm
    self.mixer = mixer
    self.postNorm = postNorm
    self.scale = scale
  }

  func numbered(_ number: Int) -> Self {
    var result = self
    result.number = number
    return result
  }

  /// This branch as one of another kind.
  func map<Other>(_ mixer: Other) -> Branch<Other> {
    Branch<Other>(preNorm: preNorm, mixer, postNorm: postNorm, scale: scale).numbered(number)
  }

  package func tap(_ place: Tap.Place) -> Tap { Tap(number, place) }
}

/// A place in a layer where an activation meets Linears.
package struct Tap: Hashable, Sendable {
  package enum Place: Hashable, Sendable {
    /// What a mixer reads, `[T, H]`.
    case input
    /// The normed latent that queries are made of, `[T, rank]`.
    case queryLatent
    /// The normed latent that keys and values are made of, `[T, rank]`.
    case keyValueLatent
    /// What the output projection of a mixer along the sequence reads.
    case output
    /// What the down projection of unit `i` reads, `[T, F]`.
    case hidden(Int)
  }

  package let branch: Int
  package let place: Place

  package init(_ branch: Int, _ place: Place) {
    self.branch = branch
    self.place = place
  }
}

/// A scale per channel that moves from an activation's producer into all its consumers, leaving the function as it is.
///
/// The AWQ *mapping* of llm-compressor (smooth layer -> balance layers), with exact names. Every reader of the
/// activation must be listed, also those that are not quantized: that is what keeps the function.
package struct Smoothing: Sendable, Equatable {
  package enum Producer: Sendable, Equatable {
    /// The norm's weight is divided by the scale.
    case norm(NormSpec)
    /// The rows of the Linear's weight, and its bias, are divided by the scale.
    case linear(LinearSpec)
  }

  package let tap: Tap
  package let producer: Producer
  package var consumers: [LinearSpec]

  package init(tap: Tap, producer: Producer, consumers: [LinearSpec]) {
    self.tap = tap
    self.producer = producer
    self.consumers = consumers
  }

  package var producerName: String {
    switch producer {
    case .norm(let norm): norm.name
    case .linear(let linear): linear.name
    }
  }

  package var channels: Int {
    switch producer {
    case .norm(let norm): norm.size
    case .linear(let linear): linear.outputs
    }
  }
}

/// Branches of a layer that are worked on together: one along the sequence, and the one on tokens behind it. Either may
/// be missing.
package struct LayerPart: Sendable, Equatable {
  package let layer: Int
  /// Among the parts of its layer.
  package let index: Int
  package let sequence: Branch<SequenceMixer>?
  package let tokens: Branch<MLPSpec>?

  package var branches: [Branch<Mixer>] {
    (sequence.map { [$0.map(.sequence($0.mixer))] } ?? [])
      + (tokens.map { [$0.map(.tokens($0.mixer))] } ?? [])
  }

  package var units: [UnitSpec] { tokens?.mixer.units ?? [] }
}

/// A decoder layer: residual branches, one after the other.
package struct LayerSpec: Sendable, Equatable {
  package let index: Int
  package let branches: [Branch<Mixer>]
  package let parts: [LayerPart]
  package let smoothings: [Smoothing]

  package init(index: Int, branches: [Branch<Mixer>]) {
    self.index = index
    self.branches = branches.enumerated().map { $1.numbered($0) }
    parts = Self.parts(of: self.branches, layer: index)
    let norms = branches.compactMap(\.preNorm)
    smoothings = self.branches.flatMap { branch in
      branch.smoothings(ownsNorm: norms.count { $0 == branch.preNorm } == 1)
    }
  }

  private static func parts(of branches: [Branch<Mixer>], layer: Int) -> [LayerPart] {
    var parts: [LayerPart] = []
    for branch in branches {
      switch branch.mixer {
      case .sequence(let mixer):
        parts.append(
          LayerPart(layer: layer, index: parts.count, sequence: branch.map(mixer), tokens: nil))
      case .tokens(let mixer):
        // Behind a branch along the sequence that has none yet.
        let open = parts.last.flatMap { $0.tokens == nil ? parts.removeLast() : nil }
        parts.append(
          LayerPart(
            layer: layer, index: parts.count, sequence: open?.sequence, tokens: branch.map(mixer)))
      }
    }
    return parts
  }

  /// Every Linear of the layer whose weight can be quantized; what decides on experts is none of them.
  package var linears: [LinearSpec] { branches.flatMap(\.mixer.linears) }

  /// Of each branch on tokens, the Linears of the first units only: the others are mostly like them.
  package func someLinears(units count: Int) -> [LinearSpec] {
    branches.flatMap { branch in
      switch branch.mixer {
      case .sequence(let mixer): mixer.linears
      case .tokens(let mlp): mlp.units.prefix(count).flatMap(\.linears)
      }
    }
  }

  /// Mixers on tokens, in their order.
  package var mlps: [MLPSpec] { parts.compactMap(\.tokens?.mixer) }

  /// Mixers along the sequence, in their order.
  package var sequenceMixers: [SequenceMixer] { parts.compactMap(\.sequence?.mixer) }

  package var routers: [RouterSpec] { mlps.compactMap(\.router) }

  /// Routed experts.
  package var experts: [UnitSpec] { mlps.flatMap(\.routed) }

  /// Linears that decide on weights of units.
  package var deciding: [LinearSpec] { mlps.flatMap(\.deciding) }

  /// A text that layers share whose Linears have equal sizes.
  package var shape: String {
    branches.map { branch in
      [branch.preNorm, branch.postNorm].map { $0 == nil ? "-" : "n" }.joined()
        + "\(branch.scale) \(branch.mixer.shape)"
    }.joined(separator: " ")
  }

  /// Linears that inference engines load as one, and that therefore share one scheme: projections of one input; gate and
  /// up; all routed experts. Source: vLLM's `packed_modules_mapping` and `FusedMoE`.
  package var fusedGroups: [[LinearSpec]] { branches.flatMap(\.mixer.fusedGroups) }

  /// Every tap, in the order of the forward pass.
  package var taps: [Tap] {
    branches.flatMap { branch in branch.mixer.places.map { branch.tap($0) } }
  }

  /// The Linears of `linears` that read the activation at a tap.
  package func readers(at tap: Tap) -> [LinearSpec] {
    branches[tap.branch].mixer.readers(at: tap.place)
  }

  package func smoothing(at tap: Tap) -> Smoothing? { smoothings.first { $0.tap == tap } }
}

extension Branch<Mixer> {
  /// Smoothings that keep the function, each with every consumer. A norm behind the mixer makes what nobody but the sum
  /// reads.
  ///
  /// - Parameter ownsNorm: whether nobody else reads what the norm before the mixer makes.
  fileprivate func smoothings(ownsNorm: Bool) -> [Smoothing] {
    let normed = preNorm.flatMap { norm in
      ownsNorm
        ? Smoothing(tap: tap(.input), producer: .norm(norm), consumers: mixer.inputReaders) : nil
    }
    return [normed].compactMap(\.self) + mixer.smoothings(of: number)
  }
}

// What the rest of the program asks of a mixer of any kind.
extension Mixer {
  /// Every Linear whose weight can be quantized, in the order of the forward pass.
  package var linears: [LinearSpec] {
    switch self {
    case .sequence(let mixer): mixer.linears
    case .tokens(let mlp): mlp.units.flatMap(\.linears)
    }
  }

  /// Everything that reads the mixer's input, be it quantized or not.
  fileprivate var inputReaders: [LinearSpec] {
    switch self {
    case .sequence(let mixer): mixer.parts[0].readers
    case .tokens(let mlp): mlp.deciding + mlp.units.flatMap(\.readers)
    }
  }

  /// Where activations meet Linears, in the order of the forward pass.
  fileprivate var places: [Tap.Place] {
    switch self {
    case .sequence(let mixer): mixer.parts.map(\.place)
    case .tokens(let mlp): [.input] + mlp.units.indices.map { .hidden($0) }
    }
  }

  fileprivate func readers(at place: Tap.Place) -> [LinearSpec] {
    switch self {
    case .sequence(let mixer): mixer.parts.first { $0.place == place }?.readers ?? []
    case .tokens(let mlp):
      if case .hidden(let unit) = place {
        [mlp.unit(unit).down]
      } else {
        mlp.units.flatMap(\.readers)
      }
    }
  }

  /// Smoothings within the mixer.
  fileprivate func smoothings(of branch: Int) -> [Smoothing] {
    switch self {
    case .sequence(let mixer): mixer.smoothings(of: branch)
    case .tokens(let mlp): mlp.smoothings(of: branch)
    }
  }

  fileprivate var fusedGroups: [[LinearSpec]] {
    switch self {
    case .sequence(let mixer): mixer.fusedGroups
    case .tokens(let mlp): [mlp.routed.flatMap(\.linears)] + mlp.alwaysOn.map(\.readers)
    }
  }

  fileprivate var shape: String {
    switch self {
    case .sequence(let mixer): "\(mixer.linears.map { [$0.inputs, $0.outputs] })"
    case .tokens(let mlp):
      "\(mlp.units.map { [$0.up.outputs, $0.linears.count] }) \(mlp.alwaysOn.count)"
    }
  }

  /// Linears that inference engines split over devices along their inputs.
  package var splitByInputs: [LinearSpec] {
    switch self {
    case .sequence(let mixer): [mixer.output]
    case .tokens(let mlp): mlp.units.map(\.down)
    }
  }

  /// Linears that inference engines split over devices along their outputs.
  package var splitByOutputs: [LinearSpec] {
    switch self {
    case .sequence(let mixer): mixer.splitByHeads
    case .tokens(let mlp): mlp.units.flatMap(\.readers)
    }
  }
}
