// What errors of a Linear's outputs do behind it, factored, so that later outputs make up for the errors of earlier ones.

internal import CKernels
package import LinearAlgebra
internal import Tensors

/// A + μI of every block of outputs, A = E[g gᵀ] with g the gradient at these outputs, as U Δ Uᵀ: U upper block
/// triangular with ones on its diagonal, in the order in which outputs are rounded.
///
/// tr((A + μI) D G Dᵀ) is the sum over the rows of UᵀD, weighted by Δ: row j of it is d_j and what the rows before leave,
/// the sum over k of U[k, j] d_k. So a row is rounded to make up for the rows before, as GPTQ does it for columns. Rows
/// of one step do not see each other.
/// Source: two-sided LDLQ as in YAQA (Tseng, Sun et al., arXiv:2505.22988), A for each block of outputs alone.
package struct OutputFactor: Sendable {
  /// Outputs of a block: those of a head.
  package let size: Int
  package let blocks: Int
  /// Outputs of a block that are rounded in one step.
  let together: Int
  /// `[blocks][size]`: the output of a block that comes at each place.
  private let order: [[Int]]
  /// `[blocks][size, size]`: above the diagonal's blocks U, by places.
  private let handed: [[Float]]
  /// `[blocks][size]`: what a row's error counts, by places; 1 on average.
  private let weights: [[Double]]

  /// μ over the mean of A's diagonal.
  private static let damping: Float = 0.3
  /// Steps of a block that is large enough: where rows of one step do not see each other, few of a row's fellows are missed.
  /// With 16 or 32 the KL is the same.
  private static let steps = 8

  /// - Parameters:
  ///   - statistics: of the gradients at some blocks of outputs each, kept by blocks of `size`; they are used up.
  ///   - scale: what each output is divided by where it is smoothed, `[blocks * size]`; nil for none.
  package init(
    _ statistics: [ActivationStatistics], size: Int, smoothedBy scale: [Float]? = nil,
    backend: Backend
  ) {
    self.size = size
    blocks = statistics.reduce(0) { $0 + $1.channels } / size
    together = Self.together(size)
    let sums = statistics.flatMap { $0.grams(backend: backend) }
    let factors = sums.enumerated().map { block, gram in
      Self.factor(
        gram, scale.map { Array($0[block * size..<(block + 1) * size]) }, backend)
    }
    order = factors.map(\.order)
    handed = factors.map(\.handed)
    weights = factors.map(\.weights)
  }

  private static func together(_ size: Int) -> Int {
    max(1, min(size / steps, Int(SLUICE_TILE_STRIP)))
  }

  /// Blocks that are rounded by one task, so that the rows of a step fill a strip of the kernels.
  private static func blocksTogether(_ size: Int) -> Int {
    max(1, Int(SLUICE_TILE_STRIP) / together(size))
  }

  /// Rows that one task rounds; a function of the shape alone.
  package var taskRows: Int { Self.blocksTogether(size) * size }

  /// Rows of a step.
  func stepRows(_ rows: Int) -> Int { min(rows / size, Self.blocksTogether(size)) * together }

  var steps: [Range<Int>] { ranges(of: size, by: together) }

  private static func factor(
    _ gram: Matrix, _ scale: [Float]?, _ backend: Backend
  ) -> (order: [Int], handed: [Float], weights: [Double]) {
    let n = gram.rows
    let result = backend.matrix("factor of outputs", rows: n, columns: n)
    if !backend.computes {
      _ = UpperFactor.factor(result, backend: backend)
      return ([], [], [])
    }
    func element(_ row: Int, _ column: Int) -> Float {
      unsafe gram.row(row)[column] * (scale.map { $0[row] * $0[column] } ?? 1)
    }
    let diagonal = (0..<n).map { element($0, $0) }
    let mean = diagonal.reduce(0, +) / Float(n)
    let plain = Array(0..<n)
    guard mean > 0, mean.isFinite else { return unfactored(n) }
    let order = plain.sorted {
      diagonal[$0] != diagonal[$1] ? diagonal[$0] > diagonal[$1] : $0 < $1
    }
    for (row, first) in order.enumerated() {
      for (column, second) in order.enumerated() {
        unsafe result.row(row)[column] =
          element(first, second) / mean + (row == column ? damping : 0)
      }
    }
    guard UpperFactor.factor(result, backend: backend) else { return unfactored(n) }
    var weights: [Double] = []
    var handed = [Float](repeating: 0, count: n * n)
    for step in ranges(of: n, by: together(n)) {
      for column in step {
        // Of R Rᵀ within the step.
        let squares = (column..<step.upperBound).reduce(0.0) {
          unsafe $0 + Double(result.row(column)[$1]) * Double(result.row(column)[$1])
        }
        weights.append(squares / Double(1 + damping))
      }
      for row in 0..<step.lowerBound {
        // x R[step, step] = R[row, step].
        for column in step {
          var sum = unsafe result.row(row)[column]
          for before in step.lowerBound..<column {
            unsafe sum -= handed[row * n + before] * result.row(before)[column]
          }
          handed[row * n + column] = unsafe sum / result.row(column)[column]
        }
      }
    }
    return (order, handed, weights)
  }

  /// Where nothing is known of the outputs: each for itself.
  private static func unfactored(_ n: Int) -> (order: [Int], handed: [Float], weights: [Double]) {
    (
      Array(0..<n), [Float](repeating: 0, count: n * n), [Double](repeating: 1, count: n)
    )
  }

  // MARK: Of some blocks

  /// The rows of a step of some blocks, from the first row of these; each with what its error counts.
  func rows(
    _ step: Range<Int>, of blocks: Range<Int>
  ) -> (rows: [Int], weights: [Double]) {
    let places = blocks.flatMap { block in step.map { (block, $0) } }
    return (
      places.map { block, place in
        (block - blocks.lowerBound) * size + order[block][place]
      }, places.map { block, place in weights[block][place] }
    )
  }

  /// target `[rows of the step, columns]` = the weights less what the rows before leave.
  ///
  /// - Parameter values: `[rows of the blocks, columns]`: errors of the rows before `step`, and weights from there on.
  func target(_ step: Range<Int>, of blocks: Range<Int>, _ values: Matrix, into target: Matrix) {
    var to = 0
    for block in blocks {
      let first = (block - blocks.lowerBound) * size
      for place in step {
        let result = unsafe target.row(to)
        unsafe result.update(
          from: values.row(first + order[block][place]), count: values.columns)
        for before in 0..<step.lowerBound {
          let share = handed[block][before * size + place]
          if share == 0 { continue }
          unsafe sluice_add_scaled(
            values.row(first + order[block][before]), -share, result, values.columns)
        }
        to += 1
      }
    }
  }
}
