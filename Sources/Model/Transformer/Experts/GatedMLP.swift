// SwiGLU (Shazeer, arXiv:2002.05202).

internal import CKernels
package import LinearAlgebra
package import Tensors

extension GatedMLPSpec {
  /// silu(gate(x)) * up(x), `[T, F]`: what the down projection reads.
  package func hidden(_ x: Matrix, weights: any LayerWeights, workers: Workers) -> Matrix {
    let gated = weights.apply(gate, to: x, workers: workers, into: "activations of an expert")
    let result = weights.apply(up, to: x, workers: workers, into: "activations of an expert")
    let parts = ranges(of: result.count, by: 1 << 16)
    workers.ledger.note(Operation(.elements, [result.count]))
    workers.forEach(parts.count) { index in
      let part = parts[index]
      unsafe sluice_swiglu(gated.base + part.lowerBound, result.base + part.lowerBound, part.count)
    }
    return result
  }

  /// `[T, H]`.
  package func apply(to x: Matrix, weights: any LayerWeights, workers: Workers) -> Matrix {
    let result = weights.apply(
      down, to: hidden(x, weights: weights, workers: workers), workers: workers,
      into: "outputs of an expert")
    if let outputGate {
      let shares = weights.apply(
        outputGate, to: x, workers: workers.exact, into: "gates of outputs")
      workers.compute { unsafe sluice_sigmoid(shares.base, shares.count) }
      result.multiply(byRows: shares, workers: workers)
    }
    return result
  }
}
