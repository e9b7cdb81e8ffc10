// Which way errors of queries, keys and values go: gradients at the outputs of their Linears, of probes behind attention.

internal import CKernels
package import LinearAlgebra
package import Tensors

/// Random probes at what the output projection makes, led back through attention.
///
/// A probe z `[T, H]` with E[z zᵀ] = A at the projection's output is z W at its input, W `[H, heads * width]`: A is what
/// errors do there, or I. Heads are looked at one by one: each gets numbers of its own with these second moments, Wᵀ A W of
/// its columns, as signs times a factor of that.
/// Source: YAQA (arXiv:2505.22988), section 4, with probes behind the branch instead of the whole model.
package struct OutputProbe {
  let signs: ProbeSigns
  /// Takes the gradient `[T, outputs of a group]` at the outputs of a Linear that belong to a group of heads. It is called
  /// for several groups at once.
  let found: @Sendable (_ linear: LinearSpec, _ group: Int, _ gradient: Matrix) -> Void

  /// The probe of a block of tokens.
  ///
  /// - Parameters:
  ///   - factors: of the mixer's groups of heads.
  ///   - token: the first of the block, of all calibration tokens.
  ///   - seed: of the mixer.
  package init(
    _ factors: [Matrix], of mixer: SequenceMixer, token: Int, seed: UInt64,
    found: @escaping @Sendable (_ linear: LinearSpec, _ group: Int, _ gradient: Matrix) -> Void
  ) {
    signs = ProbeSigns(factors: factors, heads: mixer.heads, seed: seed, firstToken: token)
    self.found = found
  }

  /// What the probes of each group of heads are made with, `[width, width]`: R of R Rᵀ = Wᵀ A W of its columns, summed over
  /// the heads of the group.
  ///
  /// - Parameter moments: Wᵀ A W of each head's columns, `[width, width]`.
  package static func factors(
    of mixer: SequenceMixer, from moments: [Matrix], backend: Backend
  ) -> [Matrix] {
    let groups = ranges(of: mixer.heads, by: mixer.heads / mixer.headGroups)
    return groups.map { heads in
      let factor = moments[heads.lowerBound]
      for other in moments[heads.dropFirst()] {
        backend.ledger.note(Operation(.elements, [factor.count]))
        backend.compute { unsafe sluice_add_scaled(other.base, 1, factor.base, factor.count) }
      }
      makeFactor(factor, backend.exact)
      return factor
    }
  }

  /// Those of A = I.
  package static func factors(
    of mixer: SequenceMixer, weights: any LayerWeights, backend: Backend
  ) -> [Matrix] {
    let weight = weights.weight(mixer.output)
    let width = weight.columns / mixer.heads
    let factors = (0..<mixer.headGroups).map { _ in
      backend.matrix("probes of heads", rows: width, columns: width)
    }
    backend.compute { for factor in factors { factor.fill(0) } }
    let tiles = ranges(of: weight.rows, by: tileRows)
    weight.noteReading(weight.rows, tileRows: tileRows, backend: backend)
    backend.forEach(of: tiles, alike: \.count) { tile in
      let rows = backend.matrix("weight tiles", rows: tile.count, columns: weight.columns)
      backend.compute { unsafe weight.decode(tile, into: rows.base) }
      for head in 0..<mixer.heads {
        Gemm.addGram(
          of: rows, columns: head * width..<(head + 1) * width,
          to: factors[head * factors.count / mixer.heads], backend: backend.exact)
      }
    }
    for factor in factors { makeFactor(factor, backend.exact) }
    return factors
  }

  private static let tileRows = 64
  /// Of the mean of a diagonal, added to it: a head's columns may be few.
  private static let damping: Float = 1e-3

  private static func makeFactor(_ squares: Matrix, _ backend: Backend) {
    let n = squares.rows
    backend.compute {
      let mean = (0..<n).reduce(0) { unsafe $0 + squares.row($1)[$1] } / Float(n)
      for row in 0..<n { unsafe squares.row(row)[row] += damping * mean }
    }
    let isFactored = UpperFactor.factor(squares, backend: backend)
    backend.compute {
      if !isFactored { squares.fill(0) }
      for row in 0..<n {
        unsafe squares.row(row).update(repeating: 0, count: row)
        if !isFactored { unsafe squares.row(row)[row] = 1 }
      }
    }
  }
}

/// What makes the probes of heads.
struct ProbeSigns: Sendable {
  let factors: [Matrix]
  let heads: Int
  let seed: UInt64
  /// Of all calibration tokens.
  let firstToken: Int

  /// Probes of one head at the input of the output projection, `[tokens, width]`.
  ///
  /// - Parameter tokens: of the block.
  func make(_ tokens: Range<Int>, head: Int, into result: Matrix, from memory: MemoryBudget) {
    let factor = factors[head * factors.count / heads]
    let width = factor.rows
    let signs = Matrix("probes of heads", rows: tokens.count, columns: width, from: memory)
    let words = (width + 63) / 64
    for (row, token) in tokens.enumerated() {
      let to = unsafe signs.row(row)
      for word in 0..<words {
        var bits = draw(seed, ((firstToken + token) * heads + head) * words + word)
        for column in word * 64..<min(width, (word + 1) * 64) {
          unsafe to[column] = bits & 1 == 0 ? 1 : -1
          bits >>= 1
        }
      }
    }
    unsafe Gemm.product(
      transposeB: true, rows: tokens.count, columns: width, inner: width, a: signs.base,
      aStride: width, b: factor.base, bStride: width, c: result.base, cStride: width)
  }
}

