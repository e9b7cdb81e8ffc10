// The best choice for a size against all choices that there are, and against a table over all sizes.

import Planning
import Testing

@Suite struct SizeChoiceTests {
  /// Numbers that look random: steps of a congruential generator.
  private struct Numbers {
    private var state: UInt64
    init(_ seed: Int) { state = UInt64(seed) &* 0x9e37_79b9_7f4a_7c15 }
    mutating func next(_ count: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % count
    }
  }

  /// Groups with up to four options: more bytes mostly cost less, and some options are of no use.
  private func groups(_ count: Int, seed: Int, largest: Int) -> [[SizeChoice.Option]] {
    var numbers = Numbers(seed)
    return (0..<count).map { _ in
      (0...numbers.next(4)).map { index in
        SizeChoice.Option(
          bytes: 1 + numbers.next(largest) * (index + 1), loss: Double(numbers.next(1000)) / 64)
      }
    }
  }

  /// The least loss within each size, by a table over bytes.
  private func table(_ groups: [[SizeChoice.Option]], within limit: Int) -> Double? {
    var best = [Double](repeating: .infinity, count: limit + 1)
    best[0] = 0
    for group in groups {
      var next = [Double](repeating: .infinity, count: limit + 1)
      for option in group where option.bytes <= limit {
        for bytes in option.bytes...limit where best[bytes - option.bytes] < .infinity {
          next[bytes] = min(next[bytes], best[bytes - option.bytes] + option.loss)
        }
      }
      best = next
    }
    return best.min().flatMap { $0 < .infinity ? $0 : nil }
  }

  @Test(arguments: 0..<40) func `no other choice that fits has less loss`(seed: Int) throws {
    let groups = groups(2 + seed % 12, seed: seed, largest: 1 + 3 * (seed % 7))
    let problem = SizeChoice(groups)
    let most = groups.reduce(0) { $0 + ($1.map(\.bytes).max() ?? 0) }
    for limit in 0...most + 1 {
      let expected = table(groups, within: limit)
      guard let choice = problem.best(within: limit) else {
        #expect(expected == nil && limit < problem.smallestBytes)
        continue
      }
      let sum = problem.sum(of: choice)
      #expect(sum.bytes <= limit)
      #expect(abs(sum.loss - (try #require(expected))) < 1e-9, "limit \(limit)")
    }
  }

  /// As many groups as the largest models have, in few sizes, and losses of many orders.
  @Test func `groups of a large model are chosen for exactly`() throws {
    var numbers = Numbers(7)
    let sizes = [(30, 60, 113), (16, 31, 60), (8, 15, 29), (500, 990, 1900)]
    let groups = (0..<460).map { index -> [SizeChoice.Option] in
      let size = sizes[index % 4]
      let loss = Double(1 + numbers.next(1000)) * Double(size.0)
      return [
        SizeChoice.Option(bytes: size.0, loss: loss),
        SizeChoice.Option(bytes: size.1, loss: loss / Double(200 + numbers.next(100))),
        SizeChoice.Option(bytes: size.2, loss: 0),
      ]
    }
    let problem = SizeChoice(groups)
    let span = groups.reduce(0) { $0 + $1[2].bytes } - problem.smallestBytes
    for percent in [1, 3, 10, 50, 99] {
      let limit = problem.smallestBytes + span * percent / 100
      let sum = problem.sum(of: try #require(problem.best(within: limit)))
      let best = try #require(table(groups, within: limit))
      #expect(sum.bytes <= limit && abs(sum.loss - best) <= 1e-9 * best, "\(percent) %")
    }
  }

  @Test func `of equal losses the choice takes least, then the first option`() {
    let option = SizeChoice.Option(bytes: 4, loss: 1)
    let problem = SizeChoice([
      [option, option, SizeChoice.Option(bytes: 3, loss: 1)], [option, option],
    ])
    #expect(problem.best(within: 100) == [2, 0])
    #expect(problem.best(within: 6) == nil && problem.smallestBytes == 7)
  }

  @Test func `the frontier falls, and no choice of its sizes is better`() throws {
    let groups = groups(24, seed: 3, largest: 9)
    let problem = SizeChoice(groups)
    let frontier = problem.frontier
    #expect(frontier.first?.bytes == problem.smallestBytes && frontier.count > 5)
    for (a, b) in zip(frontier, frontier.dropFirst()) {
      #expect(a.bytes < b.bytes && a.loss > b.loss)
    }
    for point in frontier {
      #expect(abs(point.loss - (try #require(table(groups, within: point.bytes)))) < 1e-9)
    }
    let least = groups.reduce(0) { $0 + ($1.map(\.loss).min() ?? 0) }
    #expect(abs((try #require(frontier.last)).loss - least) < 1e-9)
  }
}
