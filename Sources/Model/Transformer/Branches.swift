// The forward pass of residual branches from their specs and weights, with taps where Linears read.

package import LinearAlgebra
package import Tensors

extension Branch {
  /// What the mixer reads, `[T, H]`: x itself where there is no norm before it.
  package func input(_ x: Matrix, weights: any LayerWeights, backend: Backend) -> Matrix {
    let read = residual?.read(x, weights: weights, backend: backend) ?? x
    return preNorm?.apply(to: read, weights: weights, backend: backend) ?? read
  }

  /// mixed = scale * postNorm(mixed).
  fileprivate func finish(_ mixed: Matrix, weights: any LayerWeights, backend: Backend) {
    postNorm?.apply(in: mixed, weights: weights, backend: backend)
    if scale != 1 { mixed.multiply(by: scale, backend: backend) }
  }

  /// What the branch is added to: x, or what the mixer reads, times `carried`.
  fileprivate func carry(_ x: Matrix, weights: any LayerWeights, backend: Backend) -> Matrix {
    guard let carried else { return x }
    let read = input(x, weights: weights, backend: backend)
    read.multiply(by: carried, backend: backend)
    return read
  }

  /// x *= statesScale.
  fileprivate func scaleStates(_ x: Matrix, weights: any LayerWeights, backend: Backend) {
    guard let statesScale else { return }
    // Of shapes there are no numbers.
    x.multiply(by: weights.vector(statesScale).first ?? 1, backend: backend)
  }
}

extension Branch<SequenceMixer> {
  /// x plus the branch, `[T, H]`, or the states that its residual makes. `tap` sees the inputs of the mixer's Linears,
  /// `probe` gradients at their outputs.
  ///
  /// - Parameter sequences: the rows of each sequence; positions count from the start of each.
  package func apply(
    to x: Matrix, sequences: [Range<Int>], weights: any LayerWeights, backend: Backend,
    tap: (Tap, Matrix) -> Void = { _, _ in }, probe: OutputProbe? = nil
  ) -> Matrix {
    let read = mixer.read(
      sequences: sequences, weights: weights, backend: backend,
      tap: { tap(self.tap($0), $1) }, probe: probe
    ) { input(x, weights: weights, backend: backend) }
    let result = weights.apply(
      mixer.output, to: read, backend: backend, into: "hidden states of a block")
    finish(result, weights: weights, backend: backend)
    if let residual { return residual.join(result, to: x, backend: backend) }
    result.add(carry(x, weights: weights, backend: backend), backend: backend)
    scaleStates(result, weights: weights, backend: backend)
    return result
  }
}

extension Branch<MLPSpec> {
  /// Adds the branch to each block.
  ///
  /// - Parameters:
  ///   - read: what the branch reads, where that is not the blocks as they are.
  ///   - routings: the experts of each token, where they are known already.
  package func add(
    to blocks: [Matrix], reading read: [Matrix]? = nil, routings: [Routing]? = nil,
    weights: any LayerWeights, backend: Backend, finished: (UnitSpec) -> Void = { _ in }
  ) {
    let inputs = (read ?? blocks).map { input($0, weights: weights, backend: backend) }
    // Units add to the states at once where these are read no more and the sum stays as it is.
    let isAtOnce =
      preNorm != nil && postNorm == nil && scale == 1 && statesScale == nil && carried == nil
      && residual == nil && mixer.strands == nil
    let results = isAtOnce ? blocks : inputs.map { backend.zeros("outputs of a branch", like: $0) }
    mixer.add(
      to: results, reading: inputs,
      routings: routings ?? mixer.route(inputs, weights: weights, backend: backend),
      weights: weights, backend: backend, finished: finished)
    if isAtOnce { return }
    for (index, (block, result)) in zip(blocks, results).enumerated() {
      finish(result, weights: weights, backend: backend)
      if let carried { block.become(inputs[index], times: carried, backend: backend) }
      if let residual {
        residual.add(result, to: block, backend: backend)
      } else {
        block.add(result, backend: backend)
      }
      scaleStates(block, weights: weights, backend: backend)
    }
  }
}
