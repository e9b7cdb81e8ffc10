// What errors of groups count at the end of a model, where they meet at routers.

import Pipeline
import Planning
import Testing
import TestSupport

@Suite struct SensitivityTests {
  /// Groups in front of up to three routers; the second choice has a fraction of the first one's error, the third none.
  private func groups(_ generator: inout SeededGenerator) -> [GroupMeasurement] {
    (0..<7).map { index in
      let error = Double.random(in: 0.0001...0.01, using: &generator)
      return GroupMeasurement(
        name: "\(index)",
        errors: [error, error * Double.random(in: 0.001...0.1, using: &generator)],
        share: Double.random(in: 0.05...0.5, using: &generator), routers: index % 4)
    }
  }

  private func problem(_ losses: [[Double?]], _ bytes: [[Int]]) -> SizeChoice {
    SizeChoice(
      zip(losses, bytes).map { losses, bytes in
        bytes.enumerated().map { choice, bytes in
          SizeChoice.Option(bytes: bytes, loss: choice < 2 ? losses[choice] ?? .infinity : 0)
        }
      })
  }

  /// Every choice of every group tried.
  private func best(
    _ sensitivity: Sensitivity, _ bytes: [[Int]], within limit: Int
  ) -> Double {
    var least = Double.infinity
    let count = bytes.reduce(1) { $0 * $1.count }
    for number in 0..<count {
      var (rest, sum) = (number, 0)
      let chosen: [Int?] = bytes.map { bytes in
        defer { rest /= bytes.count }
        sum += bytes[rest % bytes.count]
        return rest % bytes.count < 2 ? rest % bytes.count : nil
      }
      if sum <= limit { least = min(least, sensitivity.loss(of: chosen)) }
    }
    return least
  }

  @Test func `groups are chosen by the root of all errors before a router`() throws {
    var (found, first) = (0, 0)
    for seed in 0..<40 {
      var generator = SeededGenerator(seed: UInt64(seed))
      let groups = groups(&generator)
      let bytes = groups.map { _ in
        let size = Int.random(in: 100...900, using: &generator)
        return [size, 2 * size, 4 * size]
      }
      let limit = bytes.reduce(0) { $0 + $1[0] } * 3 / 2
      let sensitivity = Sensitivity(groups, choices: [0, 1])
      func chosen(_ losses: [[Double?]]) -> [Int?] {
        (problem(losses, bytes).best(within: limit) ?? []).map { $0 < 2 ? $0 : nil }
      }
      var turns: [[Int?]] = []
      let losses = sensitivity.losses {
        turns.append(chosen($0))
        return turns[turns.count - 1]
      }
      let loss = sensitivity.loss(of: chosen(losses))
      // No turn was better, the first one least of all.
      #expect(turns.allSatisfy { loss <= sensitivity.loss(of: $0) })
      let least = best(sensitivity, bytes, within: limit)
      #expect(loss >= least * (1 - 1e-12) && loss < 1.1 * least, "\(seed): \(loss / least)")
      if loss <= least * (1 + 1e-12) { found += 1 }
      if sensitivity.loss(of: turns[0]) <= least * (1 + 1e-12) { first += 1 }
    }
    #expect(found > 30 && found >= first, "\(found) and \(first) of 40 are the best there are")
  }

  @Test func `a group that stays as it is costs nothing, and one alone what its router says`() {
    let groups = [
      GroupMeasurement(name: "a", errors: [0.04], share: 0.25, routers: 1),
      GroupMeasurement(name: "b", errors: [0.04], share: 0.25, routers: 0),
    ]
    let sensitivity = Sensitivity(groups, choices: [0])
    #expect(sensitivity.loss(of: [nil, nil]) == 0)
    #expect(abs(sensitivity.loss(of: [0, nil]) - (0.01 + 0.008 * 0.1)) < 1e-12)
    #expect(abs(sensitivity.loss(of: [0, 0]) - (0.02 + 0.008 * 0.1)) < 1e-12)
  }
}
