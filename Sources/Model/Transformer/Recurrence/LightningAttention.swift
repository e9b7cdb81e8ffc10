// Lightning attention: each head adds up values by their keys in a state of a fixed size, of which a share is forgotten with
// every token, as much with each.
//
// Source: Qin et al., arXiv:2405.17381; MiniMax, arXiv:2501.08313; transformers `MiniMaxLightningAttention`.

internal import CKernels
internal import LinearAlgebra
internal import Tensors

package struct LightningSpec: Sendable, Equatable {
  /// To `[T, heads * 3 * headDimension]`: each head's query, key and value, before SiLU.
  package let projection: LinearSpec
  /// To `[T, heads * headDimension]`: what the output projection reads is multiplied by its sigmoid.
  package let gate: LinearSpec
  package let output: LinearSpec
  /// Of the results of all heads, before they are gated: a weight for every channel.
  package let norm: NormSpec
  package let headDimension: Int
  /// What share of its state each head keeps with a token.
  package let decays: [Float]

  package init(
    projection: LinearSpec, gate: LinearSpec, output: LinearSpec, norm: NormSpec,
    headDimension: Int, decays: [Float]
  ) {
    self.projection = projection
    self.gate = gate
    self.output = output
    self.norm = norm
    self.headDimension = headDimension
    self.decays = decays
  }

  var heads: Int { decays.count }

  var parts: [(place: Tap.Place, readers: [LinearSpec])] {
    [(.input, [projection, gate]), (.output, [output])]
  }

  /// A gate for each number stands between the norm and the output projection, which changes nothing of its scale.
  func smoothings(of branch: Int) -> [Smoothing] {
    [Smoothing(tap: Tap(branch, .output), producer: .norm(norm), consumers: [output])]
  }
}

extension LightningSpec {
  /// - Parameter x: `[T, H]`, what the mixer reads.
  func project(
    _ x: Matrix, weights: any LayerWeights, backend: Backend
  ) -> (mixed: Matrix, gates: Matrix) {
    (
      weights.apply(
        projection, to: x, backend: backend, into: "queries, keys and values"),
      weights.apply(gate, to: x, backend: backend, into: "gates of attention")
    )
  }

  /// What the output projection reads, `[T, heads * headDimension]`.
  ///
  /// - Parameters:
  ///   - projections: of whole sequences, one after the other.
  ///   - sequences: the rows of each sequence, which begins with nothing to remember.
  func remember(
    _ projections: consuming (mixed: Matrix, gates: Matrix), sequences: [Range<Int>],
    weights: any LayerWeights, backend: Backend
  ) -> Matrix {
    let (mixed, gates) = (projections.mixed, projections.gates)
    activate(mixed, backend)
    recur(mixed, sequences, backend)
    let width = headDimension
    let result = mixed.columns(
      [2 * width..<3 * width], ofEach: 3 * width, into: "attention's outputs", backend: backend)
    norm.apply(in: result, weights: weights, backend: backend)
    result.multiply(by: gates, after: .sigmoid, backend: backend)
    return result
  }

  private func activate(_ mixed: Matrix, _ backend: Backend) {
    backend.ledger.note(Operation(.elements, [mixed.count]))
    let parts = ranges(of: mixed.rows, by: 16)
    backend.forEach(parts.count) { index in
      let part = parts[index]
      unsafe sluice_silu(mixed.row(part.lowerBound), part.count * mixed.columns)
    }
  }

  /// Token by token, each head of each sequence for itself; results take the place of values.
  private func recur(_ mixed: Matrix, _ sequences: [Range<Int>], _ backend: Backend) {
    let width = headDimension
    // Every number of a state is read and written for each token, and read once more.
    backend.ledger.note(
      Operation(.elements, [2 * mixed.rows * width * width]), times: Double(heads))
    backend.forEachState(
      "states of lightning attention", heads, of: sequences, rows: width, columns: width
    ) { head, sequence, state in
      for token in sequence {
        let query = unsafe mixed.row(token) + head * 3 * width
        unsafe sluice_state_step(
          state.base, query, query + width, query + 2 * width, decays[head], 1, 0, width, width,
          state.row(width))
      }
    }
  }
}
