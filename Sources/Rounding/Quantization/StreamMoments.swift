// Second moments of gradients at the residual stream, from the weights that read it.

internal import CKernels
package import LinearAlgebra
package import Tensors

/// A = E[g gᵀ] of the residual stream by blocks of channels, g the gradient at the stream of what reads it.
///
/// An error e of the stream changes what a reader puts out by V e, V its weight. Where a softmax or a choice follows,
/// nothing comes of what is added to all outputs alike, and to the second order the rest costs its variance over them:
/// A = Vᵀ (diag f - f fᵀ) V, f how often each output is the right one; it has a row of V for each time.
package struct StreamMoments {
  /// Of each block `[size, size]`; above the diagonal once all readers are there.
  package let blocks: [Matrix]
  private let channels: Int
  private let backend: Backend

  /// Most channels of a block, whose errors make up for each other.
  private static let largestBlock = 512
  /// Rows of a weight that are looked at together.
  package static let tileRows = 64

  /// Channels of a block: parts of one size, and of whole words of zero points. Nil where there are none.
  package static func blockSize(_ channels: Int) -> Int? {
    if channels <= largestBlock { return channels }
    return stride(from: largestBlock, to: 0, by: -32).first { channels % $0 == 0 }
  }

  package init(channels: Int, block: Int, backend: Backend) {
    self.channels = channels
    self.backend = backend.exact
    blocks = ranges(of: channels, by: block).map {
      backend.matrix("readers of the stream", rows: $0.count, columns: $0.count)
    }
    for matrix in blocks { backend.clear(matrix) }
  }

  /// Adds what a reader makes of errors, `weight` times as large as A with a mean of 1 on its diagonal. A reader whose
  /// outputs are all alike adds nothing.
  ///
  /// - Parameters:
  ///   - count: of rows.
  ///   - gains: what each channel is multiplied by before it is read.
  ///   - read: makes some of the rows, which are used up; it is asked twice.
  package func add(
    _ count: Int, weight: Double, gains: [Float], read: (Range<Int>) throws -> Matrix
  ) rethrows {
    let tiles = ranges(of: count, by: Self.tileRows)
    var sum = [Double](repeating: 0, count: channels)
    var squares = 0.0
    try backend.forEach(of: tiles, alike: \.count) { tile in
      let rows = try read(tile)
      backend.ledger.note(Operation(.elements, [rows.count]))
      if !backend.computes { return }
      for row in 0..<rows.rows {
        let values = unsafe rows.row(row)
        for channel in 0..<channels {
          let value = unsafe Double(values[channel] * gains[channel])
          sum[channel] += value
          squares += value * value
        }
      }
    }
    let center = sum.map { Float($0 / Double(count)) }
    let variance =
      (squares - sum.reduce(0) { $0 + $1 * $1 } / Double(count)) / Double(channels)
    // Over the sum of all rows.
    let scale = variance > 0 && variance.isFinite ? Float((weight / variance).squareRoot()) : 0
    try backend.forEach(of: tiles, alike: \.count) { tile in
      let rows = try read(tile)
      backend.ledger.note(Operation(.elements, [rows.count]))
      backend.compute {
        for row in 0..<rows.rows {
          let values = unsafe rows.row(row)
          unsafe sluice_multiply(values, gains, values, channels)
          unsafe sluice_add_scaled(center, -1, values, channels)
          unsafe sluice_scale(values, scale, values, channels)
        }
      }
      var first = 0
      for block in blocks {
        Gemm.addGram(
          of: rows, columns: first..<first + block.rows, to: block, backend: backend)
        first += block.rows
      }
    }
  }

  /// What errors of the stream's channels do. All readers are there.
  package func factor() -> OutputFactor {
    for matrix in blocks { Gemm.symmetrize(matrix, backend: backend) }
    return OutputFactor(moments: blocks, backend: backend)
  }
}
