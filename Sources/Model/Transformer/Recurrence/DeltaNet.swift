// Gated delta net: each head remembers values by their keys in a state of a fixed size, which it forgets a share of with
// every token.
//
// Source: Yang et al., arXiv:2412.06464; transformers `Qwen3NextGatedDeltaNet`, `Qwen3_5GatedDeltaNet`.

internal import CKernels
internal import Glibc
internal import LinearAlgebra
internal import Tensors

package struct DeltaNetSpec: Sendable, Equatable {
  /// The projections of the mixer's input, and the order of their outputs.
  package enum Input: Sendable, Equatable {
    /// Key head by key head. `mixed`: its query, its key, its values, their gates; `steps`: strengths of its values, then
    /// their decays.
    case byKeyHead(mixed: LinearSpec, steps: LinearSpec)
    /// All heads of a kind side by side. `mixed`: queries, keys, values.
    case byKind(
      mixed: LinearSpec, gates: LinearSpec, strengths: LinearSpec, decays: LinearSpec)
  }

  package let input: Input
  package let output: LinearSpec
  /// Of each head's result, before it is gated.
  package let norm: NormSpec
  package let keyHeads: Int
  package let valueHeads: Int
  package let keyDimension: Int
  package let valueDimension: Int
  /// Of queries, keys and values, in this order.
  package let convolution: CausalConvolution
  /// Tensors `[valueHeads]`: the logarithm of how fast each forgets, and what is added to its decays.
  package let decayRate: String
  package let decayBias: String

  package init(
    input: Input, output: LinearSpec, norm: NormSpec, keyHeads: Int, valueHeads: Int,
    keyDimension: Int, valueDimension: Int, convolution: CausalConvolution, decayRate: String,
    decayBias: String
  ) {
    self.input = input
    self.output = output
    self.norm = norm
    self.keyHeads = keyHeads
    self.valueHeads = valueHeads
    self.keyDimension = keyDimension
    self.valueDimension = valueDimension
    self.convolution = convolution
    self.decayRate = decayRate
    self.decayBias = decayBias
  }

  /// Columns of all queries, and of all keys.
  private var keys: Int { keyHeads * keyDimension }
  /// Columns of all values, and of their gates.
  private var values: Int { valueHeads * valueDimension }
  /// Value heads that one key head serves.
  private var share: Int { valueHeads / keyHeads }

  var vectors: [VectorSpec] {
    convolution.vectors + [
      VectorSpec(decayRate, size: valueHeads), VectorSpec(decayBias, size: valueHeads),
    ]
  }

  /// What reads the mixer's input and can be quantized; inference engines load them as one.
  var projections: [LinearSpec] {
    switch input {
    case .byKeyHead(let mixed, _): [mixed]
    case .byKind(let mixed, let gates, _, _): [mixed, gates]
    }
  }

  /// What says how strongly a token is remembered, and how much is forgotten: a number for each head.
  var deciding: [LinearSpec] {
    switch input {
    case .byKeyHead(_, let steps): [steps]
    case .byKind(_, _, let strengths, let decays): [strengths, decays]
    }
  }

  var parts: [(place: Tap.Place, readers: [LinearSpec])] {
    [(.input, projections), (.output, [output])]
  }
}

/// Queries, keys and values side by side, `[T, channels]`; gates `[T, values]`; strengths and decays `[T, valueHeads]`.
struct DeltaProjections {
  let mixed: Matrix
  let gates: Matrix
  let strengths: Matrix
  let decays: Matrix
}

extension DeltaNetSpec {
  private static let (mixedName, gatesName, stepsName) = (
    "queries, keys and values", "gates of a delta net", "steps of a delta net"
  )

