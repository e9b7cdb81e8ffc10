// Experts that do not see every token: how many they see, and the same bytes however a run is cut.

internal import Calibration
import JSON
import Models
import Pipeline
import Planning
import Quantization
import SystemIO
import Testing
import TestSupport
import Transformer

@Suite struct ExpertTokensTests {
  /// One layer with eight experts, two token blocks.
  private func options(_ output: String, expertTokens: OtherTokens) -> QuantizeOptions {
    var options = QuantizeOptions(
      model: fixturePath("glm4-moe-4m"), output: output, memory: 256 << 20, threads: 2)
    options.data.path = fixturePath("calibration.jsonl")
    options.data.selection.samples = 8
    options.ignore = ["model.layers.0.*", "model.layers.2.*", "model.layers.3.*"]
    options.expertTokens = expertTokens
    return options
  }

  /// Tokens of an expert's statistics, and those that were routed to it, by the name of its up projection.
  private func tokens(_ output: String) throws -> [String: (seen: Int, routed: Int)] {
    let text = String(
      decoding: try FileSystem.readFile("\(output)/.sluice/choices.jsonl"), as: UTF8.self)
    var result: [String: (seen: Int, routed: Int)] = [:]
    for line in text.split(separator: "\n") {
      let object = try #require(try JSONValue.parse(Array(line.utf8)).object)
      if let name = object["smoothing"]?.string, let routed = object["routed_tokens"]?.int {
        result[name] = (try #require(object["tokens"]?.int), routed)
      }
    }
    return result
  }

  @Test(arguments: [0, 100, 300])
  func `an expert sees its own tokens and as many others as were asked for`(asked: Int) throws {
    try withTemporaryFolder { folder in
      let options = options(folder + "/out", expertTokens: .number(asked))
      try SmallRun.run(options)
      let all = try QuantizePlan(options).run.tokens
      let tokens = try tokens(options.output)
      #expect(tokens.count == 8)
      #expect(tokens.values.reduce(0) { $0 + $1.routed } == 2 * all)
      for (name, tokens) in tokens {
        #expect(tokens.seen == min(all, max(tokens.routed + asked, 128)), "\(name)")
      }
    }
  }

  @Test func `threads, memory and every interruption leave every byte as it is`() throws {
    try withTemporaryFolder { folder in
      var options = options(folder + "/whole", expertTokens: .number(150))
      try SmallRun.run(options)
      let expected = try SmallRun.contents(options.output)
      let smallest = try QuantizePlan(options).run.smallestBudget
      for (threads, memory) in [(1, smallest), (3, 4 << 30)] {
        options.output = "\(folder)/\(threads)"
        options.threads = threads
        options.memory = memory
        try SmallRun.run(options)
        #expect(try SmallRun.contents(options.output) == expected)
      }
      options.output = folder + "/cut"
      options.threads = 2
      options.memory = try QuantizePlan(options).run.smallestBudget
      var places: Set<String> = []
      try SmallRun.runInterrupted(options) { _ in
        let state = try RunState(readingFrom: options.output + "/.sluice/state.json")
        try #require(places.insert(state.position.description).inserted)
      }
      // In the middle of an expert's tokens, too.
      #expect(places.contains { $0.contains("experts") && $0.contains("token block 2") })
      #expect(try SmallRun.contents(options.output) == expected)
    }
  }

  /// Two experts get every token, and six get none: those leave none out, and these most. No plan knows that.
  @Test(arguments: RoundingMethod.allCases)
  func `experts that the router sends all tokens to keep to the plan`(
    rounding: RoundingMethod
  ) throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try SmallRun.copy(
        fixturePath("glm4-moe-4m"), to: model, changing: ".e_score_correction_bias"
      ) { bias in
        for expert in bias.indices { bias[expert] = expert < 2 ? 10 : -10 }
      }
      var options = options(folder, expertTokens: .number(150))
      options.model = model
      options.rounding = rounding
      _ = try SmallRun.expectTheSameBytes(options, in: folder)
      let all = try QuantizePlan(options).run.tokens
      let routed = try tokens(folder + "/0").values.map(\.routed)
      #expect(routed.sorted() == [0, 0, 0, 0, 0, 0, all, all])
    }
  }

  @Test func `who asks for more tokens than there are gets the bytes of all`() throws {
    try withTemporaryFolder { folder in
      let choices: [(String, OtherTokens)] = [
        ("all", .all), ("more", .number(1_000_000)), ("auto", .auto), ("fewer", .number(1000)),
      ]
      for (name, asked) in choices {
        try SmallRun.run(options("\(folder)/\(name)", expertTokens: asked))
      }
      let all = try SmallRun.contents(folder + "/all")
      #expect(try SmallRun.contents(folder + "/more") == all)
      #expect(try SmallRun.contents(folder + "/auto") == all)
      #expect(try SmallRun.contents(folder + "/fewer") != all)
    }
  }

  @Test func `going on with another number is refused by name`() throws {
    try withTemporaryFolder { folder in
      var options = options(folder + "/out", expertTokens: .number(150))
      let interruption = Interruption()
      #expect(throws: Interrupted.self) {
        try QuantizeModel(QuantizePlan(options), interruption: interruption) { event in
          if case .progress = event { interruption.request() }
        }.run()
      }
      let others: [(OtherTokens, String)] = [(.number(151), "151"), (.all, "all"), (.auto, "all")]
      for (asked, text) in others {
        options.expertTokens = asked
        let error = #expect(throws: RunStateError.self) { try SmallRun.run(options) }
        let refusal = try #require(error)
        #expect("\(refusal)".contains("--expert-tokens 150, this run has \(text)"))
      }
    }
  }

  @Test func `the plan counts what experts see`() throws {
    func plan(_ asked: OtherTokens) throws -> RunPlan {
      try QuantizePlan(options("", expertTokens: asked)).run
    }
    let all = try plan(.all)
    #expect(all.operations == all.operationsOfAllTokens)
    let some = try plan(.number(200))
    #expect(some.operationsOfAllTokens == all.operations)
    // Each of the eight experts sees its share of two per token and 200 tokens more; a block has whole tokens.
    let layer = try QuantizePlan(options("", expertTokens: .all)).spec.layers[1]
    let expert = try #require(layer.mlp.routed.first)
    let each =
      4.0 * Double(expert.up.inputs * expert.up.outputs)
      // Of what the down projection reads, and of the slopes of gate and up, which are one block here.
      + 3 * Double(expert.down.inputs * expert.down.inputs)
    let seen = 2.0 / 8 * Double(all.tokens) + 200
    let saved = 8 * each * (Double(all.tokens) - seen)
    #expect(abs(all.operations - some.operations - saved) < 0.02 * saved)
    #expect(some.step(.attend).operations == all.step(.attend).operations)
    #expect(try plan(.number(1_000_000)).operations == all.operations)
    #expect(some.smallestBudget == all.smallestBudget)
  }

  /// What a run remembers of its options, from its first commit on.
  private func inputs(_ options: QuantizeOptions) throws -> RunInputs {
    let interruption = Interruption()
    #expect(throws: Interrupted.self) {
      try QuantizeModel(QuantizePlan(options), interruption: interruption) { event in
        if case .progress = event { interruption.request() }
      }.run()
    }
    return try RunState(readingFrom: options.output + "/.sluice/state.json").inputs
  }

  @Test func `auto is a number where data is large, and all where it is small`() throws {
    try withTemporaryFolder { folder in
      for (samples, same, text) in [(8, OtherTokens.all, "all"), (64, .number(4096), "4096")] {
        var auto = options("\(folder)/\(samples)", expertTokens: .auto)
        auto.data.selection.samples = samples
        var other = auto
        other.expertTokens = same
        other.output += "-same"
        let plan = try QuantizePlan(auto).run
        #expect(plan == (try QuantizePlan(other).run))
        #expect((plan.otherTokens == nil) == (same == .all))
        let found = try inputs(auto)
        #expect(found.options["--expert-tokens"] == text)
        #expect(found == (try inputs(other)))
        other.expertTokens = .all
        let all = try QuantizePlan(other).run
        #expect(all.otherTokens == nil)
        #expect((plan.operations < all.operations) == (same != .all))
      }
    }
  }

  @Test func `a run that was begun when all was the default is told so`() throws {
    var written = RunInputs()
    written.options = ["--expert-tokens": "all"]
    var asked = written
    asked.options["--expert-tokens"] = "4096"
    let error = #expect(throws: RunStateError.self) {
      try written.check(against: asked, path: "state.json", data: "chats", model: "model")
    }
    #expect(
      try #require(error).description.contains(
        "--expert-tokens all (once the default), this run has 4096; use the same"))
  }

  @Test func `where the data is another, what auto came to is not what is told`() throws {
    var written = RunInputs()
    written.options = ["--expert-tokens": "all"]
    written.data = ["--samples": "16"]
    written.tokens = "a"
    var asked = written
    asked.options["--expert-tokens"] = "4096"
    asked.data["--samples"] = "64"
    asked.tokens = "b"
    let error = #expect(throws: RunStateError.self) {
      try written.check(against: asked, path: "state.json", data: "chats", model: "model")
    }
    #expect(try #require(error).description.contains("--samples 16, this run has 64"))
  }
}
