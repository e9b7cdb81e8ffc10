// The gated delta rule: a state of a fixed size for each head, which forgets a share with every token and corrects what
// the token's key stands for.
//
// Source: Yang et al., arXiv:2412.06464; with a share for every channel of a key: Kimi Team, arXiv:2510.26692.

internal import CKernels
internal import Glibc
internal import LinearAlgebra
internal import Tensors

/// ln(1 + exp(x)), which is x for all that float32 tells apart.
func softened(_ x: Float) -> Float { x > 20 ? x : log1p(exp(x)) }

struct DeltaRule {
  let keyHeads: Int
  /// A multiple of `keyHeads`.
  let valueHeads: Int
  let keyDimension: Int
  let valueDimension: Int

  /// Rows of a task.
  private static let taskRows = 16
  /// What is added to the sum of a key's squares before it is divided by its root.
  private static let epsilon: Float = 1e-6

  /// Queries and keys get a length of 1; scores of queries are scaled as everywhere.
  ///
  /// - Parameters:
  ///   - queries: those of all heads, side by side.
  ///   - keys: those of all heads, side by side.
  func normKeys(queries: HeadColumns, keys: HeadColumns, _ backend: Backend) {
    let (rows, width) = (keys.matrix.rows, Float(keyDimension))
    let queryGains = [Float](repeating: 1 / width, count: keyDimension)
    let keyGains = [Float](repeating: 1 / width.squareRoot(), count: keyDimension)
    backend.ledger.note(Operation(.elements, [2 * rows * keys.count]))
    let parts = ranges(of: rows, by: Self.taskRows)
    backend.forEach(parts.count) { index in
      for place in parts[index] {
        let (query, key) = unsafe (queries.row(place), keys.row(place))
        // The mean of squares instead of their sum.
        let epsilon = Self.epsilon / width
        unsafe sluice_rms_norm(query, queryGains, epsilon, keyHeads, keyDimension, query)
        unsafe sluice_rms_norm(key, keyGains, epsilon, keyHeads, keyDimension, key)
      }
    }
  }

  /// Token by token, each head of each sequence for itself; results take the place of values.
  ///
  /// - Parameters:
  ///   - strengths: `[T, valueHeads]`, what share of a change is made.
  ///   - decays: what share of a state is kept: `[T, valueHeads]`, or `[T, valueHeads * keyDimension]` where each channel
  ///     of a key has its own.
  ///   - sequences: the rows of each sequence, which begins with nothing to remember.
  func recur(
    queries: HeadColumns, keys: HeadColumns, values: HeadColumns, strengths: Matrix,
    decays: Matrix, sequences: [Range<Int>], _ backend: Backend
  ) {
    // Every number of a state is read and written twice for each token.
    backend.ledger.note(
      Operation(.elements, [2 * values.matrix.rows * keyDimension * valueDimension]),
      times: Double(valueHeads))
    let (share, width) = (valueHeads / keyHeads, decays.columns / valueHeads)
    backend.forEachState(
      "states of a delta net", valueHeads, of: sequences, rows: keyDimension,
      columns: valueDimension
    ) { head, sequence, state in
      let (key, value) = (head / share * keyDimension, head * valueDimension)
      for token in sequence {
        unsafe sluice_delta_step(
          state.base, queries.row(token) + key, keys.row(token) + key, values.row(token) + value,
          decays.row(token) + head * width, width == 1 ? 0 : 1, strengths.row(token)[head],
          keyDimension, valueDimension, state.row(keyDimension))
      }
    }
  }
}
