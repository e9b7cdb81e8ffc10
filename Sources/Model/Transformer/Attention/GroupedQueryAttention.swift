// Causal grouped-query attention with optional norms of queries and keys, a reach and optional sinks.
//
// Source: Ainslie et al., arXiv:2305.13245; transformers `Glm4MoeAttention`, `Qwen3Attention`, `MistralAttention`, `GptOssAttention`.

internal import CKernels
internal import Glibc
internal import LinearAlgebra
internal import Tensors

package struct GroupedQuerySpec: Sendable, Equatable {
  package let query: LinearSpec
  /// The Linear of queries where one makes all three: queries, then keys, then values.
  package let key: LinearSpec
  /// Of values; the Linear of keys where one makes both.
  package let value: LinearSpec
  package let output: LinearSpec
  /// Norms of queries and keys: of each head, or of all heads together, as their sizes say.
  package let queryNorm: NormSpec?
  package let keyNorm: NormSpec?
  /// Whether these norms stand behind the rotation, and not before it.
  package let normsFollowRotation: Bool
  package let heads: Int
  package let keyValueHeads: Int
  /// Of queries and keys.
  package let headDimension: Int
  package let valueDimension: Int
  package let rotary: RotarySpec
  package let reach: Reach
  /// A tensor `[heads]`: one more score of each head's softmax, whose share of the values is nothing.
  package let sinks: String?
  /// What scores are multiplied with.
  package let scale: Float
  /// What values are multiplied with.
  package let valueScale: Float
  /// Of the mixer's input, a gate for each number that the output projection reads, or one for each head.
  package let gate: LinearSpec?
  /// What is made of gates before what the output projection reads is multiplied by them.
  package let gateActivation: GateActivation
  /// Whether the projection of queries makes such gates, too: each head's query, then its gate.
  package let queryMakesGates: Bool
  /// Set where every head's value is normed without a weight: the epsilon.
  package let valueEpsilon: Float?
  /// Set where every head's query and key are normed without a weight: the epsilon.
  package let queryKeyEpsilon: Float?
  /// What makes queries sharper farther from the beginning.
  package let sharpening: Sharpening?
  /// What chooses the tokens that are attended to where there are more than it may choose; none in most models.
  package let indexer: IndexerSpec?

  package enum GateActivation: Sendable, Equatable {
    case sigmoid
    /// ln(1 + exp(x)).
    case softplus
  }

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

  /// - Parameters:
  ///   - valueDimension: nil for that of queries and keys.
  ///   - scale: nil for one over the root of the width of a head.
  package init(
    query: LinearSpec, key: LinearSpec, value: LinearSpec, output: LinearSpec,
    queryNorm: NormSpec?, keyNorm: NormSpec?, normsFollowRotation: Bool = false, heads: Int,
    keyValueHeads: Int, headDimension: Int, valueDimension: Int? = nil,
    rotary: RotarySpec, reach: Reach = .whole, sinks: String? = nil,
    scale: Float? = nil, valueScale: Float = 1, valueEpsilon: Float? = nil,
    queryKeyEpsilon: Float? = nil, sharpening: Sharpening? = nil, gate: LinearSpec? = nil,
    gateActivation: GateActivation = .sigmoid, queryMakesGates: Bool = false,
    indexer: IndexerSpec? = nil
  ) {
    self.query = query
    self.key = key
    self.value = value
    self.output = output
    self.queryNorm = queryNorm
    self.keyNorm = keyNorm
    self.normsFollowRotation = normsFollowRotation
    self.heads = heads
    self.keyValueHeads = keyValueHeads
    self.headDimension = headDimension
    self.valueDimension = valueDimension ?? headDimension
    self.rotary = rotary
    self.reach = reach
    self.queryKeyEpsilon = queryKeyEpsilon
    self.sharpening = sharpening
    self.indexer = indexer
    self.sinks = sinks
    self.valueScale = valueScale
    self.gate = gate
    self.gateActivation = gateActivation
    self.queryMakesGates = queryMakesGates
    self.valueEpsilon = valueEpsilon
    self.scale = scale ?? 1 / Float(headDimension).squareRoot()
  }

  var vectors: [VectorSpec] {
    (sinks.map { [VectorSpec($0, size: heads)] } ?? []) + (indexer?.vectors ?? [])
  }

  var norms: [NormSpec] { [queryNorm, keyNorm].compactMap(\.self) }

  var parts: [(place: Tap.Place, readers: [LinearSpec])] {
    [(.input, loadedAsOne + (gate.map { [$0] } ?? [])), (.output, [output])]
  }

  /// What reads the mixer's input, and inference engines load as one.
  var loadedAsOne: [LinearSpec] {
    guard let indexer, indexer.isLoadedWithKeys else { return projections }
    return projections + [indexer.query, indexer.key]
  }

  /// What makes queries, keys and values.
  var projections: [LinearSpec] {
    [query] + (key == query ? [] : [key]) + (value == key ? [] : [value])
  }

  /// Whether one Linear makes queries, keys and values.
  private var isJoined: Bool { key == query && value == query }

  /// Columns of queries, of keys and of values, for all heads.
  var widths: (queries: Int, keys: Int, values: Int) {
    (heads * headDimension, keyValueHeads * headDimension, keyValueHeads * valueDimension)
  }

  /// With fewer key-value heads than heads, one value channel feeds several inputs of the output projection. Where one
  /// Linear makes all three, values are its last outputs.
  func smoothings(of branch: Int) -> [Smoothing] {
    if keyValueHeads != heads || value == key && !isJoined || valueEpsilon != nil { return [] }
    return [
      Smoothing(
        tap: Tap(branch, .output), producer: .linear(value), channels: widths.values,
        consumers: [output])
    ]
  }
}

