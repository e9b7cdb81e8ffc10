// Multi-head latent attention: keys and values, and most often queries, are made of a narrow normed latent; a part of
// each head is rotated, and its key is one for all heads.
//
// Source: DeepSeek-V2, arXiv:2405.04434, section 2.1; transformers `DeepseekV3Attention`, `BailingHybridAttention` (gates).

internal import CKernels
internal import Glibc
internal import LinearAlgebra
internal import Tensors

package struct LatentSpec: Sendable, Equatable {
  /// Queries by way of a latent `[T, rank]`, or at once.
  package enum Query: Sendable, Equatable {
    case latent(down: LinearSpec, norm: NormSpec, up: LinearSpec)
    case direct(LinearSpec)
  }

  /// To `[T, heads * headDimension]`: each head's plain part, then its rotated one.
  package let query: Query
  /// To `[T, rank + rotary.dimensions]`: the latent, then the key's rotated part.
  package let keyValueDown: LinearSpec
  package let keyValueNorm: NormSpec
  /// To `[T, heads * (plainDimension + valueDimension)]`: each head's key, then its value.
  package let keyValueUp: LinearSpec
  package let output: LinearSpec
  package let heads: Int
  /// The width of the part of a query or key that is not rotated.
  package let plainDimension: Int
  package let valueDimension: Int
  package let rotary: RotarySpec
  /// Whether the part that may rotate does.
  package let turns: Bool
  /// What scores are multiplied with.
  package let scale: Float
  /// Of the mixer's input, to `[T, heads]` or `[T, heads * valueDimension]`: what the output projection reads of a head, or
  /// each number of it, is multiplied by the gate's sigmoid.
  package let gate: LinearSpec?
  /// Whether inference engines load the gate with what makes latents.
  package let loadsGateAsOne: Bool
  /// What chooses the tokens that are attended to where there are more than it may choose; none in most models.
  package let indexer: IndexerSpec?

  package init(
    query: Query, keyValueDown: LinearSpec, keyValueNorm: NormSpec, keyValueUp: LinearSpec,
    output: LinearSpec, heads: Int, plainDimension: Int, valueDimension: Int, rotary: RotarySpec,
    turns: Bool = true, scale: Float, gate: LinearSpec? = nil, loadsGateAsOne: Bool = false,
    indexer: IndexerSpec? = nil
  ) {
    self.query = query
    self.keyValueDown = keyValueDown
    self.keyValueNorm = keyValueNorm
    self.keyValueUp = keyValueUp
    self.output = output
    self.heads = heads
    self.plainDimension = plainDimension
    self.valueDimension = valueDimension
    self.rotary = rotary
    self.turns = turns
    self.scale = scale
    self.gate = gate
    self.loadsGateAsOne = loadsGateAsOne
    self.indexer = indexer
  }

  var headDimension: Int { plainDimension + rotary.dimensions }

  var norms: [NormSpec] {
    switch query {
    case .latent(_, let norm, _): [norm, keyValueNorm]
    case .direct: [keyValueNorm]
    }
  }

  /// What makes queries.
  var queryUp: LinearSpec {
    switch query {
    case .latent(_, _, let up): up
    case .direct(let linear): linear
    }
  }

  /// What reads the mixer's input, and inference engines load as one.
  var loadedAsOne: [LinearSpec] {
    switch query {
    case .latent(let down, _, _): [down, keyValueDown] + (loadsGateAsOne ? gates : [])
    case .direct(let linear): [linear, keyValueDown]
    }
  }

  private var gates: [LinearSpec] { gate.map { [$0] } ?? [] }

  /// What reads the mixer's input.
  private var readers: [LinearSpec] {
    let together = loadedAsOne
    return together + gates.filter { !together.contains($0) }
  }

  var parts: [(place: Tap.Place, readers: [LinearSpec])] {
    let input = (place: Tap.Place.input, readers: readers)
    let others: [(place: Tap.Place, readers: [LinearSpec])] = [
      (.keyValueLatent, [keyValueUp]), (.output, [output]),
    ]
    guard case .latent(_, _, let up) = query else { return [input] + others }
    return [input, (.queryLatent, [up])] + others
  }

  /// What the output projection reads is made of outputs that lie among others, and stays as it is.
  func smoothings(of branch: Int) -> [Smoothing] {
    let latent = Smoothing(
      tap: Tap(branch, .keyValueLatent), producer: .norm(keyValueNorm), consumers: [keyValueUp])
    guard case .latent(_, let norm, let up) = query else { return [latent] }
    return [
      Smoothing(
        tap: Tap(branch, .queryLatent), producer: .norm(norm),
        consumers: [up]
          + (indexer?.readers.filter { $0.place == .queryLatent }.map(\.linear) ?? [])), latent,
    ]
  }
}

