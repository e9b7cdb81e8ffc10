// Mamba-2: each head keeps a state of a fixed size, to which every token adds, and of which a share is forgotten that the
// token chooses.
//
// Source: Dao and Gu, arXiv:2405.21060; transformers `NemotronHMamba2Mixer`, `GraniteMoeHybridMambaLayer`.

internal import CKernels
internal import Glibc
internal import LinearAlgebra
internal import Tensors

package struct StateSpaceSpec: Sendable, Equatable {
  /// To gates, values, keys, queries and steps, in this order: gates and values `[T, heads * headDimension]`, keys and
  /// queries `[T, groups * stateSize]`, steps `[T, heads]`.
  package let input: LinearSpec
  package let output: LinearSpec
  /// Of values, keys and queries.
  package let convolution: CausalConvolution
  /// Of the gated results: a weight for every channel.
  package let norm: NormSpec
  /// Channels that are normed together.
  package let normWidth: Int
  package let heads: Int
  package let headDimension: Int
  /// Groups of heads, each with one key and one query.
  package let groups: Int
  package let stateSize: Int
  /// Tensors `[heads]`: the logarithm of how fast each forgets, what is added to its steps, and the share of its values
  /// that passes by the state.
  package let decayRate: String
  package let stepBias: String
  package let skip: String
  /// What steps are held within.
  package let steps: ClosedRange<Float>

  package init(
    input: LinearSpec, output: LinearSpec, convolution: CausalConvolution, norm: NormSpec,
    normWidth: Int, heads: Int, headDimension: Int, groups: Int, stateSize: Int,
    decayRate: String, stepBias: String, skip: String, steps: ClosedRange<Float>
  ) {
    self.input = input
    self.output = output
    self.convolution = convolution
    self.norm = norm
    self.normWidth = normWidth
    self.heads = heads
    self.headDimension = headDimension
    self.groups = groups
    self.stateSize = stateSize
    self.decayRate = decayRate
    self.stepBias = stepBias
    self.skip = skip
    self.steps = steps
  }

  /// Columns of all values, and of their gates.
  private var values: Int { heads * headDimension }
  /// Columns of all keys, and of all queries.
  private var keys: Int { groups * stateSize }

  var vectors: [VectorSpec] {
    convolution.vectors + [decayRate, stepBias, skip].map { VectorSpec($0, size: heads) }
  }

  var parts: [(place: Tap.Place, readers: [LinearSpec])] {
    [(.input, [input]), (.output, [output])]
  }

  /// The norm is the last thing before the output projection, and has a weight for each of its inputs.
  func smoothings(of branch: Int) -> [Smoothing] {
    [Smoothing(tap: Tap(branch, .output), producer: .norm(norm), consumers: [output])]
  }
}

/// Values, keys and queries side by side, `[T, channels]`; gates `[T, values]`; steps `[T, heads]`.
struct StateSpaceProjections {
  let mixed: Matrix
  let gates: Matrix
  let steps: Matrix
}

extension StateSpaceSpec {
  /// - Parameter x: `[T, H]`, what the mixer reads.
  func project(
    _ x: Matrix, weights: any LayerWeights, backend: Backend
  ) -> StateSpaceProjections {
    let all = weights.apply(
      input, to: x, backend: backend, into: "projections of a state space")
    let channels = convolution.channels
    func part(_ start: Int, _ count: Int, _ name: String) -> Matrix {
      all.columns(start..<start + count, into: name, backend: backend)
    }
    return StateSpaceProjections(
      mixed: part(values, channels, "values, keys and queries"),
      gates: part(0, values, "gates of a state space"),
      steps: part(values + channels, heads, "steps of a state space"))
  }

  /// What the output projection reads, `[T, values]`; it takes the place of the gates.
  ///
  /// - Parameters:
  ///   - projections: of whole sequences, one after the other.
  ///   - sequences: the rows of each sequence, which begins with nothing to remember.
  func remember(
    _ projections: consuming StateSpaceProjections, sequences: [Range<Int>],
    weights: any LayerWeights, backend: Backend
  ) -> Matrix {
    let (mixed, gates) = (projections.mixed, projections.gates)
    convolution.apply(
      in: mixed, sequences: sequences, activates: true, weights: weights, backend: backend)
    recur(mixed, projections.steps, sequences, weights, backend)
    gate(mixed, gates, weights, backend)
    return gates
  }

  /// Rows of a task.
  private static let taskRows = 16

  /// Token by token, each head of each sequence for itself; results take the place of values.
  private func recur(
    _ mixed: Matrix, _ steps: Matrix, _ sequences: [Range<Int>], _ weights: any LayerWeights,
    _ backend: Backend
  ) {
    let rates = weights.vector(decayRate).map { exp($0) }
    let (biases, skips) = (weights.vector(stepBias), weights.vector(skip))
    // Every number of a state is read and written for each token, and read once more.
    backend.ledger.note(
      Operation(.elements, [2 * mixed.rows * stateSize * headDimension]), times: Double(heads))
    backend.forEachState(
      "states of a state space", heads, of: sequences, rows: stateSize, columns: headDimension
    ) { head, sequence, state in
      let key = values + head / (heads / groups) * stateSize
      for token in sequence {
        let row = unsafe mixed.row(token)
        let step = unsafe min(
          max(softened(steps.row(token)[head] + biases[head]), self.steps.lowerBound),
          self.steps.upperBound)
        unsafe sluice_state_step(
          state.base, row + key + keys, row + key, row + head * headDimension,
          exp(-rates[head] * step), step, skips[head], stateSize, headDimension,
          state.row(stateSize))
      }
    }
  }

  /// gates = norm(results * silu(gates)).
  private func gate(
    _ mixed: Matrix, _ gates: Matrix, _ weights: any LayerWeights, _ backend: Backend
  ) {
    let gains = norm.gains(weights)
    backend.ledger.note(Operation(.elements, [2 * gates.count]))
    let parts = ranges(of: gates.rows, by: Self.taskRows)
    backend.forEach(parts.count) { index in
      unsafe gains.withUnsafeBufferPointer { gains in
        guard let gains = gains.baseAddress else { return }
        for place in parts[index] {
          let (result, gate) = unsafe (mixed.row(place), gates.row(place))
          unsafe sluice_silu(gate, values)
          unsafe sluice_multiply(gate, result, gate, values)
          for start in stride(from: 0, to: values, by: normWidth) {
            unsafe sluice_rms_norm(
              gate + start, gains + start, norm.epsilon, 1, normWidth, gate + start)
          }
        }
      }
    }
  }
}
