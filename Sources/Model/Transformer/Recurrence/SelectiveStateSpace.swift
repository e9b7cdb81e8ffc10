// Mamba, the first: every channel keeps a state of a fixed size, to which every token adds, and of which a share is
// forgotten that the token chooses for that channel.
//
// Source: Gu and Dao, arXiv:2312.00752; Lieber et al., arXiv:2403.19887 (norms within); transformers `JambaMambaMixer`.

internal import CKernels
internal import Glibc
internal import LinearAlgebra
internal import Tensors

/// Its Linears stay as they are: vLLM loads none of them otherwise.
package struct SelectiveSpec: Sendable, Equatable {
  /// To values and gates, each `[T, channels]`.
  package let input: LinearSpec
  package let convolution: CausalConvolution
  /// Of convolved values, to a latent of steps `[T, rank]`, keys and queries, each `[T, stateSize]`.
  package let selection: LinearSpec
  /// Of the normed latent, to steps `[T, channels]`.
  package let step: LinearSpec
  package let output: LinearSpec
  package let stepNorm: NormSpec
  package let keyNorm: NormSpec
  package let queryNorm: NormSpec
  package let stateSize: Int
  /// A tensor `[channels, stateSize]`: the logarithm of how fast each number of a state is forgotten.
  package let decayRate: String
  /// A tensor `[channels]`: the share of values that passes by the state.
  package let skip: String

  package init(
    input: LinearSpec, convolution: CausalConvolution, selection: LinearSpec, step: LinearSpec,
    output: LinearSpec, stepNorm: NormSpec, keyNorm: NormSpec, queryNorm: NormSpec, stateSize: Int,
    decayRate: String, skip: String
  ) {
    self.input = input
    self.convolution = convolution
    self.selection = selection
    self.step = step
    self.output = output
    self.stepNorm = stepNorm
    self.keyNorm = keyNorm
    self.queryNorm = queryNorm
    self.stateSize = stateSize
    self.decayRate = decayRate
    self.skip = skip
  }

  private var channels: Int { convolution.channels }

  var norms: [NormSpec] { [stepNorm, keyNorm, queryNorm] }

  var vectors: [VectorSpec] {
    convolution.vectors + [
      VectorSpec(decayRate, shape: [channels, stateSize]), VectorSpec(skip, size: channels),
    ]
  }

  /// What reads neither the mixer's input nor what a place shows.
  var inner: [LinearSpec] { [selection, step, output] }
}

extension SelectiveSpec {
  /// - Parameter x: `[T, H]`, what the mixer reads.
  func project(
    _ x: Matrix, weights: any LayerWeights, backend: Backend
  ) -> (values: Matrix, gates: Matrix) {
    let both = weights.apply(
      input, to: x, backend: backend, into: "projections of a state space")
    return (
      both.columns(0..<channels, into: "values of a state space", backend: backend),
      both.columns(channels..<2 * channels, into: "gates of a state space", backend: backend)
    )
  }

  /// What the output projection reads, `[T, channels]`; it takes the place of the values.
  ///
  /// - Parameters:
  ///   - projections: of whole sequences, one after the other.
  ///   - sequences: the rows of each sequence, which begins with nothing to remember.
  func remember(
    _ projections: consuming (values: Matrix, gates: Matrix), sequences: [Range<Int>],
    weights: any LayerWeights, backend: Backend
  ) -> Matrix {
    let (values, gates) = (projections.values, projections.gates)
    convolution.apply(
      in: values, sequences: sequences, activates: true, weights: weights, backend: backend)
    let selected = weights.apply(
      selection, to: values, backend: backend.exact, into: "selections of a state space")
    func part(_ start: Int, _ norm: NormSpec) -> Matrix {
      let result = selected.columns(
        start..<start + norm.size, into: "selections of a state space", backend: backend)
      norm.apply(in: result, weights: weights, backend: backend)
      return result
    }
    let steps = weights.apply(
      step, to: part(0, stepNorm), backend: backend.exact, into: "steps of a state space")
    let keys = part(stepNorm.size, keyNorm)
    let queries = part(stepNorm.size + stateSize, queryNorm)
    soften(steps, backend)
    recur(
      values: values, keys: keys, queries: queries, steps: steps, sequences, weights, backend)
    gate(values, gates, backend)
    return values
  }

  /// Rows of a task.
  private static let taskRows = 16
  /// Channels of a task.
  private static let taskChannels = 256

  private func soften(_ steps: Matrix, _ backend: Backend) {
    backend.ledger.note(Operation(.elements, [steps.count]))
    let parts = ranges(of: steps.rows, by: Self.taskRows)
    backend.forEach(parts.count) { index in
      for place in parts[index] {
        let row = unsafe steps.row(place)
        for channel in 0..<channels { unsafe row[channel] = softened(row[channel]) }
      }
    }
  }

  /// Token by token, some channels of each sequence for themselves; results take the place of values.
  private func recur(
    values: Matrix, keys: Matrix, queries: Matrix, steps: Matrix, _ sequences: [Range<Int>],
    _ weights: any LayerWeights, _ backend: Backend
  ) {
    let stored = weights.vector(decayRate)
    backend.holding("decay rates of a state space", bytes: 8 * channels * stateSize) {
      // Number by number of a state; of shapes there are none.
      let rates = (0..<stateSize).flatMap { number in
        stride(from: number, to: stored.count, by: stateSize).map { exp(stored[$0]) }
      }
      let skips = weights.vector(skip)
      // Every number of a state is read and written for each token, and read once more.
      backend.ledger.note(Operation(.elements, [2 * values.count]), times: Double(stateSize))
      let width = min(Self.taskChannels, channels)
      let parts = ranges(of: channels, by: width)
      backend.forEachState(
        "states of a state space", parts.count, of: sequences, rows: stateSize, columns: width
      ) { index, sequence, state in
        let part = parts[index]
        unsafe rates.withUnsafeBufferPointer { rates in
          unsafe skips.withUnsafeBufferPointer { skips in
            guard let rates = rates.baseAddress, let skips = skips.baseAddress else { return }
            for token in sequence {
              unsafe sluice_selective_step(
                state.base, rates + part.lowerBound, channels, queries.row(token), keys.row(token),
                steps.row(token) + part.lowerBound, skips + part.lowerBound,
                values.row(token) + part.lowerBound, stateSize, part.count, state.row(stateSize))
            }
          }
        }
      }
    }
  }

  /// results *= silu(gates), which are used up.
  private func gate(_ results: Matrix, _ gates: Matrix, _ backend: Backend) {
    backend.ledger.note(Operation(.elements, [gates.count]))
    let parts = ranges(of: gates.rows, by: Self.taskRows)
    backend.forEach(parts.count) { index in
      let part = parts[index]
      unsafe sluice_swiglu(
        gates.row(part.lowerBound), results.row(part.lowerBound), part.count * channels)
    }
  }
}
