// Causal grouped-query attention with optional norms of queries and keys, a reach and optional sinks.
//
// Source: Ainslie et al., arXiv:2305.13245; transformers `Glm4MoeAttention`, `Qwen3Attention`, `MistralAttention`, `GptOssAttention`.

internal import CKernels
internal import Glibc
internal import LinearAlgebra
internal import Tensors

package struct GroupedQuerySpec: Sendable, Equatable {
  package let query: LinearSpec
  package let key: LinearSpec
  /// Of values; the Linear of keys where one makes both.
  package let value: LinearSpec
  package let output: LinearSpec
  /// Norms of queries and keys before rotation: of each head, or of all heads together, as their sizes say.
  package let queryNorm: NormSpec?
  package let keyNorm: NormSpec?
  package let heads: Int
  package let keyValueHeads: Int
  package let headDimension: Int
  package let rotary: RotarySpec
  package let reach: Reach
  /// A tensor `[heads]`: one more score of each head's softmax, whose share of the values is nothing.
  package let sinks: String?
  /// What scores are multiplied with.
  package let scale: Float
  /// Of the mixer's input, `[heads * headDimension]`: what the output projection reads is multiplied by its sigmoid.
  package let gate: LinearSpec?
  /// Whether the projection of queries makes such gates, too: each head's query, then its gate.
  package let queryMakesGates: Bool
  /// Set where every head's value is normed without a weight: the epsilon.
  package let valueEpsilon: Float?
  /// Set where every head's query and key are normed without a weight: the epsilon.
  package let queryKeyEpsilon: Float?
  /// What makes queries sharper farther from the beginning.
  package let sharpening: Sharpening?

  /// Queries times 1 + strength * ln(1 + floor((position + 1) / period)).
  package struct Sharpening: Sendable, Equatable {
    package let strength: Float
    package let period: Float

    package init(strength: Float, period: Float) {
      self.strength = strength
      self.period = period
    }

    func factor(position: Int) -> Float {
      1 + strength * log1p(floor((Float(position) + 1) / period))
    }
  }

  /// - Parameter scale: nil for one over the root of the width of a head.
  package init(
    query: LinearSpec, key: LinearSpec, value: LinearSpec, output: LinearSpec,
    queryNorm: NormSpec?, keyNorm: NormSpec?, heads: Int, keyValueHeads: Int, headDimension: Int,
    rotary: RotarySpec, reach: Reach = .whole, sinks: String? = nil,
    scale: Float? = nil, valueEpsilon: Float? = nil, queryKeyEpsilon: Float? = nil,
    sharpening: Sharpening? = nil, gate: LinearSpec? = nil, queryMakesGates: Bool = false
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
    self.reach = reach
    self.queryKeyEpsilon = queryKeyEpsilon
    self.sharpening = sharpening
    self.sinks = sinks
    self.gate = gate
    self.queryMakesGates = queryMakesGates
    self.valueEpsilon = valueEpsilon
    self.scale = scale ?? 1 / Float(headDimension).squareRoot()
  }

  var vectors: [VectorSpec] { sinks.map { [VectorSpec($0, size: heads)] } ?? [] }

  var norms: [NormSpec] { [queryNorm, keyNorm].compactMap(\.self) }

  var parts: [(place: Tap.Place, readers: [LinearSpec])] {
    [(.input, projections + (gate.map { [$0] } ?? [])), (.output, [output])]
  }

  /// What reads the mixer's input, and inference engines load as one.
  var projections: [LinearSpec] { [query, key] + (value == key ? [] : [value]) }

  /// With fewer key-value heads than heads, one value channel feeds several inputs of the output projection.
  func smoothings(of branch: Int) -> [Smoothing] {
    if keyValueHeads != heads || value == key || valueEpsilon != nil { return [] }
    return [
      Smoothing(tap: Tap(branch, .output), producer: .linear(value), consumers: [output])
    ]
  }
}

/// Queries and gates `[T, heads * headDimension]`, keys and values `[T, keyValueHeads * headDimension]`.
struct QueriesKeysValues {
  let queries: Matrix
  let keys: Matrix
  let values: Matrix
  let gates: Matrix?
}

extension GroupedQuerySpec {
  /// - Parameter x: `[T, H]`, what the mixer reads.
  func project(_ x: Matrix, weights: any LayerWeights, workers: Workers) -> QueriesKeysValues {
    let (queries, gates) = makeQueries(x, weights: weights, workers: workers)
    let keys = weights.apply(key, to: x, workers: workers, into: "keys and values")
    return QueriesKeysValues(
      queries: queries, keys: keys,
      values: value == key
        ? keys.columns(0..<keys.columns, into: "keys and values", workers: workers)
        : weights.apply(value, to: x, workers: workers, into: "keys and values"),
      gates: gates)
  }

