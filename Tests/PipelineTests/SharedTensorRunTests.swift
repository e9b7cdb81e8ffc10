// Runs from checkpoints whose Linears share tensors against runs from the same numbers in a tensor for each.

import Calibration
import CompressedTensors
import LinearAlgebra
import Models
import Pipeline
import Planning
import Quantization
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport

/// A way of sharing tensors.
struct SharedForm: Sendable, CustomTestStringConvertible {
  let experts: SharedSource.Experts?
  let joins: Bool

  static let all = [
    SharedForm(experts: .rows, joins: false), SharedForm(experts: .columns, joins: false),
    SharedForm(experts: .alternatingRows, joins: false),
    SharedForm(experts: .alternatingColumns, joins: true), SharedForm(experts: nil, joins: true),
    SharedForm(experts: .columns, joins: true),
  ]

  /// The forms that are told by names and shapes alone.
  static let told = all.filter { $0.experts?.alternates != true }

  /// As if the fixture's class had a row of gate and a row of up in turn, where this form has.
  var storage: [StorageForm] {
    let own = StorageForm(
      "gate_proj", "up_proj", weight: "gate_up_proj", bias: "gate_up_proj_bias",
      isOfExperts: true, order: .alternating, architectures: ["Glm4MoeForCausalLM"])
    return (experts?.alternates == true ? [own] : []) + StorageForm.all
  }

  var testDescription: String {
    "\(experts?.rawValue ?? "plain") experts\(joins ? ", joined projections" : "")"
  }
}

extension SharedSource {
  fileprivate func write(_ form: SharedForm, to model: String) throws {
    try write(joined(experts: form.experts, joins: form.joins), to: model)
  }
}

@Suite struct SharedTensorRunTests {
  private func options(_ model: String, _ output: String) -> QuantizeOptions {
    var options = QuantizeOptions(model: model, output: output, memory: 256 << 20, threads: 2)
    options.data.path = fixturePath("calibration.jsonl")
    options.data.selection.samples = 6
    return options
  }

  /// Fates of every kind: packed, rescaled beside packed ones, left alone in a layer.
  private let ignored = [
    "model.layers.0.mlp.*", "model.layers.1.mlp.*", "model.layers.1.self_attn.*",
    "model.layers.2.mlp.experts.*.up_proj", "model.layers.3.self_attn.[kv]_proj",
  ]

  private func plan(_ options: QuantizeOptions, _ form: SharedForm) throws -> QuantizePlan {
    try QuantizePlan(
      options, checkpoint: Checkpoint(folder: options.model, forms: form.storage))
  }

  @discardableResult
  private func run(
    _ options: QuantizeOptions, _ form: SharedForm, interruption: Interruption = Interruption(),
    report: @escaping (RunEvent) -> Void = { _ in }
  ) throws -> [String: [UInt8]] {
    try QuantizeModel(plan(options, form), interruption: interruption, report: report).run()
    return try SmallRun.contents(options.output)
  }

