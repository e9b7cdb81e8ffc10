// What an evaluation comes to: means over all positions, the same by position, and the worst tokens.

internal import Glibc
internal import JSON

/// What became of one position of a sequence.
struct PositionScore: Sendable {
  let sequence: Int
  /// Tokens of the sequence up to this position, itself included: what the prediction rests on.
  let seen: Int
  /// Negative log-likelihood of the token that follows; nil at the end of a sequence.
  let nll: Double?
  let referenceNLL: Double?
  let divergence: Double?
  let choice: Int32
  /// The probability of the choice.
  let chance: Float
  let referenceChoice: Int32
  let referenceChance: Float

  init(_ tally: PositionTally, sequence: Int, seen: Int, hasNext: Bool, hasReference: Bool) {
    self.sequence = sequence
    self.seen = seen
    nll = hasNext ? tally.model.logSum - tally.model.next : nil
    referenceNLL =
      hasNext && hasReference ? tally.reference.logSum - tally.reference.next : nil
    divergence = hasReference ? tally.divergence : nil
    choice = tally.model.choice
    chance = Float(1 / tally.model.sum)
    referenceChoice = tally.reference.choice
    referenceChance = hasReference ? Float(1 / tally.reference.sum) : 0
  }
}

/// Distance of a model to its reference, over some positions.
package struct Divergence: Sendable, Equatable {
  /// Mean of KL(reference || model), in nats.
  package let mean: Double
  package let median: Double
  package let percentile99: Double
  package let largest: Double
  /// Share of positions with the same most likely token.
  package let agreement: Double
}

/// Means over some positions.
package struct PositionStatistics: Sendable, Equatable {
  package let positions: Int
  /// Mean negative log-likelihood of each token given the ones before it, in nats; nil where no position has a next
  /// token.
  package let nll: Double?
  package let referenceNLL: Double?
  /// nil without a reference.
  package let divergence: Divergence?

  package var perplexity: Double? { nll.map { exp($0) } }
  package var referencePerplexity: Double? { referenceNLL.map { exp($0) } }

  init(_ scores: some Collection<PositionScore>) {
    func mean(_ values: some Sequence<Double>) -> Double? {
      let (sum, count) = values.reduce(into: (0.0, 0)) {
        $0.0 += $1
        $0.1 += 1
      }
      return count > 0 ? sum / Double(count) : nil
    }
    positions = scores.count
    nll = mean(scores.lazy.compactMap(\.nll))
    referenceNLL = mean(scores.lazy.compactMap(\.referenceNLL))
    guard let average = mean(scores.lazy.compactMap(\.divergence)) else {
      divergence = nil
      return
    }
    let sorted = scores.compactMap(\.divergence).sorted()
    // As torch.kthvalue(int(share * n)) counts, from 1.
    func percentile(_ share: Double) -> Double {
      sorted[max(0, Int(saturating: share * Double(sorted.count)) - 1)]
    }
    let agreements = scores.count { $0.choice == $0.referenceChoice }
    divergence = Divergence(
      mean: average, median: percentile(0.5), percentile99: percentile(0.99),
      largest: sorted[sorted.count - 1],
      agreement: Double(agreements) / Double(scores.count))
  }
}

/// Positions that have seen from `first` to `last` tokens of their sequence.
package struct PositionBucket: Sendable, Equatable {
  package let first: Int
  package let last: Int
  package let statistics: PositionStatistics

  /// Where buckets begin: 1 to 15, 16 to 63, 64 to 255, and four times as many each time. The end of the longest
  /// sequence, which nothing follows, is no bucket of its own.
  static func bounds(longest: Int) -> [Range<Int>] {
    var bounds = [1..<16]
    while let end = bounds.last?.upperBound, end < longest { bounds.append(end..<4 * end) }
    let last = bounds.removeLast()
    return bounds + [last.lowerBound..<max(last.upperBound, longest + 1)]
  }
}

/// A token, and how it reads where there is a tokenizer.
package struct SpelledToken: Sendable, Equatable {
  package let token: Int32
  package let text: String?
  package let probability: Double
}

/// A position where a model is at its worst: the farthest from its reference, or without one the most surprised.
package struct WorstPosition: Sendable, Equatable {
  /// From 0.
  package let sequence: Int
  /// Tokens before the one that is predicted.
  package let seen: Int
  package let divergence: Double?
  package let nll: Double?
  package let referenceNLL: Double?
  /// The last tokens before the prediction, and their text.
  package let context: [Int32]
  package let contextText: String?
  /// What follows in the data, with the model's probability; nil at the end of a sequence.
  package let next: SpelledToken?
  package let choice: SpelledToken
  package let referenceChoice: SpelledToken?
}

package struct Evaluation: Sendable, Equatable {
  package let sequences: Int
  package let tokens: Int
  package let all: PositionStatistics
  /// Ranges of positions that occur, in order.
  package let buckets: [PositionBucket]
  /// Worst first.
  package let worst: [WorstPosition]

  package var nll: Double? { all.nll }
  package var divergence: Divergence? { all.divergence }
}