/// Queries `[T, heads * headDimension]`, keys and values `[T, heads * (plain + value)]`, the rotated part of all keys
/// `[T, rotary]`, and gates as `gate` makes them.
struct LatentProjections {
  let queries: Matrix
  let keysAndValues: Matrix
  let rotatedKeys: Matrix
  let gates: Matrix?
}

extension LatentSpec {
  /// - Parameter x: `[T, H]`, what the mixer reads.
  func project(
    _ x: Matrix, weights: any LayerWeights, backend: Backend, tap: (Tap.Place, Matrix) -> Void
  ) -> LatentProjections {
    let queries = makeQueries(x, weights: weights, backend: backend, tap: tap)
    let (latent, rotated) = narrow(x, weights: weights, backend: backend)
    tap(.keyValueLatent, latent)
    return LatentProjections(
      queries: queries,
      keysAndValues: weights.apply(
        keyValueUp, to: latent, backend: backend, into: "keys and values"),
      rotatedKeys: rotated,
      gates: gate.map {
        weights.apply($0, to: x, backend: backend, into: "gates of attention")
      })
  }

  private func makeQueries(
    _ x: Matrix, weights: any LayerWeights, backend: Backend, tap: (Tap.Place, Matrix) -> Void
  ) -> Matrix {
    switch query {
    case .direct(let linear):
      return weights.apply(linear, to: x, backend: backend, into: "queries")
    case .latent(let down, let norm, let up):
      let latent = weights.apply(down, to: x, backend: backend, into: "latents")
      norm.apply(in: latent, weights: weights, backend: backend)
      tap(.queryLatent, latent)
      return weights.apply(up, to: latent, backend: backend, into: "queries")
    }
  }

  /// The normed latent of keys and values, and what will be rotated.
  private func narrow(
    _ x: Matrix, weights: any LayerWeights, backend: Backend
  ) -> (latent: Matrix, rotated: Matrix) {
    let both = weights.apply(keyValueDown, to: x, backend: backend, into: "latents")
    let rank = keyValueUp.inputs
    let latent = both.columns(0..<rank, into: "latents", backend: backend)
    let rotated = both.columns(rank..<both.columns, into: "rotated keys", backend: backend)
    keyValueNorm.apply(in: latent, weights: weights, backend: backend)
    return (latent, rotated)
  }

  /// What the output projection reads, `[T, heads * valueDimension]`.
  func attend(
    _ projections: consuming LatentProjections, sequences: [Range<Int>], backend: Backend,
    probe: OutputProbe? = nil
  ) -> Matrix {
    let (q, kv) = (projections.queries, projections.keysAndValues)
    let shared = projections.rotatedKeys
    if turns { rotate(q, shared, sequences, backend) }
    let result = backend.matrix("attention's outputs", rows: q.rows, columns: output.inputs)
    let both = plainDimension + valueDimension
    @Sendable func causal(_ head: Int) -> CausalHead {
      CausalHead(
        factors: [
          (plainQueries(q, head), HeadColumns(kv, first: head * both, count: plainDimension)),
          (rotatedQueries(q, head), HeadColumns(shared, first: 0, count: rotary.dimensions)),
        ],
        values: HeadColumns(kv, first: head * both + plainDimension, count: valueDimension),
        result: HeadColumns(result, head, width: valueDimension), scale: scale, reach: .whole)
    }
    let gates = projections.gates
    if let probe { lead(probe, back: causal, gates: gates, tokens: q.rows, sequences, backend) }
    backend.forEachHead(heads, of: sequences, width: headDimension + valueDimension) {
      head, sequence in causal(head).attend(sequence, from: backend.memory)
    }
    if let gates { result.multiply(by: gates, after: .sigmoid, backend: backend) }
    return result
  }

