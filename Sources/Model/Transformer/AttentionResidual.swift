// Attention residuals: a branch reads a mix of the states behind each block of layers and of what has been summed since.
//
// Source: Kimi Team, Kimi K3, arXiv:2607.24653, section 2.2; llm-compressor 0.14, modeling_kimi_linear.py,
// `_forward_attn_residual` and `_apply_attn_res`.

internal import CKernels
package import LinearAlgebra
package import Tensors

/// How a branch, or the final norm, reads states [b_0, ..., b_(n-1), s], `[T, (n + 1) * H]`: those behind n closed blocks of
/// layers, and the sum since, each `[T, H]`.
///
/// What is read is the sum of softmax(norm(v) · score) * v over all states v. What the branch makes is added to s.
package struct AttentionResidual: Sendable, Equatable {
  /// Of a state before it is scored.
  package let norm: NormSpec
  /// From a normed state to its score.
  package let score: LinearSpec
  /// n, where it reads.
  package let blocks: Int
  /// Whether s becomes a closed block behind the branch, and what the branch makes the new s.
  package let closes: Bool

  package init(norm: NormSpec, score: LinearSpec, blocks: Int, closes: Bool = false) {
    precondition(score.outputs == 1 && score.inputs == norm.size, "a state has one score")
    self.norm = norm
    self.score = score
    self.blocks = blocks
    self.closes = closes
  }

  /// H.
  package var width: Int { norm.size }

  /// How many states there are where it reads.
  package var states: Int { blocks + 1 }
}

/// Rows of a task.
private let taskRows = 16

extension AttentionResidual {
  /// What is read of x `[T, states * H]`, `[T, H]`.
  package func read(_ x: Matrix, weights: any LayerWeights, backend: Backend) -> Matrix {
    precondition(x.columns == states * width, "\(x.columns) columns for \(states) states")
    // One state is read as it is.
    if blocks == 0 { return x }
    let result = backend.matrix("mixed states", rows: x.rows, columns: width)
    // Of shapes there are no numbers.
    let gains = zip(norm.gains(weights), weights.vector(score.weight)).map { $0 * $1 }
    let parts = ranges(of: x.rows, by: taskRows)
    backend.ledger.note(Operation(.elements, [2 * x.count]))
    backend.forEach(parts.count) { index in
      var scores = [Float](repeating: 0, count: states)
      for row in parts[index] {
        unsafe sluice_mix_states(
          x.row(row), gains, norm.epsilon, states, width, &scores, result.row(row))
      }
    }
    return result
  }

  /// The sum since the last closed block, `[T, H]`.
  package func sum(of x: Matrix, backend: Backend) -> Matrix {
    blocks == 0
      ? x : x.columns(blocks * width..<x.columns, into: "summed states", backend: backend)
  }

  /// The states behind the branch.
  ///
  /// - Parameter made: what the branch makes, `[T, H]`.
  func join(_ made: Matrix, to x: Matrix, backend: Backend) -> Matrix {
    let name = "hidden states of a block"
    if closes { return x.beside(made, into: name, backend: backend) }
    let result = x.columns(0..<x.columns, into: name, backend: backend)
    add(made, to: result, backend: backend)
    return result
  }

  /// s += made.
  func add(_ made: Matrix, to x: Matrix, backend: Backend) {
    backend.ledger.note(Operation(.elements, [made.count]))
    let parts = ranges(of: x.rows, by: taskRows)
    backend.forEach(parts.count) { index in
      for row in parts[index] {
        unsafe sluice_add_scaled(made.row(row), 1, x.row(row) + blocks * width, width)
      }
    }
  }
}
