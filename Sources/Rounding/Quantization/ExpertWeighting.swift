// How much each calibration token counts in the statistics of an expert.

/// What an expert's statistics rest on. Every token goes through every expert; g is the weight that the router gave the
/// expert for it, 0 where it was not chosen.
package enum ExpertWeighting: String, Sendable, CaseIterable {
  /// Every token alike.
  case all
  /// g²: an error of the expert's output counts as it does in the output of the layer.
  case routed
  /// g² + 0.1 mean(g²): the same, and a little of every token, so that an expert with few tokens of its own keeps to
  /// what it would do with others.
  case blend

  /// The weights of a block's tokens, `[T]`; nil where all count alike, also for an expert that nothing was routed to.
  ///
  /// - Parameters:
  ///   - routed: the block's tokens that were sent to the expert, and g.
  ///   - meanSquare: mean g² over all tokens of the run.
  ///   - others: how many tokens each one stands for that was not sent to the expert, where it sees only some of them.
  package func weights(
    tokens: Int, routed: [(token: Int, weight: Float)], meanSquare: Double, others: Float = 1
  ) -> [Float]? {
    let isEven = self == .all || !(meanSquare > 0)
    if isEven && others == 1 { return nil }
    let floor: Float = isEven ? 1 : self == .blend ? Float(0.1 * meanSquare) : 0
    var result = [Float](repeating: floor * others, count: tokens)
    for (token, weight) in routed { result[token] = isEven ? floor : floor + weight * weight }
    return result
  }
}
