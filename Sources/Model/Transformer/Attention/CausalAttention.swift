// Causal softmax attention of one head, in blocks of queries: no [T, T] matrix, and later keys are never multiplied.

internal import CKernels
package import LinearAlgebra
package import Tensors

/// How far back a token sees.
package enum Reach: Sendable, Equatable {
  /// To the beginning of its sequence.
  case whole
  /// As many tokens as this, itself included.
  case window(Int)
  /// To the beginning of its chunk, of as many tokens as this.
  case chunk(Int)

  /// - Parameter window: of `window`; nil for `whole`.
  package init(window: Int?) { self = window.map { .window($0) } ?? .whole }

  /// The first token that a token sees.
  package func firstKey(of token: Int) -> Int {
    switch self {
    case .whole: 0
    case .window(let size): max(0, token + 1 - size)
    case .chunk(let size): token / size * size
    }
  }

  /// Tokens that one sees at most, of a sequence.
  func most(of count: Int) -> Int {
    switch self {
    case .whole: count
    case .window(let size), .chunk(let size): size
    }
  }
}

package enum CausalAttention {
  /// Queries of one task: rows of the score matrix that are held at a time.
  package static let queryRows = 128

  /// Floating-point operations of one head over a sequence.
  ///
  /// - Parameters:
  ///   - width: floats of a head's key and of its value together.
  ///   - reach: how far back a token sees.
  package static func arithmetic(tokens: Int, width: Int, reach: Reach = .whole) -> Double {
    // Keys that the queries of a block see together, all of them.
    let pairs = ranges(of: tokens, by: queryRows).reduce(0) {
      $0 + $1.count * ($1.upperBound - reach.firstKey(of: $1.lowerBound))
    }
    return 2 * Double(width) * Double(pairs)
  }

  /// One sequence whose queries, keys and values are all x `[T, heads * width]`, in the place of x.
  package static func attend(_ x: Matrix, heads: Int, backend: Backend) {
    let width = x.columns / heads
    backend.forEachHead(heads, of: [0..<x.rows], width: 2 * width) { head, sequence in
      let own = HeadColumns(x, head, width: width)
      CausalHead(
        factors: [(own, own)], values: own, result: own, scale: 1 / Float(width).squareRoot(),
        reach: .whole
      ).attend(sequence, from: backend.memory)
    }
  }
}

/// The columns of a matrix `[T, ...]` that belong to one head.
struct HeadColumns {
  let matrix: Matrix
  let first: Int
  let count: Int

  init(_ matrix: Matrix, first: Int, count: Int) {
    self.matrix = matrix
    self.first = first
    self.count = count
  }

  /// Heads of one width, side by side.
  init(_ matrix: Matrix, _ head: Int, width: Int) {
    self.init(matrix, first: head * width, count: width)
  }

  func row(_ row: Int) -> UnsafeMutablePointer<Float> { unsafe matrix.row(row) + first }
}

/// softmax(scale * the sum of q kᵀ over `factors`) v, the softmax beside a sink where there is one.
struct CausalHead {
  let factors: [(query: HeadColumns, key: HeadColumns)]
  let values: HeadColumns
  /// May be the columns of the queries, which nobody else reads.
  let result: HeadColumns
  let scale: Float
  let reach: Reach
  /// One more score of every softmax, whose share of the values is nothing.
  var sink: Float?

  /// - Parameter sequence: rows of all matrices.
  func attend(_ sequence: Range<Int>, from memory: MemoryBudget) {
    let start = sequence.lowerBound
    let scores = Matrix(
      "attention scores", rows: min(CausalAttention.queryRows, sequence.count),
      columns: sequence.count, from: memory)
    for rows in ranges(of: sequence.count, by: CausalAttention.queryRows) {
      let keys = score(rows, of: sequence, into: scores)
      unsafe Gemm.product(
        rows: rows.count, columns: values.count, inner: keys.count,
        a: scores.base, aStride: scores.columns,
        b: values.row(start + keys.lowerBound), bStride: values.matrix.columns,
        c: result.row(start + rows.lowerBound), cStride: result.matrix.columns)
    }
  }

  /// The shares that queries give to keys, `[queries, keys]`, with zeros for keys that one does not see.
  ///
  /// - Parameters:
  ///   - rows: of the sequence.
  ///   - scores: `[queries, tokens of the sequence]`.
  /// - Returns: the keys, of the sequence.
  func score(_ rows: Range<Int>, of sequence: Range<Int>, into scores: Matrix) -> Range<Int> {
    let start = sequence.lowerBound
    let keys = reach.firstKey(of: rows.lowerBound)..<rows.upperBound
    for (index, factor) in factors.enumerated() {
      unsafe Gemm.product(
        transposeB: true, rows: rows.count, columns: keys.count, inner: factor.query.count,
        a: factor.query.row(start + rows.lowerBound), aStride: factor.query.matrix.columns,
        b: factor.key.row(start + keys.lowerBound), bStride: factor.key.matrix.columns,
        add: index > 0, c: scores.base, cStride: scores.columns)
    }
    for row in rows {
      let seen = reach.firstKey(of: row) - keys.lowerBound..<row + 1 - keys.lowerBound
      let weights = unsafe scores.row(row - rows.lowerBound)
      unsafe weights.update(repeating: 0, count: seen.lowerBound)
      if let sink {
        unsafe sluice_softmax_sink(weights + seen.lowerBound, scale, sink, seen.count)
      } else {
        unsafe sluice_softmax(weights + seen.lowerBound, scale, seen.count)
      }
      unsafe (weights + seen.upperBound).update(
        repeating: 0, count: keys.count - seen.upperBound)
    }
    return keys
  }
}

extension Backend {
  /// Every head of every sequence, on all threads.
  ///
  /// - Parameters:
  ///   - width: floats of a head's key and of its value together.
  ///   - reach: how far back a token sees.
  func forEachHead(
    _ heads: Int, of sequences: [Range<Int>], width: Int, reach: Reach = .whole,
    _ body: @Sendable (_ head: Int, _ sequence: Range<Int>) -> Void
  ) {
    for sequence in sequences {
      let count = sequence.count
      ledger.note(
        Operation(
          .scores, [count, width, reach.most(of: count)],
          arithmetic: CausalAttention.arithmetic(tokens: count, width: width, reach: reach)),
        times: Double(heads))
    }
    let longest = sequences.map(\.count).max() ?? 0
    let scores = TaskBuffer(
      "attention scores", floats: min(CausalAttention.queryRows, longest) * longest)
    let tasks = sequences.flatMap { sequence in (0..<heads).map { (sequence, $0) } }
    forEach(tasks.count, each: [scores]) { index in body(tasks[index].1, tasks[index].0) }
  }
}
