// Kimi delta attention: a delta net in which every channel of a key forgets in its own time.
//
// Source: Kimi Team, arXiv:2510.26692; transformers `KimiLinearDeltaAttention`, `BailingHybridDeltaAttention`.

internal import CKernels
internal import Glibc
internal import LinearAlgebra
internal import Tensors

package struct ChannelDeltaNetSpec: Sendable, Equatable {
  /// From the mixer's input to a number for each channel.
  package enum Way: Sendable, Equatable {
    /// Two Linears with a narrow latent between them.
    case narrow(down: LinearSpec, up: LinearSpec)
    case direct(LinearSpec)

    /// What reads the mixer's input.
    fileprivate var first: LinearSpec {
      switch self {
      case .narrow(let down, _): down
      case .direct(let linear): linear
      }
    }

    /// What does not.
    fileprivate var second: LinearSpec? {
      if case .narrow(_, let up) = self { up } else { nil }
    }
  }

  /// A projection to `[T, heads * headDimension]`, and what mixes its outputs along tokens.
  package struct Projection: Sendable, Equatable {
    package let linear: LinearSpec
    package let convolution: CausalConvolution

    package init(linear: LinearSpec, convolution: CausalConvolution) {
      self.linear = linear
      self.convolution = convolution
    }
  }

  package let query: Projection
  package let key: Projection
  package let value: Projection
  /// To `[T, heads]`: how strongly a token is remembered.
  package let strength: LinearSpec
  /// To `[T, heads * headDimension]`: how much each channel of a key forgets.
  package let decay: Way
  /// To `[T, heads * headDimension]`: what the output projection reads is multiplied by its sigmoid.
  package let gate: Way
  package let output: LinearSpec
  /// Of each head's result, before it is gated.
  package let norm: NormSpec
  package let heads: Int
  package let headDimension: Int
  /// A tensor `[1, 1, heads, 1]`, or `[heads]` or longer: the logarithm of how fast each forgets.
  package let decayRate: VectorSpec
  /// A tensor `[heads * headDimension]`, added to decays.
  package let decayBias: String
  /// Set where no channel forgets more than a share with a token: the logarithm of what is kept then.
  package let leastDecay: Float?
  /// Whether what reads the mixer's input stays as it is, since inference engines load it in no other form.
  package let keepsReaders: Bool

  package init(
    query: Projection, key: Projection, value: Projection, strength: LinearSpec, decay: Way,
    gate: Way, output: LinearSpec, norm: NormSpec, heads: Int, headDimension: Int,
    decayRate: VectorSpec, decayBias: String, leastDecay: Float? = nil,
    keepsReaders: Bool = false
  ) {
    self.query = query
    self.key = key
    self.value = value
    self.strength = strength
    self.decay = decay
    self.gate = gate
    self.output = output
    self.norm = norm
    self.heads = heads
    self.headDimension = headDimension
    self.decayRate = decayRate
    self.decayBias = decayBias
    self.leastDecay = leastDecay
    self.keepsReaders = keepsReaders
  }

  var vectors: [VectorSpec] {
    [query, key, value].flatMap(\.convolution.vectors) + [
      decayRate, VectorSpec(decayBias, size: heads * headDimension),
    ]
  }

  /// What never is quantized, and where it reads.
  var deciding: [(place: Tap.Place?, linear: LinearSpec)] {
    (keepsReaders ? readers.map { (.input, $0) } : []) + inner.map { (nil, $0) }
  }

  /// What inference engines load as one, in any scheme.
  var loadedAsOne: [LinearSpec] { keepsReaders ? [] : projections }

  var projections: [LinearSpec] {
    [query.linear, key.linear, value.linear, strength]
      + (decay.second == nil ? [] : [decay.first])
  }

  /// The second halves of decays and gates, which stay as they are: no place shows what they read.
  var inner: [LinearSpec] { [decay.second, gate.second].compactMap(\.self) }

  /// What `deciding` is called in lists of what stays as it is.
  var leftOut: String? {
    if keepsReaders { return "delta nets but their output projections" }
    return inner.isEmpty ? nil : "inner projections of delta nets"
  }

  /// What reads the mixer's input.
  var readers: [LinearSpec] {
    projections + (decay.second == nil ? [decay.first] : []) + [gate.first]
  }

  var parts: [(place: Tap.Place, readers: [LinearSpec])] {
    (keepsReaders ? [] : [(.input, readers)]) + [(.output, [output])]
  }
}

