// The plan of a run is the run: its steps on shapes write the ledger that its steps on numbers write.

import Calibration
import CompressedTensors
import Pipeline
import Planning
import Quantization
import SystemIO
import Tensors
import Testing
import TestSupport

@Suite struct LedgerTests {
  private func options(_ model: String, _ output: String, threads: Int) -> QuantizeOptions {
    var options = QuantizeOptions(
      model: fixturePath(model), output: output, memory: 1 << 40, threads: threads)
    options.data.path = fixturePath("calibration.jsonl")
    options.data.selection.samples = 24
    // Of other tokens it is only known how many there are.
    options.expertTokens = .all
    return options
  }

  /// Operations of a kind, whatever their sizes: how the router spreads tokens over experts is not known before.
  private func arithmetic(_ operations: [Operation: Double]) -> [Operation.Kind: Double] {
    var result: [Operation.Kind: Double] = [:]
    for (operation, times) in operations.sorted(by: { $0.key < $1.key }) {
      result[operation.kind, default: 0] += operation.arithmetic * times
    }
    return result
  }

  private func planned(_ plan: RunPlan) -> [Operation: Double] {
    var result: [Operation: Double] = [:]
    for step in RunStep.allCases {
      for (operation, times) in plan.uses[step]?.operations ?? [:] {
        result[operation, default: 0] += times
      }
    }
    return result
  }

  /// Everything but what routed experts do for the next layer, whose tokens the router chooses.
  @Test(arguments: [1, 2], [RoundingMethod.compensated, .nearest, .clip])
  func `a run does the operations of its plan`(threads: Int, rounding: RoundingMethod) throws {
    try checkOperations(threads: threads, rounding, scheme: SchemePreset.usual)
  }

  /// Scales that are found in a pass of their own, groups of 16, and parts of rows that are refined.
  @Test(arguments: ["FP8_BLOCK", "FP8_DYNAMIC", "NVFP4A16", "MXFP4", "W8A8", "W3A16"])
  func `a run in any format does the operations of its plan`(scheme: String) throws {
    try checkOperations(threads: 2, .compensated, scheme: scheme)
  }

  /// Delta nets, state spaces or convolutions beside attention; layers of one branch, latents of experts; windows by layer;
  /// layers that do not turn.
  @Test(arguments: [
    "qwen3-next-published", "qwen35-moe-fused", "gemma3-published", "gpt-oss-published",
    "llama4-published", "smollm3-tied", "nemotron-h-latent-listed", "granite-moe-hybrid-published",
    "lfm2-moe-published", "kimi-linear-published", "jamba-published",
    "kimi-k3-published",
  ])
  func `a run of layers of several kinds does the operations of its plan`(name: String) throws {
    try withTemporaryFolder { model in
      try GrownModel(name, dtype: .bf16, in: model)
      try checkOperations(threads: 2, .compensated, scheme: SchemePreset.usual) {
        $0.model = model
        $0.data.path = model + "/ids.jsonl"
        $0.data.selection.samples = 7
        $0.schemes = [IntegerScheme(.w4a16, groupSize: 32).scheme]
      }
    }
  }

  @Test(arguments: [RoundingMethod.compensated, .nearest])
  func `a run that looks at keys and values does the operations of its plan`(
    rounding: RoundingMethod
  ) throws {
    try checkOperations(threads: 2, rounding, scheme: "W4A16") {
      $0.cache = .fp8OfHeads
      $0.smooths = rounding != .nearest
    }
  }

  /// The first run makes what the second one finds.
  @Test func `runs that keep states, and find them, do what their plans say`() throws {
    let threads = 2
    try withTemporaryFolder { folder in
      for number in 0..<2 {
        try checkOperations(threads: threads, .compensated, scheme: "W4A16") {
          $0.keptStates = folder + "/kept"
        }
        try checkBuffers(threads: threads, scheme: number == 0 ? "W4A16" : "NVFP4A16") {
          $0.keptStates = folder + "/kept-\(number)"
        }
      }
      // Experts alone see tokens again.
      try checkOperations(threads: threads, .compensated, scheme: "W4A16") {
        $0.keptStates = folder + "/kept"
        $0.expertWeighting = .all
      }
    }
  }

  /// An input that is made of states and of the embeddings of tokens ahead.
  @Test(arguments: ["glm4-moe-two", "deepseek-v3-two"])
  func `a run of prediction layers does the operations of its plan, in its buffers`(
    name: String
  ) throws {
    try withTemporaryFolder { folder in
      let rows = (0..<7).map { row in "{\"input_ids\":\((0..<24).map { (row * $0) % 64 })}" }
      try replaceFile(folder + "/ids.jsonl", with: Array(rows.joined(separator: "\n").utf8))
      let scheme = IntegerScheme(.w4a16, groupSize: 32).scheme
      let change: (inout QuantizeOptions) -> Void = {
        $0.model = fixturePath("predictions/" + name)
        $0.data.path = folder + "/ids.jsonl"
        $0.data.selection.samples = 7
        $0.schemes = [scheme]
        $0.predictions = scheme
      }
      try checkOperations(threads: 2, .compensated, scheme: "W4A16", change)
      try checkBuffers(threads: 2, scheme: "W4A16", looksAtPages: false, change)
    }
  }

