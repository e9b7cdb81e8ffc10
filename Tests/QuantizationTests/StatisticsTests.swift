// Moments and Gram matrices against plain sums in Double.

import LinearAlgebra
import Quantization
import Tensors
import Testing
import TestSupport

@Suite struct StatisticsTests {
  private func collect(_ blocks: [Matrix], channels: Int, threads: Int) -> ActivationStatistics {
    let result = ActivationStatistics(channels: channels, withGram: true)
    for block in blocks { result.add(block, backend: Backend(threads: threads)) }
    return result
  }

  @Test(arguments: [1, 5, 256, 300])
  func momentsAndGramAreMeansOverAllBlocks(channels: Int) throws {
    var generator = SeededGenerator(seed: 44)
    let blocks = [
      generator.matrix(40, channels), generator.matrix(1, channels), generator.matrix(33, channels),
    ]
    let statistics = collect(blocks, channels: channels, threads: 2)
    let rows = blocks.flatMap { block in
      (0..<block.rows).map { row in
        block.values[row * channels..<(row + 1) * channels].map(Double.init)
      }
    }
    func mean(_ term: ([Double]) -> Double) -> Float {
      Float(rows.reduce(0) { $0 + term($1) } / Double(rows.count))
    }
    #expect(statistics.tokens == 74)
    #expect(
      relativeError(statistics.meanAbsolute, (0..<channels).map { c in mean { abs($0[c]) } }) < 1e-6
    )
    #expect(
      relativeError(statistics.meanSquare, (0..<channels).map { c in mean { $0[c] * $0[c] } })
        < 1e-6)
    let gram = try #require(statistics.grams().first)
    let expected = (0..<channels).flatMap { a in
      (0..<channels).map { b in mean { $0[a] * $0[b] } }
    }
    #expect(relativeError(gram.values, expected) < 1e-5)
  }

  @Test func aWeightCountsATokenThatManyTimes() throws {
    var generator = SeededGenerator(seed: 48)
    let x = generator.matrix(40, 300)
    let counts = (0..<40).map { [0, 1, 2, 4][$0 % 4] }
    let repeated = (0..<40).flatMap { row in
      (0..<counts[row]).flatMap { _ in
        unsafe Array(UnsafeBufferPointer(start: x.row(row), count: 300))
      }
    }
    let plain = collect(
      [Matrix(rows: counts.reduce(0, +), columns: 300, values: repeated)], channels: 300, threads: 1
    )
    let weighted = ActivationStatistics(channels: 300, withGram: true)
    weighted.add(x, weights: counts.map(Float.init), backend: Backend(threads: 2))
    #expect(weighted.tokens == 40)
    #expect(relativeError(weighted.meanAbsolute, plain.meanAbsolute) < 1e-6)
    #expect(relativeError(weighted.meanSquare, plain.meanSquare) < 1e-6)
    let grams = try (#require(weighted.grams().first), #require(plain.grams().first))
    #expect(relativeError(grams.0.values, grams.1.values) < 1e-6)
  }

  @Test func wideActivationsAreCutIntoWholeGroups() {
    #expect(ActivationStatistics.gramRanges(300) == [0..<300])
    #expect(ActivationStatistics.gramRanges(8192) == [0..<8192])
    let heads = ActivationStatistics.gramRanges(12288)
    #expect(heads == (0..<6).map { $0 * 2048..<($0 + 1) * 2048 })
    let odd = ActivationStatistics.gramRanges(20000)
    #expect(odd.count == 10 && odd.dropLast().allSatisfy { $0.count == 2048 })
    #expect(odd.last == 18432..<20000)
    // Where a part of as many channels as the others would end within a group of 256.
    for channels in stride(from: 8448, through: 40_000, by: 256) {
      let parts = ActivationStatistics.gramRanges(channels)
      #expect(parts.allSatisfy { $0.lowerBound % 256 == 0 && $0.count <= 2048 }, "\(channels)")
    }
  }

  @Test func statisticsDoNotDependOnThreads() throws {
    var generator = SeededGenerator(seed: 45)
    let blocks = [generator.matrix(40, 300), generator.matrix(70, 300)]
    let all = [1, 2, 7].map { collect(blocks, channels: 300, threads: $0) }
    for other in all[1...] {
      #expect(other.meanAbsolute == all[0].meanAbsolute)
      #expect(other.meanSquare == all[0].meanSquare)
    }
    let grams = all.map { $0.grams().first?.values.map(\.bitPattern) }
    #expect(grams[0] != nil && grams[0] == grams[1] && grams[0] == grams[2])
  }

  @Test func withoutAGramThereIsNone() {
    #expect(ActivationStatistics(channels: 3, withGram: false).grams().isEmpty)
  }

  @Test func askingForTheGramTwiceGivesTheSame() throws {
    var generator = SeededGenerator(seed: 46)
    let statistics = collect([generator.matrix(9, 4)], channels: 4, threads: 1)
    let first = try #require(statistics.grams().first).values
    #expect(statistics.grams().first?.values == first)
  }

  @Test func aChannelWithANonFiniteValueIsFound() {
    var generator = SeededGenerator(seed: 47)
    for bad in [Float.nan, .infinity] {
      let x = generator.matrix(40, 5)
      #expect(collect([x], channels: 5, threads: 1).firstNonFiniteChannel == nil)
      unsafe x.row(33)[3] = bad
      #expect(collect([x], channels: 5, threads: 1).firstNonFiniteChannel == 3)
    }
  }
}
