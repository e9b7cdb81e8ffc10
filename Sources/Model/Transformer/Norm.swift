// Norms by the root mean square (Zhang and Sennrich, arXiv:1910.07467) and by the deviation from the mean (Ba et al.,
// arXiv:1607.06450).

internal import CKernels
package import LinearAlgebra
package import Tensors

extension NormSpec {
  /// What each channel is multiplied by, `[size]`.
  package func gains(_ weights: any LayerWeights) -> [Float] {
    let stored = weights.vector(weight)
    return offset == 0 ? stored : stored.map { offset + $0 }
  }

  /// x `[T, size]`, normed.
  package func apply(to x: Matrix, weights: any LayerWeights, backend: Backend) -> Matrix {
    let result = backend.matrix("normed input", rows: x.rows, columns: x.columns)
    apply(to: x, into: result, weights: weights, backend: backend)
    return result
  }

  /// Applies the norm in the place of x.
  func apply(in x: Matrix, weights: any LayerWeights, backend: Backend) {
    apply(to: x, into: x, weights: weights, backend: backend)
  }

  private func apply(
    to x: Matrix, into result: Matrix, weights: any LayerWeights, backend: Backend
  ) {
    let gains = gains(weights)
    guard case .deviation = kind else {
      return RMSNorm.apply(
        to: x, into: result, size: x.columns, gains: gains, epsilon: epsilon, backend: backend)
    }
    let bias = bias.map { weights.vector($0) }
    let parts = ranges(of: x.rows, by: RMSNorm.taskRows)
    backend.ledger.note(Operation(.elements, [2 * x.count]))
    backend.forEach(parts.count) { index in
      let part = parts[index]
      func apply(_ bias: UnsafePointer<Float>?) {
        unsafe sluice_layer_norm(
          x.row(part.lowerBound), gains, bias, epsilon, part.count, x.columns,
          result.row(part.lowerBound))
      }
      guard let bias else { return apply(nil) }
      unsafe bias.withUnsafeBufferPointer { unsafe apply($0.baseAddress) }
    }
  }
}

enum RMSNorm {
  /// Rows of a task.
  fileprivate static let taskRows = 64

  /// Every `size` numbers of a row over their root mean square, times `gains`, in the place of x.
  ///
  /// - Parameter gains: `[size]`; nil for ones.
  static func apply(
    in x: Matrix, size: Int, gains: [Float]?, epsilon: Float, backend: Backend
  ) {
    apply(to: x, into: x, size: size, gains: gains, epsilon: epsilon, backend: backend)
  }

  static func apply(
    to x: Matrix, into result: Matrix, size: Int, gains: [Float]?, epsilon: Float,
    backend: Backend
  ) {
    let gains = gains ?? [Float](repeating: 1, count: size)
    let parts = ranges(of: x.rows, by: taskRows)
    backend.ledger.note(Operation(.elements, [x.count]))
    backend.forEach(parts.count) { index in
      let part = parts[index]
      unsafe sluice_rms_norm(
        x.row(part.lowerBound), gains, epsilon, part.count * (x.columns / size), size,
        result.row(part.lowerBound))
    }
  }
}
