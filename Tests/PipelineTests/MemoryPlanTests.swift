// The plan of memory against what a run takes: never less, and hardly more.

internal import Calibration
import Pipeline
import Planning
import Quantization
import Safetensors
import SystemIO
import Testing
import TestSupport

@Suite struct MemoryPlanTests {
  private func summary(_ options: QuantizeOptions) throws -> RunSummary {
    var result: RunSummary?
    try SmallRun.run(options) { if case .finished(let summary) = $0 { result = summary } }
    return try #require(result)
  }

  private func fixture(_ output: String, loss: SmoothingLoss) -> QuantizeOptions {
    var options = QuantizeOptions(
      model: fixturePath("glm4-moe-4m"), output: output, memory: 0, threads: 2)
    options.data.path = fixturePath("calibration.jsonl")
    options.data.selection.samples = 24
    options.loss = loss
    return options
  }

  /// The run itself stops where a buffer goes beyond the plan; here it must also come near.
  @Test(arguments: [SmoothingLoss.diagonal, .gram], [0, 60, 70, 200])
  func buffersAreWhatWasPlanned(loss: SmoothingLoss, mebibytes: Int) throws {
    try withTemporaryFolder { folder in
      var options = fixture(folder + "/out", loss: loss)
      options.memory = 1 << 40
      let smallest = try QuantizePlan(options).run.smallestBudget
      options.memory = mebibytes == 0 ? smallest : max(smallest, mebibytes << 20)
      let summary = try summary(options)
      for step in summary.steps where step.step != .load && step.step != .check {
        let planned = summary.plan.step(step.step).bufferBytes
        #expect(step.bufferBytes <= planned, "\(step.step)")
        #expect(Double(step.bufferBytes) >= 0.9 * Double(planned), "\(step.step)")
      }
    }
  }

  /// Where a block is small, the tokens that are gathered make the difference; how many there are is up to the router.
  @Test(arguments: [1, 2, 24], [0, 200, 1000])
  func gatheredTokensArePlanned(samples: Int, expertTokens: Int) throws {
    try withTemporaryFolder { folder in
      var options = fixture(folder + "/out", loss: .diagonal)
      options.data.selection.samples = samples
      options.expertTokens = .number(expertTokens)
      options.memory = 1 << 40
      options.memory = try QuantizePlan(options).run.smallestBudget
      let summary = try summary(options)
      for step in summary.steps where step.step != .load && step.step != .check {
        let planned = summary.plan.step(step.step).bufferBytes
        #expect(step.bufferBytes <= planned, "\(step.step)")
        let least = samples > 2 ? 0.9 : 0.6
        #expect(Double(step.bufferBytes) >= least * Double(planned), "\(step.step)")
      }
    }
  }

  @Test func moreMemoryMeansFewerPassesAndLessReading() throws {
    var options = fixture("", loss: .gram)
    options.memory = 1 << 40
    var budget = try QuantizePlan(options).run.smallestBudget
    var last: RunPlan?
    while budget < 256 << 20 {
      options.memory = budget
      let plan = try QuantizePlan(options).run
      #expect(plan.peakBytes <= budget)
      if let last {
        #expect(plan.sourceReadBytes <= last.sourceReadBytes)
        #expect(plan.weightPasses <= last.weightPasses)
      }
      last = plan
      budget = budget * 5 / 4
    }
    #expect(last?.weightPasses == 1)
    #expect(last?.holdsExperts == true)
  }

  @Test func scratchIsWhatWasPlanned() throws {
    try withTemporaryFolder { folder in
      var options = fixture(folder + "/out", loss: .diagonal)
      options.memory = 256 << 20
      let summary = try summary(options)
      let planned = Double(summary.plan.scratchBytes)
      #expect(abs(Double(summary.scratchBytes) - planned) < 0.1 * planned)
    }
  }

  @Test func theRefusalNamesOnlyWhatMakesItsStepSmaller() throws {
    var options = fixture("", loss: .gram)
    options.memory = 1 << 20
    func remedies() throws -> [String] {
      try #require(#expect(throws: BudgetTooSmall.self) { try QuantizePlan(options) }).remedies
    }
    #expect(try remedies() == ["lower --sequence-length", "use fewer --threads"])
    options.threads = 1
    #expect(try remedies() == ["lower --sequence-length"])
    // Without calibration there are no sequences.
    options.smooths = false
    options.rounding = .nearest
    #expect(try remedies() == [])
  }

  @Test func scratchHasRoomForGradientsWhereACommitCutsAttention() throws {
    try withTemporaryFolder { folder in
      // So many tokens that a commit is due before their end.
      let row = "{\"input_ids\":\((0..<4000).map { $0 % 96 })}"
      let rows = Array(repeating: row, count: 5).joined(separator: "\n")
      try replaceFile(folder + "/rows.jsonl", with: Array(rows.utf8))
      var options = SmallRun.options(folder + "/out")
      options.data.path = folder + "/rows.jsonl"
      options.data.selection.samples = 5
      options.data.selection.sequenceLength = 4000
      options.memory = 1 << 30
      let withGradients = try QuantizePlan(options).run.scratchBytes
      options.rounding = .fast
      #expect(try QuantizePlan(options).run.scratchBytes < withGradients)
    }
  }

  /// A layer's experts are read by the search in front of them, by their own rounding, and for the next layer.
  @Test func comparisonsWithChecksumsArePlanned() throws {
    let tensors = try ShardedModel(folder: SmallRun.model).tensors
    func bytes(_ isMeant: (String) -> Bool) -> Int {
      tensors.reduce(0) { $0 + (isMeant($1.name) ? $1.byteCount : 0) }
    }
    let layers = bytes { $0.hasPrefix("model.layers.") }
    let units = bytes { $0.contains(".mlp.") && $0.hasSuffix("_proj.weight") }
    var options = SmallRun.options("")
    let plan = try QuantizePlan(options).run
    for (step, least) in [RunStep.attend: layers, .experts: units, .advance: layers] {
      let compared = plan.comparedBytes[step] ?? 0
      #expect(compared >= least && Double(compared) < 1.1 * Double(least), "\(step)")
    }
    #expect(plan.comparedBytes[.check] == bytes { $0 == "lm_head.weight" })
    #expect(plan.checkedSourceBytes > 3 * layers && plan.sourceReadBytes > plan.checkedSourceBytes)
    // Without a search.
    options.smooths = false
    let plain = try QuantizePlan(options).run
    #expect(plain.comparedBytes[.attend] ?? 0 < layers - units / 2)
  }

  @Test func theRefusalNamesAMemoryThatWorks() throws {
    try withTemporaryFolder { folder in
      var options = fixture(folder + "/out", loss: .gram)
      options.memory = 1 << 20
      let error = #expect(throws: BudgetTooSmall.self) { try QuantizePlan(options) }
      let smallest = try #require(error).smallest
      options.memory = smallest - 1
      #expect(throws: BudgetTooSmall.self) { try QuantizePlan(options) }
      options.memory = smallest
      let plan = try summary(options).plan
      #expect(plan.peakBytes <= smallest)
    }
  }
}
