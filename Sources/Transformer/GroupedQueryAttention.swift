// Causal grouped-query attention with optional norms of queries and keys.
//
// Source: Ainslie et al., arXiv:2305.13245; transformers `Glm4MoeAttention`.

internal import CKernels
package import LinearAlgebra
package import Tensors

/// Queries `[T, heads * headDimension]`, keys and values `[T, keyValueHeads * headDimension]`.
package struct Projections {
  let queries: Matrix
  let keys: Matrix
  let values: Matrix
}

extension AttentionSpec {
  /// Queries of one task: rows of the score matrix that are held at a time.
  package static let queryRows = 128

  /// - Parameter x: `[T, H]`, the normed input.
  package func project(
    _ x: Matrix, weights: any LayerWeights, workers: Workers
  ) -> Projections {
    Projections(
      queries: weights.apply(query, to: x, workers: workers, into: "queries"),
      keys: weights.apply(key, to: x, workers: workers, into: "keys and values"),
      values: weights.apply(value, to: x, workers: workers, into: "keys and values"))
  }

  /// What the output projection reads, `[T, heads * headDimension]`; it takes the place of the queries.
  ///
  /// - Parameters:
  ///   - projections: of whole sequences, one after the other.
  ///   - sequences: the rows of each sequence; positions count from the start of each.
  package func attend(
    _ projections: consuming Projections, sequences: [Range<Int>], weights: any LayerWeights,
    workers: Workers
  ) -> Matrix {
    let (q, k, v) = (projections.queries, projections.keys, projections.values)
    let table = RotaryTable(rotary, positions: sequences.map(\.count).max() ?? 0)
    for sequence in sequences {
      position(q, heads: heads, norm: queryNorm, sequence, table, weights, workers)
      position(k, heads: keyValueHeads, norm: keyNorm, sequence, table, weights, workers)
    }
    let tasks = sequences.flatMap { sequence in (0..<heads).map { (sequence, $0) } }
    workers.forEach(tasks.count) { index in
      let (sequence, head) = tasks[index]
      attend(head: head, sequence, q, k, v, from: workers.memory)
    }
    return q
  }

  /// Norms and rotates every head of every token of a sequence, in place.
  private func position(
    _ x: Matrix, heads: Int, norm: NormSpec?, _ sequence: Range<Int>, _ table: RotaryTable,
    _ weights: any LayerWeights, _ workers: Workers
  ) {
    let weight = norm.map { weights.vector($0.weight) }
    let parts = ranges(of: sequence.count, by: 64)
    workers.forEach(parts.count) { index in
      for offset in parts[index] {
        let row = unsafe x.row(sequence.lowerBound + offset)
        if let norm, let weight {
          unsafe sluice_rms_norm(row, weight, norm.epsilon, heads, headDimension, row)
        }
        for head in 0..<heads {
          unsafe table.rotate(row + head * headDimension, position: offset)
        }
      }
    }
  }

  /// softmax(q kᵀ / sqrt(headDimension)) v for one head of one sequence, in the place of q, which nobody else reads;
  /// later keys are never multiplied.
  private func attend(
    head: Int, _ sequence: Range<Int>, _ q: Matrix, _ k: Matrix, _ v: Matrix,
    from memory: MemoryBudget
  ) {
    let start = sequence.lowerBound
    let column = head * headDimension
    let sharedColumn = head / (heads / keyValueHeads) * headDimension
    let scale = 1 / Float(headDimension).squareRoot()
    let scores = Matrix(
      "attention scores", rows: min(Self.queryRows, sequence.count), columns: sequence.count,
      from: memory)
    for rows in ranges(of: sequence.count, by: Self.queryRows) {
      let keys = rows.upperBound
      unsafe Gemm.product(
        transposeB: true, rows: rows.count, columns: keys, inner: headDimension,
        a: q.row(start + rows.lowerBound) + column, aStride: q.columns,
        b: k.row(start) + sharedColumn, bStride: k.columns,
        c: scores.base, cStride: scores.columns)
      for row in 0..<rows.count {
        let seen = rows.lowerBound + row + 1
        let weights = unsafe scores.row(row)
        unsafe sluice_softmax(weights, scale, seen)
        unsafe (weights + seen).update(repeating: 0, count: keys - seen)
      }
      unsafe Gemm.product(
        rows: rows.count, columns: headDimension, inner: keys,
        a: scores.base, aStride: scores.columns,
        b: v.row(start) + sharedColumn, bStride: v.columns,
        c: q.row(start + rows.lowerBound) + column, cStride: q.columns)
    }
  }
}
