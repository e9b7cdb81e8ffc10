// Causal grouped-query attention with optional norms of queries and keys and an optional window.
//
// Source: Ainslie et al., arXiv:2305.13245; transformers `Glm4MoeAttention`, `Qwen3Attention`, `MistralAttention`.

internal import CKernels
internal import LinearAlgebra
internal import Tensors

package struct GroupedQuerySpec: Sendable, Equatable {
  package let query: LinearSpec
  package let key: LinearSpec
  package let value: LinearSpec
  package let output: LinearSpec
  /// Norms of queries and keys before rotation: of each head, or of all heads together, as their sizes say.
  package let queryNorm: NormSpec?
  package let keyNorm: NormSpec?
  package let heads: Int
  package let keyValueHeads: Int
  package let headDimension: Int
  package let rotary: RotarySpec
  /// Tokens that a token sees, itself included; nil for all before it.
  package let window: Int?

  package init(
    query: LinearSpec, key: LinearSpec, value: LinearSpec, output: LinearSpec,
    queryNorm: NormSpec?, keyNorm: NormSpec?, heads: Int, keyValueHeads: Int, headDimension: Int,
    rotary: RotarySpec, window: Int? = nil
  ) {
    self.query = query
    self.key = key
    self.value = value
    self.output = output
    self.queryNorm = queryNorm
    self.keyNorm = keyNorm
    self.heads = heads
    self.keyValueHeads = keyValueHeads
    self.headDimension = headDimension
    self.rotary = rotary
    self.window = window
  }

  var norms: [NormSpec] { [queryNorm, keyNorm].compactMap(\.self) }

  var parts: [(place: Tap.Place, readers: [LinearSpec])] {
    [(.input, [query, key, value]), (.output, [output])]
  }

  /// With fewer key-value heads than heads, one value channel feeds several inputs of the output projection.
  func smoothings(of branch: Int) -> [Smoothing] {
    if keyValueHeads != heads { return [] }
    return [
      Smoothing(tap: Tap(branch, .output), producer: .linear(value), consumers: [output])
    ]
  }
}

/// Queries `[T, heads * headDimension]`, keys and values `[T, keyValueHeads * headDimension]`.
struct QueriesKeysValues {
  let queries: Matrix
  let keys: Matrix
  let values: Matrix
}

extension GroupedQuerySpec {
  /// - Parameter x: `[T, H]`, what the mixer reads.
  func project(_ x: Matrix, weights: any LayerWeights, workers: Workers) -> QueriesKeysValues {
    QueriesKeysValues(
      queries: weights.apply(query, to: x, workers: workers, into: "queries"),
      keys: weights.apply(key, to: x, workers: workers, into: "keys and values"),
      values: weights.apply(value, to: x, workers: workers, into: "keys and values"))
  }

  /// What the output projection reads, `[T, heads * headDimension]`; it takes the place of the queries.
  ///
  /// - Parameters:
  ///   - projections: of whole sequences, one after the other.
  ///   - sequences: the rows of each sequence; positions count from the start of each.
  func attend(
    _ projections: consuming QueriesKeysValues, sequences: [Range<Int>],
    weights: any LayerWeights, workers: Workers, tap: (Tap.Place, Matrix) -> Void
  ) -> Matrix {
    let (q, k, v) = (projections.queries, projections.keys, projections.values)
    RotaryTables.with(rotary, sequences: sequences, workers: workers) { sequence, table in
      position(q, heads: heads, norm: queryNorm, sequence, table, weights, workers)
      position(k, heads: keyValueHeads, norm: keyNorm, sequence, table, weights, workers)
    }
    for (part, kept) in [(KeyValueCache.Part.keys, k), (.values, v)] {
      tap(.cached(part), kept)
      weights.keep(kept, as: part, in: cache, workers: workers)
    }
    workers.forEachHead(heads, of: sequences, width: 2 * headDimension, window: window) {
      head, sequence in
      let own = HeadColumns(q, head, width: headDimension)
      let shared = head / (heads / keyValueHeads)
      CausalHead(
        factors: [(own, HeadColumns(k, shared, width: headDimension))],
        values: HeadColumns(v, shared, width: headDimension), result: own,
        scale: 1 / Float(headDimension).squareRoot(), window: window
      ).attend(sequence, from: workers.memory)
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
    workers.ledger.note(Operation(.elements, [sequence.count * heads * headDimension]))
    workers.forEach(parts.count) { index in
      for offset in parts[index] {
        let row = unsafe x.row(sequence.lowerBound + offset)
        if let norm, let weight {
          let normed = heads * headDimension / norm.size
          unsafe sluice_rms_norm(row, weight, norm.epsilon, normed, norm.size, row)
        }
        for head in 0..<heads {
          unsafe table.rotate(row + head * headDimension, position: offset)
        }
      }
    }
  }
}
