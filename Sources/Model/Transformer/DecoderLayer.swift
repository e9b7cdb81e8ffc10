// The forward pass of one decoder layer from its spec and weights, with taps where Linears read.

package import LinearAlgebra
package import Tensors

extension LayerSpec {
  /// x + attention(norm(x)), `[T, H]`. `tap` sees the inputs of the attention's Linears.
  package func attend(
    _ x: Matrix, sequences: [Range<Int>], weights: any LayerWeights, workers: Workers,
    tap: (Tap, Matrix) -> Void = { _, _ in }
  ) -> Matrix {
    let read = attention.read(
      sequences: sequences, weights: weights, workers: workers, tap: tap
    ) { inputNorm.apply(to: x, weights: weights, workers: workers) }
    let result = weights.apply(
      attention.output, to: read, workers: workers, into: "hidden states of a block")
    result.add(x, workers: workers)
    return result
  }

  /// x += mlp(norm(x)) for each block.
  ///
  /// - Parameter routings: the experts of each token, where they are known already.
  package func feedForward(
    _ blocks: [Matrix], routings: [Routing]? = nil, weights: any LayerWeights, workers: Workers,
    finished: (GatedMLPSpec) -> Void = { _ in }
  ) {
    let normed = blocks.map { postAttentionNorm.apply(to: $0, weights: weights, workers: workers) }
    mlp.add(
      to: blocks, reading: normed,
      routings: routings ?? mlp.route(normed, weights: weights, workers: workers),
      weights: weights, workers: workers, finished: finished)
  }
}