  private func plainQueries(_ q: Matrix, _ head: Int) -> HeadColumns {
    HeadColumns(q, first: head * headDimension, count: plainDimension)
  }

  private func rotatedQueries(_ q: Matrix, _ head: Int) -> HeadColumns {
    HeadColumns(q, first: head * headDimension + plainDimension, count: rotary.dimensions)
  }

  /// The Linears at whose outputs gradients are found, each with the outputs that belong together: those of a head.
  var probed: [(linear: LinearSpec, size: Int)] {
    [(queryUp, headDimension), (keyValueUp, plainDimension + valueDimension)]
  }

  /// Leads a probe back to the outputs of what makes queries, keys and values, one head after the other.
  private func lead(
    _ probe: OutputProbe, back causal: @Sendable (Int) -> CausalHead, gates: Matrix?, tokens: Int,
    _ sequences: [Range<Int>], _ backend: Backend
  ) {
    let both = plainDimension + valueDimension
    let (signs, memory) = (probe.signs, backend.memory)
    let work = backend.groupsBack(
      heads, heads: 1, of: sequences, width: headDimension + valueDimension,
      valueWidth: valueDimension, gradients: [headDimension, both], reach: .whole)
    RotaryTables.with(rotary, all: sequences, backend: backend) { tables in
      work.forEach { head in
        let q = Matrix("gradients", rows: tokens, columns: headDimension, from: memory)
        let kv = Matrix("gradients", rows: tokens, columns: both, from: memory)
        kv.fill(0)
        for sequence in sequences {
          CausalGradient(
            head: causal(head), queries: [plainQueries(q, 0), rotatedQueries(q, 0)],
            keys: [HeadColumns(kv, first: 0, count: plainDimension), nil],
            values: HeadColumns(kv, first: plainDimension, count: valueDimension)
          ) { tokens, result in
            signs.make(tokens, head: head, into: result, from: memory)
            guard let gates else { return }
            let each = gates.columns / heads
            for (row, token) in tokens.enumerated() {
              let (gate, result) = unsafe (gates.row(token) + head * each, result.row(row))
              if each == 1 {
                let share = unsafe 1 / (1 + exp(-gate[0]))
                unsafe sluice_scale(result, share, result, valueDimension)
                continue
              }
              for channel in 0..<valueDimension {
                unsafe result[channel] *= 1 / (1 + exp(-gate[channel]))
              }
            }
          }
          .add(sequence, from: memory)
          guard turns, let back = tables?.table(sequence.count).transposed else { continue }
          for (position, token) in sequence.enumerated() {
            unsafe back.rotate(q.row(token) + plainDimension, position: position)
          }
        }
        for (linear, gradient) in [(queryUp, q), (keyValueUp, kv)] {
          probe.found(linear, head, gradient)
        }
      }
    }
  }

  private func rotate(
    _ q: Matrix, _ shared: Matrix, _ sequences: [Range<Int>], _ backend: Backend
  ) {
    RotaryTables.with(rotary, sequences: sequences, backend: backend) { sequence, table in
      let parts = ranges(of: sequence.count, by: 64)
      backend.ledger.note(Operation(.elements, [sequence.count * q.columns]))
      backend.forEach(parts.count) { index in
        for offset in parts[index] {
          unsafe table.rotate(shared.row(sequence.lowerBound + offset), position: offset)
          let row = unsafe q.row(sequence.lowerBound + offset)
          for head in 0..<heads {
            unsafe table.rotate(row + head * headDimension + plainDimension, position: offset)
          }
        }
      }
    }
  }
}
