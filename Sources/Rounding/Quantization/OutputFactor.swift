// What errors of a Linear's outputs do behind it, factored, so that later outputs make up for the errors of earlier ones.

internal import CKernels
package import LinearAlgebra
package import Tensors

/// A + μI of every block of outputs, A = E[g gᵀ] with g the gradient at these outputs, as U Δ Uᵀ: U upper block
/// triangular with ones on its diagonal, in the order in which outputs are rounded.
///
/// tr((A + μI) D G Dᵀ) is the sum over the rows of UᵀD, weighted by Δ: row j of it is d_j and what the rows before leave,
/// the sum over k of U[k, j] d_k. So a row is rounded to make up for the rows before, as GPTQ does it for columns. Rows
/// of one step do not see each other.
/// Source: two-sided LDLQ as in YAQA (Tseng, Sun et al., arXiv:2505.22988), A for each block of outputs alone.
package struct OutputFactor: Sendable {
  /// Outputs of a block: those of a head, or channels of the residual stream.
  package let size: Int
  package let blocks: Int
  /// Outputs of a block that are rounded in one step.
  let together: Int
  /// `[blocks][size]`: the output of a block that comes at each place.
  private let order: [[Int]]
  /// `[blocks][size, size]`: at each place the negative of U's column, by the outputs whose errors it takes; 0 for those
  /// that come later.
  private let handed: [Matrix]
  /// `[blocks][size]`: what a row's error counts, by places; 1 on average.
  private let weights: [[Double]]

  /// μ over the mean of A's diagonal.
  private static let damping: Float = 0.3
  /// Steps of a block that is large enough: where rows of one step do not see each other, few of a row's fellows are missed.
  /// With 16 or more the KL is the same.
  private static let steps = 8

  /// - Parameters:
  ///   - statistics: of the gradients at some blocks of outputs each, kept by blocks of `size`; they are used up.
  ///   - scale: what each output is divided by where it is smoothed, `[blocks * size]`; nil for none.
  package init(
    _ statistics: [ActivationStatistics], size: Int, smoothedBy scale: [Float]? = nil,
    backend: Backend
  ) {
    self.init(
      moments: statistics.flatMap { $0.grams(backend: backend) }, smoothedBy: scale,
      backend: backend)
  }

  /// - Parameters:
  ///   - moments: A of each block, up to a factor, `[size, size]`.
  ///   - scale: what each output is divided by where it is smoothed, `[blocks * size]`; nil for none.
  package init(moments: [Matrix], smoothedBy scale: [Float]? = nil, backend: Backend) {
    let n = moments[0].rows
    size = n
    blocks = moments.count
    together = Self.together(n)
    var factors: [(order: [Int], handed: Matrix, weights: [Double])] = []
    for (block, gram) in moments.enumerated() {
      let scale = scale.map { Array($0[block * n..<(block + 1) * n]) }
      factors.append(Self.factor(gram, scale, together: together, backend))
    }
    order = factors.map(\.order)
    handed = factors.map(\.handed)
    weights = factors.map(\.weights)
  }

  private static func together(_ size: Int) -> Int {
    max(1, min(size / steps, Int(SLUICE_TILE_STRIP)))
  }

  /// Blocks that are rounded by one task, so that the rows of a step fill a strip of the kernels.
  private var blocksTogether: Int { taskRows / size }

  /// Rows that one task rounds; a function of the shape alone.
  package var taskRows: Int { Self.taskRows(size: size) }

  /// Of blocks of `size` outputs: whole bytes and words of what is packed along rows, whatever its bits.
  static package func taskRows(size: Int) -> Int {
    let fitting = (1...packedRows).first { $0 * size % packedRows == 0 } ?? packedRows
    let blocks = Int(SLUICE_TILE_STRIP) / together(size)
    return max(1, blocks / fitting) * fitting * size
  }

  /// Rows whose packed numbers fill whole 32-bit words, of any number of bits.
  private static let packedRows = 32

  /// Rows of a step.
  func stepRows(_ rows: Int) -> Int { min(rows / size, blocksTogether) * together }

  var steps: [Range<Int>] { ranges(of: size, by: together) }

  private static func factor(
    _ gram: Matrix, _ scale: [Float]?, together: Int, _ backend: Backend
  ) -> (order: [Int], handed: Matrix, weights: [Double]) {
    let n = gram.rows
    let handed = backend.matrix("outputs that make up for others", rows: n, columns: n)
    let result = backend.matrix("factor of outputs", rows: n, columns: n)
    if !backend.computes {
      _ = UpperFactor.factor(result, backend: backend)
      return ([], handed, [])
    }
    func element(_ row: Int, _ column: Int) -> Float {
      unsafe gram.row(row)[column] * (scale.map { $0[row] * $0[column] } ?? 1)
    }
    handed.fill(0)
    let unfactored = (Array(0..<n), handed, [Double](repeating: 1, count: n))
    let diagonal = (0..<n).map { element($0, $0) }
    let mean = diagonal.reduce(0, +) / Float(n)
    guard mean > 0, mean.isFinite else { return unfactored }
    let order = (0..<n).sorted {
      diagonal[$0] != diagonal[$1] ? diagonal[$0] > diagonal[$1] : $0 < $1
    }
    for (row, first) in order.enumerated() {
      for (column, second) in order.enumerated() {
        unsafe result.row(row)[column] =
          element(first, second) / mean + (row == column ? damping : 0)
      }
    }
    guard UpperFactor.factor(result, backend: backend) else { return unfactored }
    var weights: [Double] = []
    for step in ranges(of: n, by: together) {
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
            unsafe sum += handed.row(before)[order[row]] * result.row(before)[column]
          }
          unsafe handed.row(column)[order[row]] = -sum / result.row(column)[column]
        }
      }
    }
    return (order, handed, weights)
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
      for (row, place) in step.enumerated() {
        unsafe target.row(to + row).update(
          from: values.row(first + order[block][place]), count: values.columns)
      }
      if step.lowerBound > 0 {
        unsafe Gemm.product(
          rows: step.count, columns: values.columns, inner: size,
          a: handed[block].row(step.lowerBound), aStride: size, b: values.row(first),
          bStride: values.columns, add: true, c: target.row(to), cStride: target.columns)
      }
      to += step.count
    }
  }
}