  private func makeQueries(
    _ x: Matrix, weights: any LayerWeights, workers: Workers
  ) -> (queries: Matrix, gates: Matrix?) {
    let made = weights.apply(query, to: x, workers: workers, into: "queries")
    guard queryMakesGates else {
      let gates = gate.map {
        weights.apply($0, to: x, workers: workers, into: "gates of attention")
      }
      return (made, gates)
    }
    func part(_ range: Range<Int>, _ name: String) -> Matrix {
      made.columns([range], ofEach: 2 * headDimension, into: name, workers: workers)
    }
    return (
      part(0..<headDimension, "queries"),
      part(headDimension..<2 * headDimension, "gates of attention")
    )
  }

  /// What the output projection reads, `[T, heads * headDimension]`; it takes the place of the queries.
  ///
  /// - Parameters:
  ///   - projections: of whole sequences, one after the other.
  ///   - sequences: the rows of each sequence; positions count from the start of each.
  func attend(
    _ projections: consuming QueriesKeysValues, sequences: [Range<Int>],
    weights: any LayerWeights, workers: Workers, tap: (Tap.Place, Matrix) -> Void,
    probe: OutputProbe? = nil
  ) -> Matrix {
    let (q, k, v) = (projections.queries, projections.keys, projections.values)
    let before = probe.map { _ in
      (
        queries: positioned(q, queryNorm, weights, workers),
        keys: positioned(k, keyNorm, weights, workers)
      )
    }
    if let queryKeyEpsilon {
      // Before they turn is as good as after it: no number has a weight of its own.
      for x in [q, k] {
        RMSNorm.apply(
          in: x, size: headDimension, gains: nil, epsilon: queryKeyEpsilon, workers: workers)
      }
    }
    if let sharpening {
      for sequence in sequences { sharpen(q, sequence, sharpening, workers) }
    }
    if let valueEpsilon {
      RMSNorm.apply(
        in: v, size: headDimension, gains: nil, epsilon: valueEpsilon, workers: workers)
    }
    RotaryTables.with(rotary, sequences: sequences, workers: workers) { sequence, table in
      position(q, heads: heads, norm: queryNorm, sequence, table, weights, workers)
      position(k, heads: keyValueHeads, norm: keyNorm, sequence, table, weights, workers)
    }
    for (part, kept) in [(KeyValueCache.Part.keys, k), (.values, v)] {
      tap(.cached(part), kept)
      weights.keep(kept, as: part, in: cache, workers: workers)
    }
    let sinks = sinks.map { weights.vector($0) }
    @Sendable func causal(_ head: Int) -> CausalHead {
      let own = HeadColumns(q, head, width: headDimension)
      let shared = head / (heads / keyValueHeads)
      return CausalHead(
        factors: [(own, HeadColumns(k, shared, width: headDimension))],
        values: HeadColumns(v, shared, width: headDimension), result: own,
        scale: scale, reach: reach, sink: sinks?[head])
    }
    if let probe, let before {
      lead(
        probe, back: causal, queries: before.queries, keys: before.keys,
        gates: projections.gates, sequences, workers)
    }
    workers.forEachHead(heads, of: sequences, width: 2 * headDimension, reach: reach) {
      head, sequence in causal(head).attend(sequence, from: workers.memory)
    }
    if let gates = projections.gates { q.multiply(bySigmoidOf: gates, workers: workers) }
    return q
  }

  private func sharpen(
    _ q: Matrix, _ sequence: Range<Int>, _ sharpening: Sharpening, _ workers: Workers
  ) {
    let parts = ranges(of: sequence.count, by: 64)
    workers.ledger.note(Operation(.elements, [sequence.count * q.columns]))
    workers.forEach(parts.count) { index in
      for offset in parts[index] {
        let row = unsafe q.row(sequence.lowerBound + offset)
        unsafe sluice_scale(row, sharpening.factor(position: offset), row, q.columns)
      }
    }
  }

  /// Norms and rotates every head of every token of a sequence, in place.
  private func position(
    _ x: Matrix, heads: Int, norm: NormSpec?, _ sequence: Range<Int>, _ table: RotaryTable,
    _ weights: any LayerWeights, _ workers: Workers
  ) {
    let weight = norm.map { $0.gains(weights) }
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
