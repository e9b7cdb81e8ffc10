// The choice of experts on scores written by hand.

import LinearAlgebra
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct RouterTests {
  /// Scores that the router's Linear passes on as they are: x is the input, the weight the identity.
  private struct Identity: LayerWeights {
    let correction: [Float]

    func vector(_ tensor: String) -> [Float] { correction }

    func weight(_ linear: LinearSpec) -> any WeightRows {
      let size = correction.count
      return Matrix(
        rows: size, columns: size,
        values: (0..<size * size).map { $0 / size == $0 % size ? 1 : 0 })
    }
  }

  private func route(
    _ x: [Float], correction: [Float], k: Int, groups: Int = 1, of chosen: Int = 1,
    normalizes: Bool = false, factor: Float = 1, scoring: RouterSpec.Scoring = .sigmoid,
    judgedBy groupScore: RouterSpec.GroupScore = .sumOfTwoBest
  ) -> Routing {
    let count = correction.count
    let router = RouterSpec(
      linear: LinearSpec("gate", inputs: count, outputs: count), scoring: scoring,
      correctionBias: "correction", expertsPerToken: k, groups: groups, chosenGroups: chosen,
      groupScore: groupScore, normalizes: normalizes, scalingFactor: factor)
    return router.route(
      Matrix(rows: x.count / count, columns: count, values: x),
      weights: Identity(correction: correction), backend: Backend(threads: 2))
  }

  @Test func theBestScoresAreChosenAndTheirSigmoidsAreTheWeights() {
    let routing = route([0, 2, 1, -1, 3, 0, 0, 1], correction: [0, 0, 0, 0], k: 2)
    #expect(routing.experts == [1, 2, 0, 3])
    let expected: [Float] = [0.880797, 0.731059, 0.952574, 0.731059]
    #expect(relativeError(routing.weights, expected) < 1e-6)
  }

  /// Shares among scores of 3, 2.95, 2 and 1, then among the three that are left: within a tenth of the best one.
  @Test func `one expert after the other is weighed against those whose scores are near its own`() {
    let routing = route(
      [2, 3, 1, 2.95], correction: [0, 0, 0, 0], k: 2, scoring: .sparseMixer(within: 0.1))
    #expect(routing.experts == [1, 3])
    let first: Float = 1 / (1 + 0.9512294)
    #expect(relativeError(routing.weights, [first, 1]) < 1e-6)
    // Below zero the larger size is that of the other score: 0.3 is within a quarter of 1.3.
    let below = route(
      [-1, -1.3, -4], correction: [0, 0, 0], k: 2, scoring: .sparseMixer(within: 0.25))
    #expect(below.experts == [0, 1])
    #expect(relativeError(below.weights, [1 / (1 + 0.74081822), 1]) < 1e-6)
  }

  @Test func theCorrectionBiasChoosesButDoesNotWeigh() {
    let routing = route([0, 2, 1, -1], correction: [10, 0, 0, 0], k: 2)
    #expect(routing.experts == [0, 1])
    #expect(relativeError(routing.weights, [0.5, 0.880797]) < 1e-6)
  }

  @Test func weightsAreNormalizedOverTheChosenAndThenScaled() {
    let routing = route(
      [0, 2, 1, -1], correction: [0, 0, 0, 0], k: 2, normalizes: true, factor: 3)
    let sum: Float = 0.880797 + 0.731059
    #expect(relativeError(routing.weights, [3 * 0.880797 / sum, 3 * 0.731059 / sum]) < 1e-6)
  }

  @Test func aGroupCountsAsMuchAsItsTwoBestExperts() {
    // Group 0 has the best expert, group 1 the best pair: three good experts must not win for group 2 either.
    let x: [Float] = [3, -9, -9, 1.5, 1.5, -9, 0.9, 0.9, 0.9]
    let routing = route(x, correction: [Float](repeating: 0, count: 9), k: 2, groups: 3)
    #expect(routing.experts == [3, 4])
    let two = route(x, correction: [Float](repeating: 0, count: 9), k: 3, groups: 3, of: 2)
    #expect(two.experts == [3, 4, 6])
  }

  @Test func orAsMuchAsItsBest() {
    let x: [Float] = [3, -9, -9, 1.5, 1.5, -9, 0.9, 0.9, 0.9]
    let routing = route(
      x, correction: [Float](repeating: 0, count: 9), k: 2, groups: 3, judgedBy: .best)
    #expect(routing.experts == [0, 1])
  }

  @Test func softmaxScoresAreSharesOfAllExpertsOrOfTheChosen() {
    let x: [Float] = [0, 2, 1, -1]
    let sum: Float = 1 + 7.389056 + 2.718282 + 0.367879
    let shares = route(x, correction: [0, 0, 0, 0], k: 2, scoring: .softmax)
    #expect(shares.experts == [1, 2])
    #expect(relativeError(shares.weights, [7.389056 / sum, 2.718282 / sum]) < 1e-6)
    let normalized = route(
      x, correction: [0, 0, 0, 0], k: 2, normalizes: true, scoring: .softmax)
    let chosen: Float = 7.389056 + 2.718282
    #expect(relativeError(normalized.weights, [7.389056 / chosen, 2.718282 / chosen]) < 1e-6)
  }

  @Test func expertsOfOtherGroupsStayOutAlsoWithNegativeChoices() {
    let x: [Float] = [0, 0, 1, 1]
    let routing = route(x, correction: [-2, -2, -3, -3], k: 2, groups: 2)
    #expect(routing.experts == [0, 1])
  }

  @Test func tiesGoToTheLowerIndex() {
    let routing = route([1, 1, 1, 1], correction: [0, 0, 0, 0], k: 3)
    #expect(routing.experts == [0, 1, 2])
  }

  @Test func tokensAreListedByExpertInTokenOrder() {
    let routing = route([0, 2, 1, 2, 0, 1, 2, 1, 0], correction: [0, 0, 0], k: 2)
    let tokens = routing.byExpert(3)
    #expect(tokens.map { $0.map(\.token) } == [[1, 2], [0, 2], [0, 1]])
    #expect(tokens[1].map(\.weight) == [routing.weights[0], routing.weights[5]])
  }
}
