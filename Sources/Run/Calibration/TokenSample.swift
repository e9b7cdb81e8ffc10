// Which tokens an expert sees beside those that the router sends to it, where it does not see all.

internal import Tensors

/// A seeded choice among the tokens that are sent elsewhere, numbered from 0 in the order of the data: they are cut into
/// as many stretches as are wanted, and one is drawn from each.
///
/// A function of what it is made from alone: how tokens lie in blocks, and where a run goes on, change nothing.
package struct TokenSample: Sendable, Equatable {
  /// What an expert sees at least, its own tokens included: with fewer, a group of channels has no statistics.
  package static let fewest = 128
  private static let seed: UInt64 = 0x5c1c_e000

  /// Tokens to choose from.
  package let population: Int
  /// Tokens that are chosen.
  package let count: Int
  private let seed: UInt64

  /// - Parameters:
  ///   - tokens: of the run.
  ///   - own: those that the router sends to the expert.
  ///   - wanted: how many of the others it shall see; nil for all.
  package init(tokens: Int, own: Int, wanted: Int?, layer: Int, expert: Int) {
    let population = tokens - own
    self.population = population
    count = wanted.map { min(max($0, Self.fewest - own), population) } ?? population
    seed = draw(draw(Self.seed, layer), expert)
  }

  package var isWhole: Bool { count == population }

  /// How many tokens each of the chosen ones stands for.
  package var weight: Float { count > 0 ? Float(Double(population) / Double(count)) : 1 }

  /// The tokens chosen within a range, ascending.
  package func chosen(in range: Range<Int>) -> [Int] {
    if range.isEmpty || count == 0 { return [] }
    let stretches = stretch(of: range.lowerBound)...stretch(of: range.upperBound - 1)
    return stretches.map(chosen).filter(range.contains)
  }

  private func chosen(_ stretch: Int) -> Int {
    let first = stretch * population / count
    let size = (stretch + 1) * population / count - first
    return first + Int(draw(seed, stretch) % UInt64(size))
  }

  private func stretch(of token: Int) -> Int { ((token + 1) * count - 1) / population }
}