  /// - Parameter x: `[T, H]`, what the mixer reads.
  func project(
    _ x: Matrix, weights: any LayerWeights, backend: Backend
  ) -> DeltaProjections {
    func apply(_ linear: LinearSpec, _ name: String) -> Matrix {
      weights.apply(linear, to: x, backend: backend, into: name)
    }
    func applyExactly(_ linear: LinearSpec) -> Matrix {
      weights.apply(linear, to: x, backend: backend.exact, into: Self.stepsName)
    }
    switch input {
    case .byKind(let mixed, let gates, let strengths, let decays):
      return DeltaProjections(
        mixed: apply(mixed, Self.mixedName), gates: apply(gates, Self.gatesName),
        strengths: applyExactly(strengths), decays: applyExactly(decays))
    case .byKeyHead(let mixed, let steps):
      let (key, value) = (keyDimension, share * valueDimension)
      let width = 2 * (key + value)
      let both = apply(mixed, Self.mixedName)
      let numbers = applyExactly(steps)
      func step(_ range: Range<Int>) -> Matrix {
        numbers.columns([range], ofEach: 2 * share, into: Self.stepsName, backend: backend)
      }
      return DeltaProjections(
        mixed: both.columns(
          [0..<key, key..<2 * key, 2 * key..<2 * key + value], ofEach: width,
          into: Self.mixedName, backend: backend),
        gates: both.columns(
          [width - value..<width], ofEach: width, into: Self.gatesName, backend: backend),
        strengths: step(0..<share), decays: step(share..<2 * share))
    }
  }

  /// What the output projection reads, `[T, values]`; it takes the place of the gates.
  ///
  /// - Parameters:
  ///   - projections: of whole sequences, one after the other.
  ///   - sequences: the rows of each sequence, which begins with nothing to remember.
  func remember(
    _ projections: consuming DeltaProjections, sequences: [Range<Int>],
    weights: any LayerWeights, backend: Backend
  ) -> Matrix {
    let (mixed, gates) = (projections.mixed, projections.gates)
    convolution.apply(
      in: mixed, sequences: sequences, activates: true, weights: weights, backend: backend)
    let rule = DeltaRule(
      keyHeads: keyHeads, valueHeads: valueHeads, keyDimension: keyDimension,
      valueDimension: valueDimension)
    let queries = HeadColumns(mixed, 0, width: keys)
    let ownKeys = HeadColumns(mixed, 1, width: keys)
    rule.normKeys(queries: queries, keys: ownKeys, backend)
    finish(projections.strengths, projections.decays, weights, backend)
    rule.recur(
      queries: queries, keys: ownKeys, values: HeadColumns(mixed, first: 2 * keys, count: values),
      strengths: projections.strengths, decays: projections.decays, sequences: sequences, backend)
    gate(mixed, gates, weights, backend)
    return gates
  }

  /// Rows of a task.
  private static let taskRows = 16

  /// What share of a change is made, and what share of a state is kept.
  private func finish(
    _ strengths: Matrix, _ decays: Matrix, _ weights: any LayerWeights, _ backend: Backend
  ) {
    let rates = weights.vector(decayRate).map { exp($0) }
    let biases = weights.vector(decayBias)
    backend.ledger.note(Operation(.elements, [2 * decays.count]))
    let parts = ranges(of: decays.rows, by: Self.taskRows)
    backend.forEach(parts.count) { index in
      for place in parts[index] {
        unsafe sluice_sigmoid(strengths.row(place), valueHeads)
        let decay = unsafe decays.row(place)
        for head in 0..<valueHeads {
          unsafe decay[head] = exp(-rates[head] * softened(decay[head] + biases[head]))
        }
      }
    }
  }

  /// gates = norm(results) * silu(gates).
  private func gate(
    _ mixed: Matrix, _ gates: Matrix, _ weights: any LayerWeights, _ backend: Backend
  ) {
    let gains = norm.gains(weights)
    backend.ledger.note(Operation(.elements, [2 * gates.count]))
    let parts = ranges(of: gates.rows, by: Self.taskRows)
    backend.forEach(parts.count) { index in
      for place in parts[index] {
        let (result, gate) = unsafe (mixed.row(place) + 2 * keys, gates.row(place))
        unsafe sluice_rms_norm(result, gains, norm.epsilon, valueHeads, valueDimension, result)
        unsafe sluice_silu(gate, values)
        unsafe sluice_multiply(gate, result, gate, values)
      }
    }
  }
}