  @Test func `a run in windows of layers does the operations of its plan`() throws {
    try checkOperations(threads: 2, .compensated, scheme: SchemePreset.usual) { $0.window = 3 }
  }

  private func checkOperations(
    threads: Int, _ rounding: RoundingMethod, scheme: String,
    _ change: (inout QuantizeOptions) -> Void = { _ in }
  ) throws {
    try withTemporaryFolder { folder in
      var options = options("glm4-moe-4m", folder + "/out", threads: threads)
      options.rounding = rounding
      options.schemes = [try SchemePreset.written(scheme)]
      change(&options)
      let plan = try QuantizePlan(options)
      let run = try QuantizeModel(plan) { _ in }
      try run.run()
      let (did, planned) = (run.ledger.operations, planned(plan.run))
      for kind in Operation.Kind.allCases where kind != .product && kind != .elements {
        func sizes(_ all: [Operation: Double]) -> [Operation: Double] {
          all.filter { $0.key.kind == kind && $0.value > 0 }
        }
        if kind == .exactProduct { continue }
        let (did, planned) = (sizes(did), sizes(planned))
        let others = Set(did.keys).union(planned.keys).filter { did[$0] != planned[$0] }
        #expect(
          others.isEmpty,
          "\(kind): \(others.sorted().map { "\($0.sizes) \(did[$0] ?? 0) instead of \(planned[$0] ?? 0)" })"
        )
      }
      for (kind, amount) in arithmetic(planned) where kind != .exactProduct {
        let done = arithmetic(did)[kind] ?? 0
        #expect(abs(done - amount) <= 1e-9 * amount, "\(kind): \(done), planned \(amount)")
      }
    }
  }

  @Test(arguments: [1, 2], ["W4A16", "FP8_BLOCK", "NVFP4A16", "W8A8"])
  func `buffers and mapped weights are those of the plan by name`(
    threads: Int, scheme: String
  ) throws {
    try checkBuffers(threads: threads, scheme: scheme)
  }

  @Test func `buffers of a run that looks at keys and values are those of the plan`() throws {
    try checkBuffers(threads: 2, scheme: "W4A16") { $0.cache = .fp8 }
  }

  @Test(arguments: [1, 2])
  func `buffers and operations of a run that rounds the head are those of the plan`(
    threads: Int
  ) throws {
    let change = { (options: inout QuantizeOptions) in
      for end in ["lm_head", "model.embed_tokens"] {
        options.schemes.append(IntegerScheme(.w8a16, groupSize: 128).targeting(end))
      }
    }
    try checkBuffers(threads: threads, scheme: "W4A16", change)
    try checkOperations(threads: threads, .compensated, scheme: "W4A16", change)
  }

  /// - Parameter looksAtPages: whether the part of the model that takes the most memory in a step is also the one with the
  ///   most mapped pages, which are told with it.
  private func checkBuffers(
    threads: Int, scheme: String, looksAtPages: Bool = true,
    _ change: (inout QuantizeOptions) -> Void = { _ in }
  ) throws {
    try withTemporaryFolder { folder in
      var options = options("glm4-moe-4m", folder + "/out", threads: threads)
      options.schemes = [try SchemePreset.written(scheme)]
      change(&options)
      for memory in [try QuantizePlan(options).run.smallestBudget, 1 << 30] {
        options.memory = memory
        options.restarts = true
        let plan = try QuantizePlan(options)
        let run = try QuantizeModel(plan) { _ in }
        try run.run()
        for step in [RunStep.copy, .attend, .experts, .advance] {
          let use = plan.run.uses[step]
          func named(_ uses: [MemoryUse]?) -> [String: Int] {
            Dictionary(uniqueKeysWithValues: (uses ?? []).map { ($0.name, $0.bytes) })
          }
          #expect(
            named(use?.buffers) == run.usedBuffers[step] ?? [:], "\(step) within \(memory)")
          if !looksAtPages { continue }
          let pages = run.usedPages[step] ?? [:]
          #expect(
            named(use?.others.filter { pages[$0.name] != nil }) == pages, "\(step) within \(memory)"
          )
        }
      }
    }
  }

  @Test func `loops of each step are timed where somebody asked`() throws {
    try withTemporaryFolder { folder in
      var options = options("glm4-moe-4m", folder + "/out", threads: 2)
      for asks in [false, true] {
        options.restarts = true
        let run = try QuantizeModel(QuantizePlan(options)) { _ in }
        if asks { run.ledger.loops.start() }
        try run.run()
        for step in [RunStep.attend, .experts, .advance] {
          let times = run.usedLoops[step] ?? LoopTimes()
          #expect((times.processorSeconds > 0) == asks && times.tasks.isEmpty == !asks, "\(step)")
        }
      }
    }
  }
}
