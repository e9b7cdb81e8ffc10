// Which tokens the experts of a layer see for their statistics, and how much each of them counts.

internal import Calibration
internal import LinearAlgebra
internal import Quantization
internal import Tensors
internal import Transformer

/// What a unit sees of a block of tokens.
struct SeenTokens {
  /// Rows of the block, ascending; nil for all of them.
  let rows: [Int]?
  /// How much each of the rows counts; nil where all count alike.
  let weights: [Float]?

  static let all = SeenTokens(rows: nil, weights: nil)
}

/// The tokens that each expert of a layer sees, block after block: all that the router sends to it, and a sample of the
/// others, which stands for all of them.
struct ExpertTokens {
  private let computes: Bool
  private let weighting: ExpertWeighting
  private let tokens: Int
  private let shares: [ExpertShare]
  private let samples: [TokenSample]
  /// Of each expert, whether it may leave tokens out. Then its tokens are gathered in small parts, also where the router
  /// sends so many to it that none is left out: no plan knows that.
  private let chooses: [Bool]
  /// Tokens of the blocks that came before, and how many of them were sent to each expert.
  private var passed: (tokens: Int, routed: [Int])

  /// - Parameters:
  ///   - experts: of the layer.
  ///   - shares: what the router sends to each of them, over all blocks.
  ///   - routed: tokens of each expert in the blocks that are done, of `passed` tokens.
  ///   - computes: false where it is only known how many tokens there are.
  init(
    _ options: QuantizeOptions, layer: Int, tokens: Int, experts: [UnitSpec],
    shares: [ExpertShare], passed: Int, routed: [Int], computes: Bool
  ) {
    self.computes = computes
    weighting = options.weighting
    self.tokens = tokens
    self.shares = shares
    let wanted = experts.map {
      options.expertTokens.count(channels: $0.down.inputs, of: tokens)
    }
    samples = shares.enumerated().map { expert, share in
      TokenSample(
        tokens: tokens, own: share.tokens, wanted: wanted[expert], layer: layer, expert: expert)
    }
    chooses = wanted.map { $0 != nil }
    self.passed = (passed, routed)
  }

  /// What an expert sees of the next block.
  ///
  /// - Parameters:
  ///   - routed: the block's tokens that were sent to the expert, and their weights.
  ///   - count: the block's tokens.
  func seen(
    by expert: Int, of routed: [(token: Int, weight: Float)], count: Int
  ) -> SeenTokens {
    let sample = samples[expert]
    if !computes { return evenly(sample, expert, count: count) }
    let weights = weighting.weights(
      tokens: count, routed: routed, meanSquare: shares[expert].squares / Double(tokens),
      others: sample.weight)
    if !chooses[expert] { return SeenTokens(rows: nil, weights: weights) }
    var isSeen = [Bool](repeating: false, count: count)
    for (token, _) in routed { isSeen[token] = true }
    let others = isSeen.indices.filter { !isSeen[$0] }
    let first = passed.tokens - passed.routed[expert]
    for number in sample.chosen(in: first..<first + others.count) {
      isSeen[others[number - first]] = true
    }
    let rows = isSeen.indices.filter { isSeen[$0] }
    return SeenTokens(rows: rows, weights: weights.map { all in rows.map { all[$0] } })
  }

  /// As many of a block as of all tokens.
  private func evenly(_ sample: TokenSample, _ expert: Int, count: Int) -> SeenTokens {
    if !chooses[expert] { return .all }
    let all = (shares[expert].tokens + sample.count) * count
    return SeenTokens(rows: Array(0..<max(1, (all + tokens - 1) / tokens)), weights: nil)
  }

  /// Goes on to the block after one of `count` tokens.
  mutating func pass(_ routed: [[(token: Int, weight: Float)]], count: Int) {
    passed.tokens += count
    for expert in routed.indices { passed.routed[expert] += routed[expert].count }
  }
}

extension OtherTokens {
  /// What one of these experts sees at most beside its own; nil where all of them see all tokens.
  func most(of experts: some Sequence<UnitSpec>, tokens: Int) -> Int? {
    Set(experts.map(\.down.inputs)).compactMap { count(channels: $0, of: tokens) }.max()
  }
}
