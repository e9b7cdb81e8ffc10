// The feed-forward half of a layer over blocks of tokens: each unit's weights are visited once.

internal import CKernels
package import LinearAlgebra
package import Tensors

extension MLPSpec {
  /// The sum of all always-on units and of each token's experts, `[T, H]` for each block.
  ///
  /// Units outside, blocks inside, so that the weights of an expert are read once for all blocks. Tokens are gathered
  /// within their block only: what is computed for a token does not depend on how many blocks are in memory.
  ///
  /// - Parameters:
  ///   - routings: one for each block, or none where there is no router.
  ///   - finished: called after the last use of a unit's weights.
  package func apply(
    to blocks: [Matrix], routings: [Routing], weights: any LayerWeights, workers: Workers,
    finished: (GatedMLPSpec) -> Void = { _ in }
  ) -> [Matrix] {
    let results = blocks.map { Matrix(zeros: $0.rows, $0.columns) }
    for unit in alwaysOn {
      for (x, result) in zip(blocks, results) {
        let output = unit.apply(to: x, weights: weights, workers: workers)
        unsafe sluice_add_scaled(output.base, 1, result.base, result.count)
      }
      finished(unit)
    }
    let tokens = routings.map { $0.byExpert(routed.count) }
    for (expert, unit) in routed.enumerated() {
      for (block, x) in blocks.enumerated() where !tokens[block][expert].isEmpty {
        let chosen = tokens[block][expert]
        let output = unit.apply(
          to: gather(chosen.map(\.token), of: x), weights: weights, workers: workers)
        for (row, (token, weight)) in chosen.enumerated() {
          unsafe sluice_add_scaled(output.row(row), weight, results[block].row(token), x.columns)
        }
      }
      finished(unit)
    }
    return results
  }

  /// The experts of each token of each block; none where there is no router.
  package func route(
    _ blocks: [Matrix], weights: any LayerWeights, workers: Workers
  ) -> [Routing] {
    guard let router else { return [] }
    return blocks.map { router.route($0, weights: weights, workers: workers) }
  }

  private func gather(_ rows: [Int], of x: Matrix) -> Matrix {
    let result = Matrix(rows: rows.count, columns: x.columns)
    for (index, row) in rows.enumerated() {
      unsafe result.row(index).update(from: x.row(row), count: x.columns)
    }
    return result
  }
}
