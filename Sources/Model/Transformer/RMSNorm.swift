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
    let weight = gains(weights)
    let parts = ranges(of: x.rows, by: 64)
    workers.ledger.note(Operation(.elements, [x.count]))
    workers.forEach(parts.count) { index in
      let part = parts[index]
      unsafe sluice_rms_norm(
        x.row(part.lowerBound), weight, epsilon, part.count, x.columns,
        result.row(part.lowerBound))
    }
  }
}
