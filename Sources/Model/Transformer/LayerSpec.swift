// A decoder layer described as data: residual branches, their norms, and what follows from their list.
//
// Letters of this target: T tokens, H hidden size, F intermediate size of an MLP, E experts, K experts per token.
// Shapes are row-major, outermost first; a Linear's weight is [out, in].

/// A Linear and its parameters: a weight `[outputs, inputs]` and, with `hasBias`, a bias `[outputs]`.
package struct LinearSpec: Sendable, Equatable {
  package let name: String
  package let inputs: Int
  package let outputs: Int
  package let hasBias: Bool
  /// Other modules by whose names config.json may speak of it, too: those that its readers have in its place.
  package let standsFor: [String]
  /// Whether it is several modules in one, and its parameters have names with a dash below instead of a dot.
  package let isFused: Bool

  package init(
    _ name: String, inputs: Int, outputs: Int, hasBias: Bool = false, standsFor: [String] = [],
    isFused: Bool = false
  ) {
    self.name = name
    self.inputs = inputs
    self.outputs = outputs
    self.hasBias = hasBias
    self.standsFor = standsFor
    self.isFused = isFused
  }

  package var weight: String { parameter(ParameterName.weight(of: "")) }
  package var bias: String { parameter(ParameterName.bias(of: "")) }

  /// A parameter by the end that it has behind a module's name, which begins with a dot.
  package func parameter(_ end: String) -> String {
    name + (isFused ? "_" + end.dropFirst() : end)
  }

  /// The names by which config.json may speak of it.
  package var modules: [String] { [name] + standsFor }
}

/// A parameter that belongs to no Linear and to no norm.
package struct VectorSpec: Sendable, Equatable {
  package let name: String
  package let shape: [Int]

  package init(_ name: String, shape: [Int]) {
    self.name = name
    self.shape = shape
  }

  /// - Parameter isRow: whether it is stored as a matrix of one row.
  package init(_ name: String, size: Int, isRow: Bool = false) {
    self.init(name, shape: (isRow ? [1] : []) + [size])
  }
}

/// A norm whose weight is `[size]`.
package struct NormSpec: Sendable, Equatable {
  /// What numbers are divided by, and what becomes of their mean.
  package enum Kind: Sendable, Equatable {
    /// The root of the mean square.
    case rootMeanSquare
    /// The deviation from the mean, which is taken away; a bias `[size]` may be added at last.
    case deviation(hasBias: Bool)
  }

  package let name: String
  package let size: Int
  package let epsilon: Float
  /// What is added to its weight: 1 where that is stored as the distance from 1.
  package let offset: Float
  package let kind: Kind

  package init(
    _ name: String, size: Int, epsilon: Float, offset: Float = 0, kind: Kind = .rootMeanSquare
  ) {
    self.name = name
    self.size = size
    self.epsilon = epsilon
    self.offset = offset
    self.kind = kind
  }

  package var weight: String { ParameterName.weight(of: name) }

  package var bias: String? {
    kind == .deviation(hasBias: true) ? ParameterName.bias(of: name) : nil
  }

  package var parameters: [String] { [weight] + (bias.map { [$0] } ?? []) }
}

/// x += scale * postNorm(mixer(preNorm(x))), without the norms that are nil; then x *= statesScale, where there is one.
///
/// With a residual, x are several states: preNorm reads a mix of them, and the branch is added to the last one.
package struct Branch<Kind: Sendable & Equatable>: Sendable, Equatable {
  /// Among the branches of its layer.
  package private(set) var number = 0
  /// Set where x are several states.
  package let residual: AttentionResidual?
  package let preNorm: NormSpec?
  package let mixer: Kind
  package let postNorm: NormSpec?
  package let scale: Float
  /// A tensor `[1]`.
  package let statesScale: String?
  /// Set where the branch is added to what its mixer reads, times this, and not to x.
  package let carried: Float?
  /// Whether it reads what the branch before it does, by way of that one's norm; both are added to one x.
  package let isBeside: Bool

  package init(
    residual: AttentionResidual? = nil, preNorm: NormSpec?, _ mixer: Kind,
    postNorm: NormSpec? = nil, scale: Float = 1, statesScale: String? = nil, carried: Float? = nil,
    isBeside: Bool = false
  ) {
    precondition(
      residual == nil || preNorm != nil && statesScale == nil && carried == nil && !isBeside,
      "a branch that reads a mix of states is added to the last of them")
    self.residual = residual
    self.preNorm = preNorm
    self.mixer = mixer
    self.postNorm = postNorm
    self.scale = scale
    self.statesScale = statesScale
    precondition(carried == nil || preNorm != nil, "x itself is never used up")
    self.carried = carried
    self.isBeside = isBeside
  }

  func numbered(_ number: Int) -> Self {
    var result = self
    result.number = number
    return result
  }

  /// This branch as one of another kind.
  func map<Other>(_ mixer: Other) -> Branch<Other> {
    Branch<Other>(
      residual: residual, preNorm: preNorm, mixer, postNorm: postNorm, scale: scale,
      statesScale: statesScale, carried: carried, isBeside: isBeside
    ).numbered(number)
  }

  package func tap(_ place: Tap.Place) -> Tap { Tap(number, place) }
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

  /// Whether the branch on tokens reads what the one along the sequence does.
  package var isParallel: Bool { sequence != nil && tokens?.isBeside == true }

  /// How many states of width H a token has before the part.
  package var statesBefore: Int { (sequence?.residual ?? tokens?.residual)?.states ?? 1 }

  /// How many it has between the part's branches.
  package var statesBetween: Int { tokens?.residual?.states ?? statesBefore }
}

