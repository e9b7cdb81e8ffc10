// The evaluation put together: scores to means, buckets and the worst positions, spelled where there is a tokenizer.

internal import Calibration
internal import Glibc
internal import Tokenization

extension Evaluation {
  /// Tokens that are shown before a prediction.
  fileprivate static let contextTokens = 32

  /// - Parameter scores: of every position, in the order of the blocks.
  init(_ scores: [PositionScore], of run: EvaluateModel, _ spelling: Spelling) {
    let sequences = run.blocks.flatMap { block in
      block.sequences.map { block.tokens[$0] }
    }
    self.sequences = sequences.count
    tokens = scores.count
    all = PositionStatistics(scores)
    let longest = sequences.map(\.count).max() ?? 0
    buckets = PositionBucket.bounds(longest: longest).compactMap { bounds in
      let inside = scores.lazy.filter { bounds.contains($0.seen) }
      if inside.isEmpty { return nil }
      return PositionBucket(
        first: bounds.lowerBound, last: min(bounds.upperBound - 1, longest),
        statistics: PositionStatistics(inside))
    }
    worst = Self.worst(scores, run.options.worst, in: sequences).map { score in
      WorstPosition(score, in: sequences[score.sequence], spelling)
    }
  }

  /// By divergence, or by surprise without a reference; of equal ones the first. What is shown of two positions differs:
  /// many chats begin alike.
  private static func worst(
    _ scores: [PositionScore], _ count: Int, in sequences: [ArraySlice<Int32>]
  ) -> [PositionScore] {
    func context(_ index: Int) -> ArraySlice<Int32> {
      sequences[scores[index].sequence].prefix(scores[index].seen).suffix(contextTokens)
    }
    var chosen: [(index: Int, badness: Double)] = []
    for (index, score) in scores.enumerated() {
      guard let badness = score.divergence ?? score.nll else { continue }
      if chosen.count == count, badness <= chosen.last?.badness ?? .infinity { continue }
      let shown = context(index)
      if let same = chosen.firstIndex(where: { context($0.index) == shown }) {
        if badness <= chosen[same].badness { continue }
        chosen.remove(at: same)
      }
      let place = chosen.firstIndex { $0.badness < badness } ?? chosen.count
      chosen.insert((index, badness), at: place)
      if chosen.count > count { chosen.removeLast() }
    }
    return chosen.map { scores[$0.index] }
  }
}

extension WorstPosition {
  fileprivate init(_ score: PositionScore, in sequence: ArraySlice<Int32>, _ spelling: Spelling) {
    let tokens = Array(sequence)
    self.sequence = score.sequence
    seen = score.seen
    divergence = score.divergence
    nll = score.nll
    referenceNLL = score.referenceNLL
    context = tokens[..<score.seen].suffix(Evaluation.contextTokens)
    contextText = spelling.text(of: context)
    next = score.nll.map { spelling.token(tokens[score.seen], probability: exp(-$0)) }
    choice = spelling.token(score.choice, probability: Double(score.chance))
    referenceChoice =
      score.divergence == nil
      ? nil
      : spelling.token(score.referenceChoice, probability: Double(score.referenceChance))
  }
}

/// Ids to text by the tokenizer of the reference, or of the first model without one; to nothing where there is none.
struct Spelling {
  private let tokenizer: Tokenizer?

  init(_ run: EvaluateModel) {
    let folder = run.options.reference ?? run.options.models[0]
    let isThere = run.options.worst > 0 && (try? Tokenizer.memory(folder: folder)) ?? 0 > 0
    // One that cannot be read is no reason to lose the numbers.
    tokenizer = isThere ? try? Tokenizer(folder: folder) : nil
  }

  func text(of tokens: [Int32]) -> String? { try? tokenizer?.decode(tokens) }

  func token(_ token: Int32, probability: Double) -> SpelledToken {
    SpelledToken(token: token, text: text(of: [token]), probability: probability)
  }
}
