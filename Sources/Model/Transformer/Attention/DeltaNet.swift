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
  /// A tensor `[channels, 1, taps]`: what queries, keys and values are mixed with those of the tokens before by.
  package let convolution: String
  package let taps: Int
  /// Tensors `[valueHeads]`: the logarithm of how fast each forgets, and what is added to its decays.
  package let decayRate: String
  package let decayBias: String

  package init(
    input: Input, output: LinearSpec, norm: NormSpec, keyHeads: Int, valueHeads: Int,
    keyDimension: Int, valueDimension: Int, convolution: String, taps: Int, decayRate: String,
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
    self.taps = taps
    self.decayRate = decayRate
    self.decayBias = decayBias
  }

  /// Columns of all queries, and of all keys.
  private var keys: Int { keyHeads * keyDimension }
  /// Columns of all values, and of their gates.
  private var values: Int { valueHeads * valueDimension }
  /// Columns that are convolved: queries, keys, values.
  private var channels: Int { 2 * keys + values }
  /// Value heads that one key head serves.
  private var share: Int { valueHeads / keyHeads }

  var vectors: [VectorSpec] {
    [
      VectorSpec(convolution, shape: [channels, 1, taps]),
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
    _ x: Matrix, weights: any LayerWeights, workers: Workers
  ) -> DeltaProjections {
    func apply(_ linear: LinearSpec, _ name: String) -> Matrix {
      weights.apply(linear, to: x, workers: workers, into: name)
    }
    func applyExactly(_ linear: LinearSpec) -> Matrix {
      weights.apply(linear, to: x, workers: workers.exact, into: Self.stepsName)
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
        numbers.columns([range], ofEach: 2 * share, into: Self.stepsName, workers: workers)
      }
      return DeltaProjections(
        mixed: both.columns(
          [0..<key, key..<2 * key, 2 * key..<2 * key + value], ofEach: width,
          into: Self.mixedName, workers: workers),
        gates: both.columns(
          [width - value..<width], ofEach: width, into: Self.gatesName, workers: workers),
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
    weights: any LayerWeights, workers: Workers
  ) -> Matrix {
    let (mixed, gates) = (projections.mixed, projections.gates)
    convolve(mixed, sequences, weights, workers)
    normKeys(mixed, workers)
    finish(projections.strengths, projections.decays, weights, workers)
    recur(mixed, projections.strengths, projections.decays, sequences, workers)
    gate(mixed, gates, weights, workers)
    return gates
  }

  /// Channels of a task.
  private static let taskChannels = 512
  /// Rows of a task.
  private static let taskRows = 16

  /// Every channel of every token with those of the tokens just before it, then SiLU, in place.
  private func convolve(
    _ mixed: Matrix, _ sequences: [Range<Int>], _ weights: any LayerWeights, _ workers: Workers
  ) {
    let stored = weights.vector(convolution)
    // Tap by tap; of shapes there are no numbers.
    let kernel = (0..<taps).flatMap { tap in
      stride(from: tap, to: stored.count, by: taps).map { stored[$0] }
    }
    workers.ledger.note(Operation(.elements, [(taps + 1) * mixed.count]))
    let parts = ranges(of: channels, by: Self.taskChannels)
    let tasks = sequences.flatMap { sequence in parts.map { (sequence, $0) } }
    workers.forEach(tasks.count) { index in
      let (sequence, part) = tasks[index]
      unsafe kernel.withUnsafeBufferPointer { kernel in
        guard let kernel = kernel.baseAddress else { return }
        unsafe sluice_causal_convolution(
          mixed.row(sequence.lowerBound) + part.lowerBound, kernel + part.lowerBound, taps,
          sequence.count, part.count, channels)
      }
      for token in sequence {
        unsafe sluice_silu(mixed.row(token) + part.lowerBound, part.count)
      }
    }
  }

  /// What is added to the sum of a key's squares before it is divided by its root.
  private static let epsilon: Float = 1e-6

  /// Queries and keys get a length of 1; scores of queries are scaled as everywhere.
  private func normKeys(_ mixed: Matrix, _ workers: Workers) {
    let width = Float(keyDimension)
    let queryGains = [Float](repeating: 1 / width, count: keyDimension)
    let keyGains = [Float](repeating: 1 / width.squareRoot(), count: keyDimension)
    workers.ledger.note(Operation(.elements, [2 * mixed.rows * keys]))
    let parts = ranges(of: mixed.rows, by: Self.taskRows)
    workers.forEach(parts.count) { index in
      for place in parts[index] {
        let row = unsafe mixed.row(place)
        // The mean of squares instead of their sum.
        let epsilon = Self.epsilon / width
        unsafe sluice_rms_norm(row, queryGains, epsilon, keyHeads, keyDimension, row)
        unsafe sluice_rms_norm(row + keys, keyGains, epsilon, keyHeads, keyDimension, row + keys)
      }
    }
  }

  /// What share of a change is made, and what share of a state is kept.
  private func finish(
    _ strengths: Matrix, _ decays: Matrix, _ weights: any LayerWeights, _ workers: Workers
  ) {
    let rates = weights.vector(decayRate).map { exp($0) }
    let biases = weights.vector(decayBias)
    workers.ledger.note(Operation(.elements, [2 * decays.count]))
    let parts = ranges(of: decays.rows, by: Self.taskRows)
    workers.forEach(parts.count) { index in
      for place in parts[index] {
        unsafe sluice_sigmoid(strengths.row(place), valueHeads)
        let decay = unsafe decays.row(place)
        for head in 0..<valueHeads {
          let x = unsafe decay[head] + biases[head]
          // ln(1 + exp(x)), which is x for all that float32 tells apart.
          let softened = x > 20 ? x : log1p(exp(x))
          unsafe decay[head] = exp(-rates[head] * softened)
        }
      }
    }
  }

  /// Token by token, each head of each sequence for itself; results take the place of values.
  private func recur(
    _ mixed: Matrix, _ strengths: Matrix, _ decays: Matrix, _ sequences: [Range<Int>],
    _ workers: Workers
  ) {
    // Every number of a state is read and written twice for each token.
    workers.ledger.note(
      Operation(.elements, [2 * mixed.rows * keyDimension * valueDimension]),
      times: Double(valueHeads))
    let state = TaskBuffer("states of a delta net", floats: (keyDimension + 1) * valueDimension)
    let tasks = sequences.flatMap { sequence in (0..<valueHeads).map { (sequence, $0) } }
    workers.forEach(tasks.count, each: [state]) { index in
      let (sequence, head) = tasks[index]
      let state = Matrix(
        "states of a delta net", rows: keyDimension + 1, columns: valueDimension,
        from: workers.memory)
      state.fill(0)
      let (query, value) = (head / share * keyDimension, 2 * keys + head * valueDimension)
      for token in sequence {
        let row = unsafe mixed.row(token)
        unsafe sluice_delta_step(
          state.base, row + query, row + keys + query, row + value, decays.row(token)[head],
          strengths.row(token)[head], keyDimension, valueDimension, state.row(keyDimension))
      }
    }
  }

  /// gates = norm(results) * silu(gates).
  private func gate(
    _ mixed: Matrix, _ gates: Matrix, _ weights: any LayerWeights, _ workers: Workers
  ) {
    let gains = norm.gains(weights)
    workers.ledger.note(Operation(.elements, [2 * gates.count]))
    let parts = ranges(of: gates.rows, by: Self.taskRows)
    workers.forEach(parts.count) { index in
      for place in parts[index] {
        let (result, gate) = unsafe (mixed.row(place) + 2 * keys, gates.row(place))
        unsafe sluice_rms_norm(result, gains, norm.epsilon, valueHeads, valueDimension, result)
        unsafe sluice_silu(gate, values)
        unsafe sluice_multiply(gate, result, gate, values)
      }
    }
  }
}