/// Queries and, where the projection of queries makes them, gates `[T, heads * headDimension]`; keys
/// `[T, keyValueHeads * headDimension]`, values `[T, keyValueHeads * valueDimension]`; other gates as their Linear says.
struct QueriesKeysValues {
  let queries: Matrix
  let keys: Matrix
  let values: Matrix
  let gates: Matrix?
}

extension GroupedQuerySpec {
  /// - Parameter x: `[T, H]`, what the mixer reads.
  func project(_ x: Matrix, weights: any LayerWeights, backend: Backend) -> QueriesKeysValues {
    if isJoined { return projectJoined(x, weights: weights, backend: backend) }
    let (queries, gates) = makeQueries(x, weights: weights, backend: backend)
    let keys = weights.apply(key, to: x, backend: backend, into: "keys and values")
    return QueriesKeysValues(
      queries: queries, keys: keys,
      values: value == key
        ? keys.columns(0..<keys.columns, into: "keys and values", backend: backend)
        : weights.apply(value, to: x, backend: backend, into: "keys and values"),
      gates: gates)
  }

  private func projectJoined(
    _ x: Matrix, weights: any LayerWeights, backend: Backend
  ) -> QueriesKeysValues {
    let all = weights.apply(query, to: x, backend: backend, into: "queries, keys and values")
    let (queries, keys, values) = widths
    func part(_ first: Int, _ count: Int, _ name: String) -> Matrix {
      all.columns(first..<first + count, into: name, backend: backend)
    }
    return QueriesKeysValues(
      queries: part(0, queries, "queries"), keys: part(queries, keys, "keys and values"),
      values: part(queries + keys, values, "keys and values"), gates: nil)
  }

  private func makeQueries(
    _ x: Matrix, weights: any LayerWeights, backend: Backend
  ) -> (queries: Matrix, gates: Matrix?) {
    let made = weights.apply(query, to: x, backend: backend, into: "queries")
    guard queryMakesGates else {
      let gates = gate.map {
        weights.apply($0, to: x, backend: backend, into: "gates of attention")
      }
      return (made, gates)
    }
    func part(_ range: Range<Int>, _ name: String) -> Matrix {
      made.columns([range], ofEach: 2 * headDimension, into: name, backend: backend)
    }
    return (
      part(0..<headDimension, "queries"),
      part(headDimension..<2 * headDimension, "gates of attention")
    )
  }