  /// Runs a model with a tensor for each Linear, then stores it in `form` in its place.
  ///
  /// - Parameter body: gets the options of that run and the bytes that it wrote.
  private func afterPlainRun(
    _ source: SharedSource, then form: SharedForm, changing change: (inout QuantizeOptions) -> Void,
    _ body: (_ folder: String, QuantizeOptions, [String: [UInt8]]) throws -> Void
  ) throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try source.write(source.tensors, to: model)
      var options = options(model, folder + "/plain")
      change(&options)
      let expected = try run(options, SharedForm(experts: nil, joins: false))
      try source.write(form, to: model)
      try body(folder, options, expected)
    }
  }

  // MARK: The same bytes

  /// Within the smallest memory, where nothing stays mapped, and within a large one.
  @Test(arguments: SharedForm.all)
  func `an output is that of a tensor for each Linear, to the byte`(form: SharedForm) throws {
    let source = try SharedSource(fixturePath("glm4-moe-4m"))
    try afterPlainRun(source, then: form) {
      $0.ignore = ignored
    } _: { (folder, options, expected) throws in
      var options = options
      options.output = folder + "/large"
      #expect(try run(options, form) == expected)
      options.output = folder + "/small"
      options.threads = 3
      options.memory = try plan(options, form).run.smallestBudget
      #expect(try run(options, form) == expected)
    }
  }

  @Test(arguments: [DType.f32, .f16, .bf16], Engine.allCases.filter(\.isAvailable))
  func `types and engines change nothing in that`(dtype: DType, engine: Engine) throws {
    if engine == .bf16 && dtype != .bf16 { return }
    let form = SharedForm(experts: .columns, joins: true)
    let source = try SharedSource(fixturePath("glm4-moe-4m"), as: dtype)
    try afterPlainRun(source, then: form) {
      $0.engine = engine
      $0.schemes = [IntegerScheme(.w4a16Asymmetric, groupSize: 64).scheme]
      $0.expertTokens = .number(200)
      $0.ignore = ["model.layers.1.*"]
    } _: { (folder, options, expected) throws in
      var options = options
      options.output = folder + "/shared"
      #expect(try run(options, form) == expected)
    }
  }

  /// Experts of a prediction layer get their own names, too: those that inference engines load.
  @Test(arguments: SharedForm.told)
  func `prediction layers are written as they were published`(form: SharedForm) throws {
    let source = try SharedSource(fixturePath("forward/published-mtp-bf16"))
    try afterPlainRun(source, then: form) {
      $0.data.path = SmallRun.calibration
      $0.schemes = [IntegerScheme(.w4a16, groupSize: 32).scheme]
    } _: { (folder, options, expected) throws in
      var options = options
      options.output = folder + "/shared"
      #expect(try run(options, form) == expected)
      let name = "model.layers.2.mlp.experts.3.down_proj.weight"
      #expect(try ShardedModel(folder: options.output)[name] != nil)
    }
  }

  @Test func `interruptions change nothing in that`() throws {
    let form = SharedForm(experts: .columns, joins: true)
    let source = try SharedSource(fixturePath("glm4-moe-4m"))
    try afterPlainRun(source, then: form) {
      $0.ignore = ignored
    } _: { (folder, options, expected) throws in
      var options = options
      options.output = folder + "/cut"
      var interruptions = 0
      try SmallRun.runInterrupted(options) { _ in
        interruptions += 1
        try #require(interruptions < 100)
      }
      #expect(interruptions >= 4)
      #expect(try SmallRun.contents(options.output) == expected)
    }
  }

  // MARK: What is planned

  @Test func `where rows lie one after the other, the plan is that of a tensor for each Linear`()
    throws
  {
    let form = SharedForm(experts: .rows, joins: true)
    let source = try SharedSource(fixturePath("glm4-moe-4m"))
    try withTemporaryFolder { folder in
      try source.write(form, to: folder)
      var (shared, own) = (options(folder, ""), options(fixturePath("glm4-moe-4m"), ""))
      for memory in [1 << 30, try QuantizePlan(own).run.smallestBudget] {
        shared.memory = memory
        own.memory = memory
        let (found, expected) = try (QuantizePlan(shared), QuantizePlan(own))
        #expect(found.run == expected.run)
        #expect(found.coverage == expected.coverage)
        #expect(found.output.tensors == expected.output.tensors)
        #expect(found.output.fates == expected.output.fates)
        #expect(found.warnings == expected.warnings)
      }
      // Before the weights are there, names of the index tell as much.
      try FileSystem.remove(folder + "/model-00001-of-00001.safetensors")
      let told = try QuantizePlan(ofWhatIsHere: shared)
      #expect(told.opened == nil)
      #expect(try told.run == QuantizePlan(own).run)
    }
  }

  /// Columns that are stored as rows stay mapped while they are read. Buffers are those of other checkpoints.
  @Test(arguments: SharedForm.all, [0, 80])
  func `memory is what was planned`(form: SharedForm, mebibytes: Int) throws {
    let source = try SharedSource(fixturePath("glm4-moe-4m"))
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try source.write(form, to: model)
      var options = options(model, folder + "/out")
      options.data.selection.samples = 24
      options.ignore = ["model.layers.1.mlp.experts.*"]
      options.memory = 1 << 40
      options.memory = max(try plan(options, form).run.smallestBudget, mebibytes << 20)
      var result: RunSummary?
      try run(options, form) { if case .finished(let summary) = $0 { result = summary } }
      let summary = try #require(result)
      for step in summary.steps where step.step != .load && step.step != .check {
        let planned = summary.plan.step(step.step).bufferBytes
        #expect(step.bufferBytes <= planned, "\(step.step)")
        // What is copied, and not in one piece, waits for no other thread: fewer may do it all.
        if step.step != .copy {
          #expect(Double(step.bufferBytes) >= 0.9 * Double(planned), "\(step.step)")
        }
      }
      var own = options
      own.model = fixturePath("glm4-moe-4m")
      let expected = try QuantizePlan(own).run
      #expect(summary.plan.outputBytes == expected.outputBytes)
      #expect(summary.plan.sourceReadBytes >= expected.sourceReadBytes)
      // Gate and up that lie among each other are mapped together, also where one is read.
      let isMixed = ![nil, .rows].contains(form.experts)
      let most = (isMixed ? 1.5 : 1) * Double(expected.sourceReadBytes)
      #expect(Double(summary.plan.sourceReadBytes) <= most)
    }
  }

  // MARK: Judged afterwards

  @Test(arguments: SharedForm.told)
  func `an output verifies against its source`(form: SharedForm) throws {
    let source = try SharedSource(fixturePath("glm4-moe-4m"))
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try source.write(form, to: model)
      var options = options(model, folder + "/out")
      options.ignore = ignored
      try run(options, form)
      func verify(_ source: String) throws -> VerifyReport {
        try VerifyModel(output: options.output, source: source, threads: 2).run()
      }
      let (found, expected) = try (verify(model), verify(fixturePath("glm4-moe-4m")))
      // Only what is ignored by halves.
      #expect(found.findings == expected.findings)
      #expect(found.findings.allSatisfy { $0.problem.contains("vLLM loads it together") })
      #expect(found.identicalTensors == expected.identicalTensors)
      #expect(found.rescaledTensors == expected.rescaledTensors)
      #expect(found.errors == expected.errors && found.errors.count == found.quantizedLinears)

      // One bit of what was copied, and one of what was rescaled.
      try FileSystem.remove(options.output + "/.sluice/checksums.txt")
      let names = [
        "model.layers.1.mlp.experts.4.up_proj.weight",
        "model.layers.2.mlp.experts.6.up_proj.weight",
      ]
      for name in names {
        let stored = try #require(ShardedModel(folder: options.output)[name])
        var bytes = try FileSystem.readFile(stored.file.path)
        bytes[stored.range.upperBound - 2] ^= 1
        try replaceFile(stored.file.path, with: bytes)
      }
      let more = try verify(model).findings.filter { !expected.findings.contains($0) }
      #expect(more.map(\.subject).sorted() == names)
    }
  }

  @Test(arguments: SharedForm.told)
  func `an evaluation has every digit of one of a tensor for each Linear`(form: SharedForm) throws {
    let source = try SharedSource(fixturePath("glm4-moe-4m"))
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try source.write(form, to: model)
      var options = EvaluateOptions(
        models: [model], reference: fixturePath("glm4-moe-4m"),
        data: CalibrationSource(
          path: fixturePath("calibration.jsonl"),
          selection: RowSelection(samples: 4, sequenceLength: 128)),
        memory: 1 << 30, threads: 2, scratch: folder + "/scratch")
      let evaluation = try EvaluateModel(options).run()
      #expect(evaluation.divergence?.mean == 0)
      #expect(evaluation.nll == evaluation.all.referenceNLL)
      // Its plan knows what stays mapped.
      options.memory = 32 << 20
      let error = #expect(throws: BudgetTooSmall.self) { try EvaluateModel(options) }
      options.memory = try #require(error).smallest
      #expect(try EvaluateModel(options).run().nll == evaluation.nll)
    }
  }

  // MARK: A source that changes, or is none

  @Test func `a byte that changed is told by the expert that it belongs to`() throws {
    let source = try SharedSource(fixturePath("glm4-moe-4m"))
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try source.write(SharedForm(experts: .columns, joins: true), to: model)
      let options = options(model, folder + "/out")
      let interruption = Interruption()
      #expect(throws: Interrupted.self) {
        try QuantizeModel(QuantizePlan(options), interruption: interruption) { event in
          if case .layerFinished = event { interruption.request() }
        }.run()
      }
      let tensor = try #require(
        ShardedModel(folder: model)["model.layers.2.mlp.experts.gate_up_proj"])
      let path = tensor.file.path
      let place = tensor.range.lowerBound + tensor.byteCount / 8 * 5 + 77
      var bytes = try FileSystem.readFile(path)
      bytes[place] ^= 1
      try replaceFile(path, with: bytes)
      let error = #expect(throws: SourceChanged.self) { try SmallRun.run(options) }
      guard case .tensor(path, let name, _, _) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      #expect(name == tensor.name + "[5]")
      bytes[place] ^= 1
      try replaceFile(path, with: bytes)
      try SmallRun.run(options)
    }
  }

  /// Where it lies in the file, not where the model has it.
  @Test func `what is no number is told where it is stored`() throws {
    let source = try SharedSource(fixturePath("glm4-moe-4m"))
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      let name = "model.layers.3.mlp.experts.down_proj"
      let tensors = source.joined(experts: .columns, joins: false).map { tensor in
        var tensor = tensor
        // Expert 6, row 2 of its 128, column 9 of 256.
        let place = 2 * (6 * 128 * 256 + 2 * 256 + 9)
        if tensor.name == name {
          tensor.bytes.replaceSubrange(place..<place + 2, with: [0x80, 0x7f])
        }
        return tensor
      }
      try source.write(tensors, to: model)
      let expected = QuantizeError.nonFiniteWeight(
        file: model + "/model-00001-of-00001.safetensors", tensor: name + "[6]", row: 2, column: 9)
      #expect(throws: expected) { try SmallRun.run(options(model, folder + "/out")) }
    }
  }
}
