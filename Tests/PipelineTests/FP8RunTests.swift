// Runs from FP8 checkpoints against runs from twins that hold the same numbers as they are.

import Calibration
import CompressedTensors
import JSON
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
import Transformer

@Suite struct FP8RunTests {
  private let expert = "model.layers.1.mlp.experts.2.up_proj"

  private func options(_ model: String, _ output: String) -> QuantizeOptions {
    var options = SmallRun.options(output)
    options.model = model
    return options
  }

  // MARK: The same bytes

  /// Fates of every kind: packed, rescaled beside packed ones, left alone in a layer and in a prediction layer.
  @Test(
    arguments: FP8Source.Scaling.allCases, ["awq/dense-first", "forward/published-mtp-bf16"])
  func `numbers that bf16 holds give the bytes of a bf16 checkpoint`(
    scaling: FP8Source.Scaling, fixture: String
  ) throws {
    try withTemporaryFolder { folder in
      let source = try FP8Source(fixture, scaling, hasInputScales: scaling == .tensor)
      try source.write(to: folder + "/fp8")
      try source.writeTwin(to: folder + "/bf16", as: .bf16)
      for engine in Engine.allCases where engine.isAvailable {
        for name in ["fp8", "bf16"] {
          var options = options("\(folder)/\(name)", "\(folder)/\(name)-\(engine)")
          options.engine = engine
          options.ignore = ["model.layers.0.mlp.*", "model.layers.1.self_attn.q_proj"]
          try SmallRun.run(options)
        }
        let found = try SmallRun.contents("\(folder)/fp8-\(engine)", card: false)
        #expect(found.count > 5)
        #expect(try found == SmallRun.contents("\(folder)/bf16-\(engine)", card: false))
      }
      let output = try ShardedModel(folder: folder + "/fp8-f32")
      #expect(output.tensors.allSatisfy { $0.dtype != .f8E4M3 })
      #expect(output["model.layers.0.mlp.up_proj.weight"]?.dtype == .bf16)
      #expect(output["model.layers.1.self_attn.q_proj.weight"]?.dtype == .bf16)
      #expect(output["\(expert).weight_scale"]?.dtype == .bf16)
      #expect(
        output.tensors.allSatisfy {
          !$0.name.hasSuffix("_inv") && !$0.name.hasSuffix("input_scale")
        })
      #expect(output["model.layers.0.mlp.up_proj.weight_scale"] == nil)
    }
  }

  /// Some quantizers spare neither; here they stay unquantized, as always.
  @Test func `a router and a head may be FP8`() throws {
    try withTemporaryFolder { folder in
      let source = try FP8Source(
        "awq/dense-first", .blocks,
        choosing: { $0 == "lm_head.weight" || $0.hasSuffix("mlp.gate.weight") })
      try source.write(to: folder + "/fp8")
      try source.writeTwin(to: folder + "/bf16", as: .bf16)
      for name in ["fp8", "bf16"] {
        try SmallRun.run(options("\(folder)/\(name)", "\(folder)/\(name)-out"))
      }
      #expect(
        try SmallRun.contents(folder + "/fp8-out", card: false)
          == SmallRun.contents(folder + "/bf16-out", card: false))
      let report = try VerifyModel(
        output: folder + "/fp8-out", source: folder + "/fp8", threads: 2
      ).run()
      #expect(report.findings == [])
      #expect(report.decodedTensors == 1)
    }
  }

  @Test func `threads, memory and interruptions leave every byte as it is`() throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try FP8Source("awq/dense-first", .blocks, isExact: false).write(to: model)
      var options = options(model, folder + "/cut")
      options.ignore = ["model.layers.0.mlp.*"]
      let expected = try SmallRun.expectTheSameBytes(options, in: folder)
      var interruptions = 0
      try SmallRun.runInterrupted(options) { _ in
        interruptions += 1
        try #require(interruptions < 100)
      }
      #expect(interruptions >= 4)
      #expect(try SmallRun.contents(options.output) == expected)
    }
  }

  @Test func `another way of scaling is another source`() throws {
    try withTemporaryFolder { folder in
      var source = try FP8Source("awq/dense-first", .blocks)
      try source.write(to: folder + "/model")
      let plan = try QuantizePlan(options(folder + "/model", folder + "/out"))
      let interruption = Interruption()
      #expect(throws: Interrupted.self) {
        try QuantizeModel(plan, interruption: interruption) { event in
          if case .progress = event { interruption.request() }
        }.run()
      }
      var block = source.config["quantization_config"]?.object
      block?["weight_block_size"] = [25, 40]
      source.config["quantization_config"] = block.map { .object($0) }
      try source.write(to: folder + "/model")
      let error = #expect(throws: RunStateError.self) {
        try SmallRun.run(options(folder + "/model", folder + "/out"))
      }
      #expect("\(try #require(error))".contains("model"))
    }
  }

  // MARK: Judged afterwards

  @Test(arguments: FP8Source.Scaling.allCases)
  func `an output verifies against its FP8 source`(scaling: FP8Source.Scaling) throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try FP8Source("forward/published-mtp-bf16", scaling, isExact: false, scaleType: .bf16)
        .write(to: model)
      var options = options(model, folder + "/out")
      options.ignore = ["model.layers.0.mlp.*", "*.1.mlp.shared_experts.[gu]*_proj"]
      try SmallRun.run(options)
      let report = try VerifyModel(output: options.output, source: model, threads: 2).run()
      #expect(report.findings == [])
      let decoded = try QuantizePlan(options).output.fates.values.count { $0 == .decoded }
      #expect(decoded > 5)
      #expect(report.decodedTensors == decoded)
      // Norms, the router, and the gate and up projections that are left out.
      #expect(report.rescaledTensors ?? 0 > 5)
      #expect(report.errors.allSatisfy { $0.relative > 0 && $0.relative < 0.4 })
      #expect(report.errors.count == report.quantizedLinears)

      // One bit of what was decoded.
      let name = "model.layers.0.mlp.up_proj.weight"
      let stored = try #require(ShardedModel(folder: options.output)[name])
      var bytes = try FileSystem.readFile(stored.file.path)
      bytes[stored.range.lowerBound + 9] ^= 1
      try replaceFile(stored.file.path, with: bytes)
      try FileSystem.remove(options.output + "/.sluice/checksums.txt")
      let spoiled = try VerifyModel(output: options.output, source: model, threads: 2).run()
      #expect(spoiled.findings.map(\.subject) == [name])
    }
  }

  @Test(arguments: FP8Source.Scaling.allCases)
  func `an evaluation has every digit of one of the numbers in float32`(
    scaling: FP8Source.Scaling
  ) throws {
    try withTemporaryFolder { folder in
      let source = try FP8Source("awq/dense-first", scaling, isExact: false)
      try source.write(to: folder + "/fp8")
      try source.writeTwin(to: folder + "/f32", as: .f32)
      func evaluate(_ model: String, _ reference: String) throws -> Evaluation {
        try EvaluateModel(
          EvaluateOptions(
            models: [model], reference: reference,
            data: CalibrationSource(
              path: SmallRun.calibration, selection: RowSelection(samples: 4, sequenceLength: 64)),
            memory: 256 << 20, threads: 2, scratch: folder + "/scratch")
        ).run()
      }
      // A reference computes with its weights alone; a model with activations as its scheme says.
      let both = try evaluate(folder + "/f32", folder + "/fp8")
      #expect(both.divergence?.mean == 0)
      #expect(both.nll == both.all.referenceNLL)
      // The fixture itself is another model.
      #expect(try evaluate(folder + "/fp8", SmallRun.model).divergence?.mean ?? 0 > 0)
    }
  }

  @Test(arguments: [".weight", ".weight_scale"])
  func `an evaluation names what is no number`(part: String) throws {
    try withTemporaryFolder { folder in
      var source = try FP8Source("awq/dense-first", .channel)
      let name = "model.layers.1.self_attn.o_proj" + part
      let isScale = part == ".weight_scale"
      source[name]?.bytes.replaceSubrange(
        0..<(isScale ? 4 : 1), with: isScale ? [0, 0, 0x80, 0x7f] : [0x7f])
      try source.write(to: folder + "/model")
      #expect(
        throws: QuantizeError.nonFiniteWeight(
          file: folder + "/model/model.safetensors", tensor: name, row: 0, column: 0)
      ) {
        try EvaluateModel(
          EvaluateOptions(
            models: [folder + "/model"], reference: nil,
            data: CalibrationSource(
              path: SmallRun.calibration, selection: RowSelection(samples: 1, sequenceLength: 8)),
            memory: 256 << 20, threads: 2, scratch: folder + "/scratch")
        ).run()
      }
    }
  }

  // MARK: What is planned

  /// The run itself stops where a buffer goes beyond the plan; here it must also come near, but for layers of which
  /// nothing is rounded.
  @Test(
    arguments: [(0, false), (0, true), (70, false), (70, true)],
    [FP8Source.Scaling.blocks, .channel])
  func `buffers are what was planned`(
    of work: (mebibytes: Int, ignores: Bool), scaling: FP8Source.Scaling
  ) throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try FP8Source("glm4-moe-4m", scaling).write(to: model)
      var options = QuantizeOptions(
        model: model, output: folder + "/out", memory: 1 << 40, threads: 2)
      options.data.path = fixturePath("calibration.jsonl")
      options.data.selection.samples = 24
      if work.ignores { options.ignore = ["model.layers.0.*"] }
      let smallest = try QuantizePlan(options).run.smallestBudget
      options.memory = max(smallest, work.mebibytes << 20)
      var result: RunSummary?
      try SmallRun.run(options) { if case .finished(let summary) = $0 { result = summary } }
      let summary = try #require(result)
      for step in summary.steps where step.step != .load && step.step != .check {
        let planned = summary.plan.step(step.step).bufferBytes
        #expect(step.bufferBytes <= planned, "\(step.step)")
        if !work.ignores || step.step == .copy {
          #expect(Double(step.bufferBytes) >= 0.9 * Double(planned), "\(step.step)")
        }
      }
      #expect(summary.outputBytes == (try ShardedModel(folder: options.output).totalBytes))
      // As many passes over half of the bytes. The head, which is bf16 in both, is read by rounding that asks for it.
      options.rounding = .fast
      options.memory = 1 << 40
      let roomy = options
      options.model = fixturePath("glm4-moe-4m")
      let (fp8, bf16) = try (QuantizePlan(roomy).run, QuantizePlan(options).run)
      #expect(Double(fp8.sourceReadBytes) < 0.65 * Double(bf16.sourceReadBytes))
    }
  }

  // MARK: What is told

  @Test func `scales of activations are left out, and that is said`() throws {
    try withTemporaryFolder { folder in
      let source = try FP8Source("awq/dense-first", .tensor, hasInputScales: true)
      try source.write(to: folder + "/model")
      let plan = try QuantizePlan(options(folder + "/model", ""))
      let linears = plan.checkpoint.spec.layers.flatMap(\.linears).count
      #expect(plan.warnings == [.activationScalesDropped(count: linears)])
      #expect("\(plan.warnings[0])".contains("\(linears) scales of activations"))
    }
  }

  /// In a quantized expert, in an ignored layer, and in a prediction layer.
  @Test(
    arguments: [
      "model.layers.1.mlp.experts.2.up_proj", "model.layers.0.mlp.down_proj",
      "model.layers.2.self_attn.o_proj", "model.layers.1.self_attn.k_proj",
    ], [true, false])
  func `what is no number is named`(module: String, isScale: Bool) throws {
    try withTemporaryFolder { folder in
      var source = try FP8Source("forward/published-mtp-bf16", .blocks)
      let name = module + (isScale ? ".weight_scale_inv" : ".weight")
      let tensor = try #require(source[name])
      if isScale {
        source[name]?.bytes.replaceSubrange(
          (tensor.bytes.count - 4)..., with: [0, 0, 0xc0, 0x7f])
      } else {
        source[name]?.bytes[tensor.bytes.count - 1] = 0xff
      }
      try source.write(to: folder + "/model")
      var options = options(folder + "/model", folder + "/out")
      options.ignore = ["model.layers.0.mlp.*"]
      #expect(
        throws: QuantizeError.nonFiniteWeight(
          file: folder + "/model/model.safetensors", tensor: name, row: tensor.shape[0] - 1,
          column: tensor.shape[1] - 1)
      ) { try SmallRun.run(options) }
    }
  }
}
