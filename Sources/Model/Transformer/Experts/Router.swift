// Which experts a token goes to, and with what weight.

internal import CKernels
internal import Glibc
package import LinearAlgebra
package import Tensors

/// The K experts of each token and their weights, token by token.
package struct Routing: Sendable, Equatable {
  package let expertsPerToken: Int
  package let tokens: Int
  /// `[T * K]`, in falling order of choice.
  package let experts: [Int]
  /// `[T * K]`.
  package let weights: [Float]

  init(expertsPerToken: Int, tokens: Int, experts: [Int], weights: [Float]) {
    self.expertsPerToken = expertsPerToken
    self.tokens = tokens
    self.experts = experts
    self.weights = weights
  }

  /// `[T, 2K]`: each token's experts, then their weights.
  package func matrix(backend: Backend) -> Matrix {
    let result = backend.matrix("routing", rows: tokens, columns: 2 * expertsPerToken)
    backend.compute {
      for token in 0..<tokens {
        for choice in 0..<expertsPerToken {
          let index = token * expertsPerToken + choice
          unsafe result.row(token)[choice] = Float(experts[index])
          unsafe result.row(token)[expertsPerToken + choice] = weights[index]
        }
      }
    }
    return result
  }

  /// What `matrix` was made from; no choices where only shapes are known.
  package init(_ matrix: Matrix, backend: Backend) {
    expertsPerToken = matrix.columns / 2
    tokens = matrix.rows
    var (experts, weights): ([Int], [Float]) = ([], [])
    for token in 0..<(backend.computes ? tokens : 0) {
      for choice in 0..<expertsPerToken {
        experts.append(unsafe Int(matrix.row(token)[choice]))
        weights.append(unsafe matrix.row(token)[expertsPerToken + choice])
      }
    }
    self.experts = experts
    self.weights = weights
  }

  /// The tokens of each expert with their weights, in token order.
  package func byExpert(_ count: Int) -> [[(token: Int, weight: Float)]] {
    var result = [[(token: Int, weight: Float)]](repeating: [], count: count)
    for (index, expert) in experts.enumerated() {
      result[expert].append((index / expertsPerToken, weights[index]))
    }
    return result
  }
}

extension RouterSpec {
  /// Scores of every expert, `[T, E]`, all in float32: a token's experts hang on their last digits.
  package func scores(_ x: Matrix, weights: any LayerWeights, backend: Backend) -> Matrix {
    let result = weights.apply(
      linear, to: input(x, weights: weights, backend: backend), backend: backend.exact,
      into: "router scores")
    if let logitCap { result.capSoftly(at: logitCap, backend: backend) }
    backend.compute {
      switch scoring {
      case .sigmoid: unsafe sluice_sigmoid(result.base, result.count)
      case .softmax:
        for row in 0..<result.rows { unsafe sluice_softmax(result.row(row), 1, result.columns) }
      case .sparseMixer: break
      }
    }
    return result
  }

  private func input(_ x: Matrix, weights: any LayerWeights, backend: Backend) -> Matrix {
    guard let norm else { return x }
    let result = backend.matrix("normed input", rows: x.rows, columns: x.columns)
    RMSNorm.apply(
      to: x, into: result, size: x.columns,
      gains: weights.vector(norm.gains).map { norm.factor * $0 }, epsilon: norm.epsilon,
      backend: backend)
    return result
  }

  /// Ties go to the lower index.
  package func route(_ x: Matrix, weights: any LayerWeights, backend: Backend) -> Routing {
    let scores = scores(x, weights: weights, backend: backend)
    let correction = correctionBias.map { weights.vector($0) }
    let scales = expertScales.map { weights.vector($0) }
    let chosen = backend.map(x.rows) { row in
      choose(
        unsafe Array(UnsafeBufferPointer(start: scores.row(row), count: linear.outputs)),
        correction: correction, scales: scales)
    }
    return Routing(
      expertsPerToken: expertsPerToken, tokens: x.rows, experts: chosen.flatMap(\.experts),
      weights: chosen.flatMap(\.weights))
  }

  private func choose(
    _ scores: [Float], correction: [Float]?, scales: [Float]?
  ) -> (experts: [Int], weights: [Float]) {
    if case .sparseMixer(let nearness) = scoring { return mix(scores, within: nearness) }
    var choice = correction.map { zip(scores, $0).map { $0 + $1 } } ?? scores
    if chosenGroups < groups {
      let size = choice.count / groups
      let counted = groupScore == .best ? 1 : 2
      let groupScores = (0..<groups).map { group in
        choice[group * size..<(group + 1) * size].sorted(by: >).prefix(counted).reduce(0, +)
      }
      let kept = Set(largest(chosenGroups, of: groupScores))
      for expert in choice.indices where !kept.contains(expert / size) {
        choice[expert] = -.infinity
      }
    }
    let experts = largest(expertsPerToken, of: choice)
    var weights = experts.map { scores[$0] }
    if normalizes {
      let sum = weights.reduce(0, +) + 1e-20
      weights = weights.map { $0 / sum }
    }
    if let scales { weights = zip(experts, weights).map { scales[$0] * $1 } }
    return (experts, weights.map { $0 * scalingFactor })
  }
}

extension RouterSpec {
  /// - Parameter nearness: of a score to the best one that is left, over the larger of the two sizes.
  private func mix(
    _ scores: [Float], within nearness: Float
  ) -> (experts: [Int], weights: [Float]) {
    var left = scores
    var weights: [Float] = []
    let experts = largest(expertsPerToken, of: scores)
    for expert in experts {
      let best = scores[expert]
      let near = left.filter { (best - $0) / max(abs($0), best) <= nearness }
      weights.append(1 / near.reduce(0) { $0 + exp($1 - best) })
      left[expert] = -.infinity
    }
    return (experts, weights)
  }
}

/// The indices of the `count` largest values, largest first.
private func largest(_ count: Int, of values: [Float]) -> [Int] {
  var result: [Int] = []
  for _ in 0..<count {
    var best = -1
    for index in values.indices where !result.contains(index) {
      if best < 0 || values[index] > values[best] { best = index }
    }
    result.append(best)
  }
  return result
}
