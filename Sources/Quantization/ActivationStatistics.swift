// What calibration remembers of an activation: moments per channel, and the Gram matrix where it is wanted.
//
// Letters of this target: T tokens, C channels (input features of the Linears that read the activation).

internal import CKernels
package import LinearAlgebra
package import Tensors

/// Sums over all calibration tokens of an activation x `[T, C]`.
package final class ActivationStatistics {
  package let channels: Int
  package private(set) var tokens = 0
  private var absoluteSum: [Double]
  private var squareSum: [Double]
  private let gramSum: Matrix?
  /// Whether `gramSum` has become the mean.
  private var gramIsMean = false

  /// - Parameter withGram: also accumulate xᵀ x, `[C, C]`.
  package init(channels: Int, withGram: Bool, from budget: MemoryBudget = Matrix.unlimited) {
    self.channels = channels
    absoluteSum = [Double](repeating: 0, count: channels)
    squareSum = [Double](repeating: 0, count: channels)
    gramSum =
      withGram
      ? Matrix("Gram matrices", rows: channels, columns: channels, from: budget) : nil
    gramSum?.fill(0)
  }

  /// Adds the rows of x. Blocks must come in the same order in every run: sums are not associative.
  package func add(_ x: Matrix, workers: Workers) {
    precondition(x.columns == channels, "\(x.columns) channels instead of \(channels)")
    precondition(!gramIsMean, "the Gram matrix has been handed out")
    let strips = ranges(of: channels, by: 256)
    unsafe absoluteSum.withUnsafeMutableBufferPointer { absolute in
      unsafe squareSum.withUnsafeMutableBufferPointer { square in
        nonisolated(unsafe) let absolute = absolute.baseAddress!
        nonisolated(unsafe) let square = square.baseAddress!
        workers.forEach(strips.count) { index in
          let strip = strips[index]
          unsafe sluice_add_moments(
            x.base + strip.lowerBound, x.rows, strip.count, x.columns,
            absolute + strip.lowerBound, square + strip.lowerBound)
        }
      }
    }
    if let gramSum { Gemm.addGram(of: x, to: gramSum, workers: workers) }
    tokens += x.rows
  }

  /// What was added up so far, to be kept for later: tokens, then the sums of |x| and of x² per channel.
  package var sums: [Double] { [Double(tokens)] + absoluteSum + squareSum }

  /// The sum of xᵀ x as it stands, upper triangle of tiles; nil where it was not asked for.
  package var gramSoFar: Matrix? { gramSum }

  /// Goes on from what `sums` and `gramSoFar` were.
  package func restore(sums: [Double], gram: Matrix?) {
    precondition(sums.count == 2 * channels + 1 && (gram == nil) == (gramSum == nil), "other sums")
    tokens = Int(sums[0])
    absoluteSum = Array(sums[1...channels])
    squareSum = Array(sums[(channels + 1)...])
    if let gram, let gramSum { unsafe gramSum.base.update(from: gram.base, count: gram.count) }
  }

  /// mean |x| per channel, `[C]`.
  package var meanAbsolute: [Float] { absoluteSum.map { Float($0 / Double(tokens)) } }

  /// mean x² per channel, `[C]`: the diagonal of the Gram matrix over T.
  package var meanSquare: [Float] { squareSum.map { Float($0 / Double(tokens)) } }

  /// xᵀ x / T, `[C, C]`, or nil where it was not asked for. Ends accumulation.
  package func gram() -> Matrix? {
    guard let gramSum, !gramIsMean else { return gramSum }
    Gemm.symmetrize(gramSum)
    unsafe sluice_scale(gramSum.base, 1 / Float(tokens), gramSum.base, gramSum.count)
    gramIsMean = true
    return gramSum
  }

  /// The first channel whose sums are not finite: somewhere a NaN or an infinity went through.
  package var firstNonFiniteChannel: Int? {
    squareSum.indices.first { !squareSum[$0].isFinite || !absoluteSum[$0].isFinite }
  }
}
