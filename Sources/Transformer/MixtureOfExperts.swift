// The feed-forward half of a layer over blocks of tokens: each unit's weights are visited once.

internal import CKernels
package import LinearAlgebra
package import Tensors

extension MLPSpec {
  /// Tokens that go through a routed expert together: what its activations take does not depend on the router's taste.
  package static let gatheredRows = 256

  /// Adds the outputs of all always-on units and of each token's experts to each block, `[T, H]`.
  ///
  /// Units outside, blocks inside, so that the weights of an expert are read once for all blocks. Tokens are gathered
  /// within their block only: what is computed for a token does not depend on how many blocks are in memory.
  ///
  /// - Parameters:
  ///   - inputs: what the units read, for each block.
  ///   - routings: one for each block, or none where there is no router.
  ///   - finished: called after the last use of a unit's weights.
  package func add(
    to results: [Matrix], reading inputs: [Matrix], routings: [Routing],
    weights: any LayerWeights, workers: Workers, finished: (GatedMLPSpec) -> Void = { _ in }
  ) {
    for unit in alwaysOn {
      for (x, result) in zip(inputs, results) {
        let output = unit.apply(to: x, weights: weights, workers: workers)
        unsafe sluice_add_scaled(output.base, 1, result.base, result.count)
      }
      finished(unit)
    }
    let tokens = routings.map { $0.byExpert(routed.count) }
    for (expert, unit) in routed.enumerated() {
      for (block, x) in inputs.enumerated() {
        for part in ranges(of: tokens[block][expert].count, by: Self.gatheredRows) {
          let chosen = tokens[block][expert][part]
          let output = unit.apply(
            to: gather(chosen.map(\.token), of: x, workers), weights: weights, workers: workers)
          for (row, (token, weight)) in chosen.enumerated() {
            unsafe sluice_add_scaled(output.row(row), weight, results[block].row(token), x.columns)
          }
        }
      }
      finished(unit)
    }
  }

  /// The experts of each token of each block; none where there is no router.
  package func route(
    _ blocks: [Matrix], weights: any LayerWeights, workers: Workers
  ) -> [Routing] {
    guard let router else { return [] }
    return blocks.map { router.route($0, weights: weights, workers: workers) }
  }

  private func gather(_ rows: [Int], of x: Matrix, _ workers: Workers) -> Matrix {
    let result = workers.matrix("tokens of an expert", rows: rows.count, columns: x.columns)
    for (index, row) in rows.enumerated() {
      unsafe result.row(index).update(from: x.row(row), count: x.columns)
    }
    return result
  }
}