  /// What the output projection reads, `[T, heads * valueDimension]`; it takes the place of the queries where these are as
  /// wide.
  ///
  /// - Parameters:
  ///   - projections: of whole sequences, one after the other.
  ///   - sequences: the rows of each sequence; positions count from the start of each.
  func attend(
    _ projections: consuming QueriesKeysValues, sequences: [Range<Int>],
    weights: any LayerWeights, backend: Backend, tap: (Tap.Place, Matrix) -> Void,
    probe: OutputProbe? = nil
  ) -> Matrix {
    let (q, k, v) = (projections.queries, projections.keys, projections.values)
    let before = probe.map { _ in
      (
        queries: positioned(q, queryNorm, weights, backend),
        keys: positioned(k, keyNorm, weights, backend)
      )
    }
    if let queryKeyEpsilon {
      // Before they turn is as good as after it: no number has a weight of its own.
      for x in [q, k] {
        RMSNorm.apply(
          in: x, size: headDimension, gains: nil, epsilon: queryKeyEpsilon, backend: backend)
      }
    }
    if let sharpening {
      for sequence in sequences { sharpen(q, sequence, sharpening, backend) }
    }
    if let valueEpsilon {
      RMSNorm.apply(
        in: v, size: valueDimension, gains: nil, epsilon: valueEpsilon, backend: backend)
    }
    if valueScale != 1 { v.multiply(by: valueScale, backend: backend) }
    RotaryTables.with(rotary, sequences: sequences, backend: backend) { sequence, table in
      position(q, heads: heads, norm: queryNorm, sequence, table, weights, backend)
      position(k, heads: keyValueHeads, norm: keyNorm, sequence, table, weights, backend)
    }
    for (part, kept) in [(KeyValueCache.Part.keys, k), (.values, v)] {
      tap(.cached(part), kept)
      weights.keep(kept, as: part, in: cache, backend: backend)
    }
    let sinks = sinks.map { weights.vector($0) }
    let result =
      valueDimension == headDimension
      ? q
      : backend.matrix("attention's outputs", rows: q.rows, columns: heads * valueDimension)
    @Sendable func causal(_ head: Int) -> CausalHead {
      let shared = head / (heads / keyValueHeads)
      return CausalHead(
        factors: [
          (
            HeadColumns(q, head, width: headDimension),
            HeadColumns(k, shared, width: headDimension)
          )
        ],
        values: HeadColumns(v, shared, width: valueDimension),
        result: HeadColumns(result, head, width: valueDimension), scale: scale, reach: reach,
        sink: sinks?[head])
    }
    if let probe, let before {
      lead(
        probe, back: causal, queries: before.queries, keys: before.keys,
        gates: projections.gates, sequences, backend)
    }
    backend.forEachHead(heads, of: sequences, width: headDimension + valueDimension, reach: reach) {
      head, sequence in causal(head).attend(sequence, from: backend.memory)
    }
    if let gates = projections.gates {
      result.multiply(by: gates, after: gateActivation, backend: backend)
    }
    return result
  }

  private func sharpen(
    _ q: Matrix, _ sequence: Range<Int>, _ sharpening: Sharpening, _ backend: Backend
  ) {
    let parts = ranges(of: sequence.count, by: 64)
    backend.ledger.note(Operation(.elements, [sequence.count * q.columns]))
    backend.forEach(parts.count) { index in
      for offset in parts[index] {
        let row = unsafe q.row(sequence.lowerBound + offset)
        unsafe sluice_scale(row, sharpening.factor(position: offset), row, q.columns)
      }
    }
  }

  /// Norms and rotates every head of every token of a sequence, in place; or rotates and norms.
  private func position(
    _ x: Matrix, heads: Int, norm: NormSpec?, _ sequence: Range<Int>, _ table: RotaryTable,
    _ weights: any LayerWeights, _ backend: Backend
  ) {
    let weight = norm.map { $0.gains(weights) }
    let parts = ranges(of: sequence.count, by: 64)
    backend.ledger.note(Operation(.elements, [sequence.count * heads * headDimension]))
    backend.forEach(parts.count) { index in
      for offset in parts[index] {
        let row = unsafe x.row(sequence.lowerBound + offset)
        func normHeads() {
          guard let norm, let weight else { return }
          let normed = heads * headDimension / norm.size
          unsafe sluice_rms_norm(row, weight, norm.epsilon, normed, norm.size, row)
        }
        if !normsFollowRotation { normHeads() }
        for head in 0..<heads {
          unsafe table.rotate(row + head * headDimension, position: offset)
        }
        if normsFollowRotation { normHeads() }
      }
    }
  }
}
