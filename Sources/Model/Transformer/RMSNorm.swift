// Root-mean-square norm (Zhang and Sennrich, arXiv:1910.07467).

internal import CKernels
package import LinearAlgebra
package import Tensors

extension NormSpec {
  /// What each channel is multiplied by, `[size]`.
  package func gains(_ weights: any LayerWeights) -> [Float] {
    let stored = weights.vector(weight)
    return offset == 0 ? stored : stored.map { offset + $0 }
  }

  /// x `[T, size]` over its root mean square, times the weight.
  package func apply(to x: Matrix, weights: any LayerWeights, workers: Workers) -> Matrix {
    let result = workers.matrix("normed input", rows: x.rows, columns: x.columns)
    apply(to: x, into: result, weights: weights, workers: workers)
    return result
  }

  /// Applies the norm in the place of x.
  func apply(in x: Matrix, weights: any LayerWeights, workers: Workers) {
    apply(to: x, into: x, weights: weights, workers: workers)
  }

  private func apply(
    to x: Matrix, into result: Matrix, weights: any LayerWeights, workers: Workers
  ) {
    RMSNorm.apply(
      to: x, into: result, size: x.columns, gains: gains(weights), epsilon: epsilon,
      workers: workers)
  }
}

enum RMSNorm {
  /// Every `size` numbers of a row over their root mean square, times `gains`, in the place of x.
  ///
  /// - Parameter gains: `[size]`; nil for ones.
  static func apply(
    in x: Matrix, size: Int, gains: [Float]?, epsilon: Float, workers: Workers
  ) {
    apply(to: x, into: x, size: size, gains: gains, epsilon: epsilon, workers: workers)
  }

  static func apply(
    to x: Matrix, into result: Matrix, size: Int, gains: [Float]?, epsilon: Float,
    workers: Workers
  ) {
    let gains = gains ?? [Float](repeating: 1, count: size)
    let parts = ranges(of: x.rows, by: 64)
    workers.ledger.note(Operation(.elements, [x.count]))
    workers.forEach(parts.count) { index in
      let part = parts[index]
      unsafe sluice_rms_norm(
        x.row(part.lowerBound), gains, epsilon, part.count * (x.columns / size), size,
        result.row(part.lowerBound))
    }
  }
}
