// The choice of tokens that an expert sees beside its own.

import Calibration
import Testing

@Suite struct TokenSampleTests {
  private func sample(
    _ tokens: Int, own: Int = 0, wanted: Int?, layer: Int = 3, expert: Int = 5
  ) -> TokenSample {
    TokenSample(tokens: tokens, own: own, wanted: wanted, layer: layer, expert: expert)
  }

  @Test(arguments: [(1000, 200), (1000, 999), (7777, 1024), (129, 128), (100_003, 4096)])
  func asManyAreChosenAsAreWantedAndSpreadOverTheData(population: Int, wanted: Int) {
    let sample = sample(population, wanted: wanted)
    let chosen = sample.chosen(in: 0..<population)
    #expect(chosen.count == wanted && sample.count == wanted)
    #expect(zip(chosen, chosen.dropFirst()).allSatisfy { $0 < $1 })
    #expect(chosen.allSatisfy { 0 <= $0 && $0 < population })
    // Any part of the data has its share, but for a token at either end.
    for parts in [2, 3, 10, 64] {
      for part in 0..<parts {
        let range = part * population / parts..<(part + 1) * population / parts
        let share = Double(range.count * wanted) / Double(population)
        #expect(abs(Double(sample.chosen(in: range).count) - share) <= 2, "\(range)")
      }
    }
  }

  @Test func howTheDataIsCutChangesNothing() {
    let sample = sample(5000, wanted: 333)
    let whole = sample.chosen(in: 0..<5000)
    for size in [1, 2, 7, 100, 1024, 4999] {
      let cut = stride(from: 0, to: 5000, by: size).flatMap {
        sample.chosen(in: $0..<min($0 + size, 5000))
      }
      #expect(cut == whole, "\(size)")
    }
    #expect(sample.chosen(in: 17..<17) == [])
  }

  /// What another build of the program chose: a run that it began goes on with the same tokens.
  ///
  /// From SplitMix64 in Python: of stretch k, token k * 1000 // 200 + draw(draw(draw(0x5c1ce000, 3), 5), k) % 5.
  @Test func theChoiceIsTheSameForever() {
    let chosen = sample(1000, wanted: 200).chosen(in: 0..<1000)
    #expect(Array(chosen.prefix(8)) == [1, 9, 13, 17, 24, 29, 34, 39])
    #expect(Array(chosen.suffix(4)) == [981, 988, 993, 997])
  }

  @Test func everyExpertOfEveryLayerHasAChoiceOfItsOwn() {
    var seen: Set<[Int]> = []
    for layer in 0..<10 {
      for expert in 0..<20 {
        seen.insert(
          sample(4000, wanted: 200, layer: layer, expert: expert).chosen(in: 0..<4000))
      }
    }
    #expect(seen.count == 200)
  }

  @Test func everyTokenIsAsLikelyAsAnyOther() {
    let (population, experts) = (640, 4000)
    var times = [Int](repeating: 0, count: population)
    for expert in 0..<experts {
      let sample = sample(population, wanted: 128, expert: expert)
      for token in sample.chosen(in: 0..<population) { times[token] += 1 }
    }
    // One in five, give or take five standard deviations.
    #expect(times.allSatisfy { abs($0 - 800) < 127 })
    #expect(times.reduce(0, +) == 128 * experts)
  }

  @Test func whoAsksForMoreThanThereAreGetsAll() {
    for wanted in [801, 800, nil] {
      let sample = sample(1000, own: 200, wanted: wanted)
      #expect(sample.isWhole && sample.weight == 1)
      #expect(sample.chosen(in: 0..<800) == Array(0..<800))
    }
    let almost = sample(1000, own: 200, wanted: 799)
    #expect(!almost.isWhole)
    #expect(almost.weight == Float(800.0 / 799))
  }

  @Test(arguments: [(0, 128), (100, 28), (127, 1), (128, 0), (5000, 0)])
  func anExpertWithFewTokensOfItsOwnSeesOthersAllTheSame(own: Int, others: Int) {
    let sample = sample(10_000, own: own, wanted: 0)
    #expect(sample.count == others)
    #expect(sample.chosen(in: 0..<10_000 - own).count == others)
    #expect(!sample.isWhole)
    // Fewer tokens than that are all seen.
    #expect(self.sample(60, own: min(own, 60), wanted: 0).isWhole)
  }
}
