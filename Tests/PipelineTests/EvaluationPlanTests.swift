// The plan of an evaluation against what it takes, and the vocabulary cut in tiles against the vocabulary whole.

import Calibration
import Glibc
import Pipeline
import Planning
import SystemIO
import Testing
import TestSupport

@Suite struct EvaluationPlanTests {
  private func summary(memory: Int, threads: Int = 2) throws -> EvaluationSummary {
    try withTemporaryFolder { folder in
      let options = EvaluateOptions(
        models: [fixturePath("glm4-moe-4m")], reference: fixturePath("glm4-moe-4m"),
        data: CalibrationSource(
          path: fixturePath("calibration.jsonl"),
          selection: RowSelection(samples: 24, sequenceLength: 256)),
        memory: memory, threads: threads, scratch: folder + "/scratch")
      var result: EvaluationSummary?
      _ = try EvaluateModel(
        options, report: { if case .finished(let summary) = $0 { result = summary } }
      ).run()
      return try #require(result)
    }
  }

  /// The run itself stops where a buffer goes beyond the plan; here it must also come near.
  @Test(arguments: [1 << 40, 72 << 20, 0])
  func `buffers are what was planned`(memory: Int) throws {
    let smallest = try summary(memory: 1 << 40).plan.smallestBudget
    let summary = try summary(memory: max(memory, smallest))
    #expect(summary.plan.peakBytes <= max(memory, smallest))
    for step in summary.steps where step.step == .layers || step.step == .head {
      let planned = summary.plan.step(step.step).bufferBytes
      #expect(step.bufferBytes <= planned, "\(step.step)")
      #expect(Double(step.bufferBytes) >= 0.9 * Double(planned), "\(step.step)")
    }
  }

  @Test func `more memory means fewer passes`() throws {
    let plan = try summary(memory: 1 << 40).plan
    let small = try summary(memory: plan.smallestBudget).plan
    #expect(plan.headBlocks > small.headBlocks)
    #expect(plan.layerBlocks >= small.layerBlocks)
    #expect(small.headBlocks == 1)
  }

  @Test func `a budget that is too small is refused with one that works`() throws {
    let error = #expect(throws: BudgetTooSmall.self) { try summary(memory: 32 << 20) }
    let smallest = try #require(error).smallest
    #expect(throws: BudgetTooSmall.self) { try summary(memory: smallest - 1) }
    #expect(try summary(memory: smallest).plan.budget == smallest)
  }

  @Test func `where the tokenizer takes most, the way out is to spell nothing`() throws {
    try withCopiedFixture("rtn/bf16/W4A16") { model in
      // For all that is known before it is read, each comma stands between two tokens.
      let commas = [UInt8](repeating: UInt8(ascii: ","), count: 400_000)
      try replaceFile(model + "/tokenizer.json", with: commas)
      try replaceFile(model + "/ids.jsonl", with: Array("{\"input_ids\":[1,2,3]}\n".utf8))
      let options = EvaluateOptions(
        models: [model], reference: nil,
        data: CalibrationSource(
          path: model + "/ids.jsonl", selection: RowSelection(samples: 1, sequenceLength: 10)),
        memory: 64 << 20, threads: 1, scratch: model + "/scratch")
      let error = #expect(throws: BudgetTooSmall.self) { try EvaluateModel(options) }
      #expect(error?.step == "text" && error?.remedies == ["give --worst 0"])
    }
  }

  /// Log-probabilities by the definition.
  private func logProbabilities(_ logits: [Float]) -> [Double] {
    let largest = logits.map(Double.init).max() ?? 0
    let sum = logits.reduce(0) { $0 + exp(Double($1) - largest) }
    return logits.map { Double($0) - largest - log(sum) }
  }

  @Test(arguments: [1, 7, 64, 1000])
  func `a vocabulary in tiles is the vocabulary whole`(tile: Int) throws {
    var random = SeededGenerator(seed: 5)
    let model = random.floats(1000).map { 20 * $0 }
    let reference = zip(model, random.floats(1000)).map { $0 + $1 }
    let next = 641
    var tally = PositionTally()
    for start in stride(from: 0, to: 1000, by: tile) {
      let tokens = start..<min(start + tile, 1000)
      unsafe Array(model[tokens]).withUnsafeBufferPointer { found in
        unsafe Array(reference[tokens]).withUnsafeBufferPointer { wanted in
          unsafe tally.add(
            model: found.baseAddress!, reference: wanted.baseAddress!, of: tokens, next: next)
        }
      }
    }
    let (found, wanted) = (logProbabilities(model), logProbabilities(reference))
    var divergence = 0.0
    for (want, got) in zip(wanted, found) { divergence += exp(want) * (want - got) }
    #expect(abs(tally.divergence - divergence) < 1e-9)
    let nll = tally.model.logSum - tally.model.next
    #expect(abs(nll + found[next]) < 1e-9)
    let referenceNLL = tally.reference.logSum - tally.reference.next
    #expect(abs(referenceNLL + wanted[next]) < 1e-9)
    #expect(Int(tally.model.choice) == found.indices.max { found[$0] < found[$1] })
    let best = try #require(wanted.max())
    #expect(abs(1 / tally.reference.sum - exp(best)) < 1e-12)
  }
}