/// All `[T, heads * headDimension]` but strengths, which are `[T, heads]`.
struct ChannelDeltaProjections {
  let queries: Matrix
  let keys: Matrix
  let values: Matrix
  let gates: Matrix
  let strengths: Matrix
  let decays: Matrix
}

extension ChannelDeltaNetSpec {
  /// - Parameter x: `[T, H]`, what the mixer reads.
  func project(
    _ x: Matrix, weights: any LayerWeights, backend: Backend
  ) -> ChannelDeltaProjections {
    func apply(_ linear: LinearSpec) -> Matrix {
      weights.apply(linear, to: x, backend: backend, into: "queries, keys and values")
    }
    func apply(_ way: Way, _ name: String) -> Matrix {
      switch way {
      case .direct(let linear): return weights.apply(linear, to: x, backend: backend, into: name)
      case .narrow(let down, let up):
        let latent = weights.apply(down, to: x, backend: backend.exact, into: "latents")
        return weights.apply(up, to: latent, backend: backend.exact, into: name)
      }
    }
    return ChannelDeltaProjections(
      queries: apply(query.linear), keys: apply(key.linear), values: apply(value.linear),
      gates: apply(gate, "gates of a delta net"),
      strengths: weights.apply(
        strength, to: x, backend: backend.exact, into: "steps of a delta net"),
      decays: apply(decay, "decays of a delta net"))
  }

  /// What the output projection reads, `[T, heads * headDimension]`; it takes the place of the gates.
  ///
  /// - Parameters:
  ///   - projections: of whole sequences, one after the other.
  ///   - sequences: the rows of each sequence, which begins with nothing to remember.
  func remember(
    _ projections: consuming ChannelDeltaProjections, sequences: [Range<Int>],
    weights: any LayerWeights, backend: Backend
  ) -> Matrix {
    let parts = [projections.queries, projections.keys, projections.values]
    for (matrix, projection) in zip(parts, [query, key, value]) {
      projection.convolution.apply(
        in: matrix, sequences: sequences, activates: true, weights: weights, backend: backend)
    }
    let columns = parts.map { HeadColumns($0, first: 0, count: $0.columns) }
    let rule = DeltaRule(
      keyHeads: heads, valueHeads: heads, keyDimension: headDimension,
      valueDimension: headDimension)
    rule.normKeys(queries: columns[0], keys: columns[1], backend)
    finish(projections.strengths, projections.decays, weights, backend)
    rule.recur(
      queries: columns[0], keys: columns[1], values: columns[2], strengths: projections.strengths,
      decays: projections.decays, sequences: sequences, backend)
    gate(projections.values, projections.gates, weights, backend)
    return projections.gates
  }

  /// Rows of a task.
  private static let taskRows = 16

  /// What share of a change is made, and what share of a state is kept.
  private func finish(
    _ strengths: Matrix, _ decays: Matrix, _ weights: any LayerWeights, _ backend: Backend
  ) {
    let rates = weights.vector(decayRate.name).map { exp($0) }
    let biases = weights.vector(decayBias)
    backend.ledger.note(Operation(.elements, [strengths.count + decays.count]))
    let parts = ranges(of: decays.rows, by: Self.taskRows)
    backend.forEach(parts.count) { index in
      for place in parts[index] {
        unsafe sluice_sigmoid(strengths.row(place), heads)
        let decay = unsafe decays.row(place)
        for channel in 0..<decays.columns {
          let (x, rate) = unsafe (decay[channel] + biases[channel], rates[channel / headDimension])
          let logarithm = leastDecay.map { $0 / (1 + exp(-rate * x)) } ?? -rate * softened(x)
          unsafe decay[channel] = exp(logarithm)
        }
      }
    }
  }

  /// gates = norm(results) * sigmoid(gates).
  private func gate(
    _ results: Matrix, _ gates: Matrix, _ weights: any LayerWeights, _ backend: Backend
  ) {
    let gains = norm.gains(weights)
    backend.ledger.note(Operation(.elements, [2 * gates.count]))
    let parts = ranges(of: gates.rows, by: Self.taskRows)
    backend.forEach(parts.count) { index in
      for place in parts[index] {
        let (result, gate) = unsafe (results.row(place), gates.row(place))
        unsafe sluice_rms_norm(result, gains, norm.epsilon, heads, headDimension, result)
        unsafe sluice_sigmoid(gate, gates.columns)
        unsafe sluice_multiply(gate, result, gate, gates.columns)
      }
    }
  }
}
