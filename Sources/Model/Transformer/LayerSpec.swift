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

/// down(silu(gate(x)) * up(x)), times sigmoid(outputGate(x)) where there is one.
package struct GatedMLPSpec: Sendable, Equatable {
  package let gate: LinearSpec
  package let up: LinearSpec
  package let down: LinearSpec
  /// One output, in float32, never quantized.
  package let outputGate: LinearSpec?

  package init(
    gate: LinearSpec, up: LinearSpec, down: LinearSpec, outputGate: LinearSpec? = nil
  ) {
    self.gate = gate
    self.up = up
    self.down = down
    self.outputGate = outputGate
  }

  package var linears: [LinearSpec] { [gate, up, down] }
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

/// The feed-forward half of a layer, as a list of gated MLPs that all read the same input.
///
/// The dense MLP of a layer, or shared experts, are *always-on* units; routed experts are weighted by the router.
package struct MLPSpec: Sendable, Equatable {
  package let router: RouterSpec?
  package let alwaysOn: [GatedMLPSpec]
  package let routed: [GatedMLPSpec]

  package init(dense: GatedMLPSpec) {
    self.init(router: nil, alwaysOn: [dense], routed: [])
  }

  package init(router: RouterSpec?, alwaysOn: [GatedMLPSpec], routed: [GatedMLPSpec]) {
    precondition((router == nil) == routed.isEmpty, "routed experts come with a router")
    self.router = router
    self.alwaysOn = alwaysOn
    self.routed = routed
  }

  /// All units: the always-on ones, then the routed ones. The order of work and of progress.
  package var units: [GatedMLPSpec] { alwaysOn + routed }

  /// One of `units`, without making them all.
  package func unit(_ index: Int) -> GatedMLPSpec {
    index < alwaysOn.count ? alwaysOn[index] : routed[index - alwaysOn.count]
  }

  /// Linears that decide on weights of units, in float32 and never quantized: the router and gates of outputs.
  package var deciding: [LinearSpec] {
    (router.map { [$0.linear] } ?? []) + alwaysOn.compactMap(\.outputGate)
  }

  /// Smoothings that keep the function: of the input, which all units and what decides on them read, and of what each
  /// down projection reads.
  func smoothings(after input: NormSpec) -> [Smoothing] {
    [
      Smoothing(
        tap: .mlpInput, producer: .norm(input),
        consumers: deciding + units.flatMap { [$0.gate, $0.up] })
    ]
      + units.enumerated().map { unit, mlp in
        Smoothing(tap: .hidden(unit), producer: .linear(mlp.up), consumers: [mlp.down])
      }
  }
}

/// A place in a layer where an activation meets Linears.
package enum Tap: Hashable, Sendable {
  /// The normed input of attention, `[T, H]`.
  case attentionInput
  /// The normed latent that queries are made of, `[T, rank]`.
  case queryLatent
  /// The normed latent that keys and values are made of, `[T, rank]`.
  case keyValueLatent
  /// What the output projection of attention reads, `[T, heads * value dimension]`.
  case attentionOutput
  /// The normed input of the feed-forward half, `[T, H]`.
  case mlpInput
  /// What the down projection of unit `i` reads, `[T, F]`.
  case hidden(Int)
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

/// A pre-norm decoder layer: x += attention(norm(x)); x += mlp(norm(x)).
package struct LayerSpec: Sendable, Equatable {
  package let index: Int
  package let inputNorm: NormSpec
  package let attention: AttentionSpec
  package let postAttentionNorm: NormSpec
  package let mlp: MLPSpec
  package var smoothings: [Smoothing]

  package init(
    index: Int, inputNorm: NormSpec, attention: AttentionSpec, postAttentionNorm: NormSpec,
    mlp: MLPSpec
  ) {
    self.index = index
    self.inputNorm = inputNorm
    self.attention = attention
    self.postAttentionNorm = postAttentionNorm
    self.mlp = mlp
    smoothings =
      attention.smoothings(after: inputNorm) + mlp.smoothings(after: postAttentionNorm)
  }

  /// Every Linear of the layer whose weight can be quantized; what decides on experts is none of them.
  package var linears: [LinearSpec] {
    attention.linears + mlp.units.flatMap(\.linears)
  }

  /// A text that layers share whose Linears have equal sizes.
  package var shape: String {
    "\(attention.linears.map { [$0.inputs, $0.outputs] }) \(mlp.units.map(\.gate.outputs)) "
      + "\(mlp.alwaysOn.count)"
  }

  /// Linears that inference engines load as one, and that therefore share one scheme: projections of one input; gate and
  /// up; all routed experts. Source: vLLM's `packed_modules_mapping` and `FusedMoE`.
  package var fusedGroups: [[LinearSpec]] {
    attention.fusedGroups + [mlp.routed.flatMap(\.linears)] + mlp.alwaysOn.map { [$0.gate, $0.up] }
  }

  /// Every tap, in the order of the forward pass.
  package var taps: [Tap] {
    attention.taps + [.mlpInput] + mlp.units.indices.map { .hidden($0) }
  }

  /// The Linears of `linears` that read the activation at a tap.
  package func readers(at tap: Tap) -> [LinearSpec] {
    switch tap {
    case .mlpInput: mlp.units.flatMap { [$0.gate, $0.up] }
    case .hidden(let unit): [mlp.unit(unit).down]
    default: attention.parts.first { $0.tap == tap }?.readers ?? []
    }
  }

  package func smoothing(at tap: Tap) -> Smoothing? { smoothings.first { $0.tap == tap } }
}
