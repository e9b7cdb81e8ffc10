// The forward pass of one decoder layer from its spec and weights, with taps where Linears read.

internal import CKernels
package import LinearAlgebra
package import Tensors

extension LayerSpec {
  /// x + attention(norm(x)), `[T, H]`. `tap` sees the inputs of the attention's Linears.
  package func attend(
    _ x: Matrix, sequences: [Range<Int>], weights: any LayerWeights, workers: Workers,
    tap: (Tap, Matrix) -> Void = { _, _ in }
  ) -> Matrix {
    let normed = inputNorm.apply(to: x, weights: weights, workers: workers)
    tap(.attentionInput, normed)
    let read = attention.attend(normed, sequences: sequences, weights: weights, workers: workers)
    tap(.attentionOutput, read)
    let result = weights.apply(attention.output, to: read, workers: workers)
    unsafe sluice_add_scaled(x.base, 1, result.base, x.count)
    return result
  }

  /// x + mlp(norm(x)) for each block.
  ///
  /// - Parameter routings: the experts of each token, where they are known already.
  package func feedForward(
    _ blocks: [Matrix], routings: [Routing]? = nil, weights: any LayerWeights, workers: Workers,
    finished: (GatedMLPSpec) -> Void = { _ in }
  ) -> [Matrix] {
    let normed = blocks.map { postAttentionNorm.apply(to: $0, weights: weights, workers: workers) }
    let results = mlp.apply(
      to: normed, routings: routings ?? mlp.route(normed, weights: weights, workers: workers),
      weights: weights, workers: workers, finished: finished)
    for (x, result) in zip(blocks, results) {
      unsafe sluice_add_scaled(x.base, 1, result.base, x.count)
    }
    return results
  }
}