/// One head of causal attention on the way back.
struct CausalGradient {
  /// What went forward; its queries, keys and values are still there.
  let head: CausalHead
  /// Gradients at the queries of each of its factors, written.
  let queries: [HeadColumns]
  /// Gradients at the keys of each, which are added to; nil for keys that nobody asks about.
  let keys: [HeadColumns?]
  /// Gradients at the values, which are added to.
  let values: HeadColumns
  /// Makes the gradient at the head's result, `[tokens, width of values]`.
  let probe: (_ tokens: Range<Int>, _ result: Matrix) -> Void

  /// - Parameter sequence: rows of all matrices.
  func add(_ sequence: Range<Int>, from memory: MemoryBudget) {
    let start = sequence.lowerBound
    let most = min(CausalAttention.queryRows, sequence.count)
    let scores = Matrix(
      "attention scores", rows: most, columns: sequence.count, from: memory)
    let gradients = Matrix(
      "attention scores", rows: most, columns: sequence.count, from: memory)
    let width = head.values.count
    let probes = Matrix("probes of heads", rows: most, columns: width, from: memory)
    for rows in ranges(of: sequence.count, by: CausalAttention.queryRows) {
      let keys = head.score(rows, of: sequence, into: scores)
      probe(start + rows.lowerBound..<start + rows.upperBound, probes)
      let firstKey = start + keys.lowerBound
      unsafe Gemm.product(
        transposeA: true, rows: keys.count, columns: width, inner: rows.count, a: scores.base,
        aStride: scores.columns, b: probes.base, bStride: width, add: true,
        c: values.row(firstKey), cStride: values.matrix.columns)
      unsafe Gemm.product(
        transposeB: true, rows: rows.count, columns: keys.count, inner: width, a: probes.base,
        aStride: width, b: head.values.row(firstKey), bStride: head.values.matrix.columns,
        c: gradients.base, cStride: gradients.columns)
      for row in 0..<rows.count {
        unsafe sluice_softmax_gradient(
          scores.row(row), head.scale, gradients.row(row), keys.count)
      }
      for (index, factor) in head.factors.enumerated() {
        let queries = queries[index]
        unsafe Gemm.product(
          rows: rows.count, columns: queries.count, inner: keys.count, a: gradients.base,
          aStride: gradients.columns, b: factor.key.row(firstKey),
          bStride: factor.key.matrix.columns, c: queries.row(start + rows.lowerBound),
          cStride: queries.matrix.columns)
        guard let keyGradients = self.keys[index] else { continue }
        unsafe Gemm.product(
          transposeA: true, rows: keys.count, columns: keyGradients.count, inner: rows.count,
          a: gradients.base, aStride: gradients.columns,
          b: factor.query.row(start + rows.lowerBound), bStride: factor.query.matrix.columns,
          add: true, c: keyGradients.row(firstKey), cStride: keyGradients.matrix.columns)
      }
    }
  }
}

extension Backend {
  /// The work on groups of heads on the way back through attention, each of them a task.
  ///
  /// - Parameters:
  ///   - count: of groups, which have keys and values of their own.
  ///   - heads: of a group.
  ///   - width: floats of a head's key and of its value together.
  ///   - valueWidth: floats of its value.
  ///   - gradients: floats of a token's gradients that are found for a group, matrix by matrix.
  func groupsBack(
    _ count: Int, heads: Int, of sequences: [Range<Int>], width: Int, valueWidth: Int,
    gradients: [Int], reach: Reach
  ) -> GroupsBack {
    GroupsBack(
      backend: self, count: count, heads: heads, sequences: sequences, width: width,
      valueWidth: valueWidth, gradients: gradients, reach: reach)
  }
}

/// A loop over groups of heads on the way back.
struct GroupsBack {
  fileprivate let backend: Backend
  fileprivate let count: Int
  fileprivate let heads: Int
  fileprivate let sequences: [Range<Int>]
  fileprivate let width: Int
  fileprivate let valueWidth: Int
  fileprivate let gradients: [Int]
  fileprivate let reach: Reach

  private var tokens: Int { sequences.reduce(0) { $0 + $1.count } }

  private var each: [TaskBuffer] {
    let longest = sequences.map(\.count).max() ?? 0
    let rows = min(CausalAttention.queryRows, longest)
    let scores = TaskBuffer("attention scores", floats: rows * longest)
    let probes = TaskBuffer("probes of heads", floats: rows * valueWidth)
    return [scores, scores, probes, probes]
      + gradients.map { TaskBuffer("gradients", floats: tokens * $0) }
  }

  private func note() {
    for sequence in sequences {
      let count = sequence.count
      // Five products, where the way there has two.
      backend.ledger.note(
        Operation(
          .scores, [count, width, reach.most(of: count)],
          arithmetic: CausalAttention.arithmetic(tokens: count, width: width, reach: reach)),
        times: 2.5 * Double(self.count * heads))
    }
    backend.ledger.note(
      Operation(.elements, [4 * tokens * gradients.reduce(0, +)]), times: Double(count))
  }

  func forEach(_ body: @Sendable (_ group: Int) -> Void) {
    note()
    backend.forEach(count, each: each, body)
  }

  func map<Value: Sendable>(_ body: @Sendable (_ group: Int) -> Value) -> [Value] {
    note()
    return backend.map(count, each: each, body)
  }
}