/// A decoder layer: residual branches, one after the other.
package struct LayerSpec: Sendable, Equatable {
  package let index: Int
  package let branches: [Branch<Mixer>]
  package let parts: [LayerPart]
  package var smoothings: [Smoothing]
  /// Set where it predicts further tokens than the model: what makes its input.
  package var entrance: Entrance?

  package init(index: Int, branches: [Branch<Mixer>]) {
    self.index = index
    self.branches = branches.enumerated().map { $1.numbered($0) }
    parts = Self.parts(of: self.branches, layer: index)
    precondition(
      parts.allSatisfy { part in
        part.tokens?.isBeside != true
          || part.isParallel && part.sequence?.preNorm == part.tokens?.preNorm
      }, "a branch beside another one has its norm")
    precondition(
      parts.allSatisfy { part in
        part.sequence == nil || (part.sequence?.residual == nil) == (part.tokens?.residual == nil)
      }, "branches of a part read the same states")
    let norms = branches.filter { !$0.isBeside }.compactMap(\.preNorm)
    let all = self.branches
    smoothings = all.flatMap { branch in
      branch.smoothings(
        ownsNorm: norms.count { $0 == branch.preNorm } == 1,
        beside: all[(branch.number + 1)...].first.flatMap { $0.isBeside ? $0 : nil })
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

  package var routers: [RouterSpec] { mlps.compactMap(\.router) }

  /// Routed experts.
  package var experts: [UnitSpec] { mlps.flatMap(\.routed) }

  /// Linears that decide on weights of units or of states, or on what is attended to.
  package var deciding: [LinearSpec] {
    branches.flatMap { ($0.residual.map { [$0.score] } ?? []) + $0.mixer.deciding }
  }

  /// The most tokens of a sequence that are all attended to; nil where any number is.
  package var longestSequence: Int? {
    parts.compactMap { $0.sequence?.mixer.indexer?.chosen }.min()
  }

  /// A text that layers share whose work is the same.
  package var shape: String {
    branches.map { branch in
      [branch.preNorm, branch.postNorm].map { $0.map { "\($0.kind)" } ?? "-" }.joined()
        + (branch.isBeside ? "beside " : "") + (branch.carried == nil ? "" : "carried ")
        + (branch.residual.map { "\($0.states) states \($0.closes) " } ?? "")
        + "\(branch.scale) \(branch.mixer.shape)"
    }.joined(separator: " ")
  }

  /// Linears that inference engines load as one, and that therefore share one scheme: projections of one input; gate and
  /// up; all routed experts. Source: vLLM's `packed_modules_mapping` and `FusedMoE`.
  package var fusedGroups: [[LinearSpec]] { branches.flatMap(\.mixer.fusedGroups) }

  /// Linears that share what stands above their scales, all that have a branch's input in common: of a unit those that read
  /// its input, along the sequence those that are loaded as one.
  package var scaledTogether: [[LinearSpec]] {
    branches.flatMap { branch in
      switch branch.mixer {
      case .sequence(let mixer): mixer.fusedGroups
      case .tokens(let mlp): mlp.units.map(\.readers)
      }
    }
  }

  /// Every tap, in the order of the forward pass.
  package var taps: [Tap] {
    branches.flatMap { branch in branch.mixer.places.map { branch.tap($0) } }
  }

  /// Columns of the activation at a tap.
  package func channels(at tap: Tap) -> Int {
    if case .cached(let part) = tap.place {
      return caches.first { $0.branch == tap.branch }?.cache.width(of: part) ?? 0
    }
    return readers(at: tap)[0].inputs
  }

  /// The Linears of `linears` that read the activation at a tap.
  package func readers(at tap: Tap) -> [LinearSpec] {
    branches[tap.branch].mixer.readers(at: tap.place)
  }

  package func smoothing(at tap: Tap) -> Smoothing? {
    smoothings.first { $0.taps.contains(tap) }
  }
}

extension Branch<Mixer> {
  /// Smoothings that keep the function, each with every consumer. A norm behind the mixer makes what nobody but the sum
  /// reads.
  ///
  /// - Parameters:
  ///   - ownsNorm: whether no other branch has the norm before the mixer, but one beside it.
  ///   - other: a branch beside it.
  fileprivate func smoothings(ownsNorm: Bool, beside other: Branch<Mixer>?) -> [Smoothing] {
    let readers = [self] + (other.map { [$0] } ?? [])
    // What goes on as it is cannot be scaled.
    let isFree = ownsNorm && !isBeside && readers.allSatisfy { $0.carried == nil }
    let normed = preNorm.flatMap { norm in
      isFree
        ? Smoothing(
          tap: tap(.input), alsoAt: other.map { [$0.tap(.input)] } ?? [], producer: .norm(norm),
          consumers: readers.flatMap(\.mixer.inputReaders)) : nil
    }
    return [normed].compactMap(\.self) + mixer.smoothings(of: number)
  }
}
