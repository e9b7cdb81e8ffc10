// Runs that quantize multi-token-prediction layers with their model.

import Calibration
import CompressedTensors
import JSON
import LinearAlgebra
import Models
import Pipeline
import Planning
import Quantization
import Reporting
import Safetensors
import SystemIO
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct PredictionRunTests {
  private static let model = fixturePath("predictions/glm4-moe-two")
  private static let further = ["model.layers.2.", "model.layers.3."]

  private func options(
    _ folder: String, _ name: String = "out", model: String = model, mtp: String? = "W4A16"
  ) throws -> QuantizeOptions {
    var generator = SeededGenerator(seed: 7)
    let rows = (0..<10).map { _ in
      let ids = (0..<20).map { _ in Int.random(in: 0..<64, using: &generator) }
      return "{\"input_ids\":\(ids)}"
    }
    try replaceFile(folder + "/ids.jsonl", with: Array(rows.joined(separator: "\n").utf8))
    var options = QuantizeOptions(
      model: model, output: "\(folder)/\(name)", memory: 256 << 20, threads: 2)
    options.data.path = folder + "/ids.jsonl"
    options.data.selection.samples = 10
    options.schemes = [IntegerScheme(.w8a16, groupSize: 32).scheme]
    options.predictions = try mtp.map { try SchemePreset.written($0).grouped(by: 32) }
    return options
  }

  private func isFurther(_ name: String) -> Bool { Self.further.contains(where: name.hasPrefix) }

  private func tensors(_ folder: String) throws -> [String: [UInt8]] {
    Dictionary(
      uniqueKeysWithValues: try ShardedModel(folder: folder).tensors.map { ($0.name, $0.bytes) })
  }

  private func ignored(_ folder: String) throws -> [String] {
    let config = try #require(JSONValue.parse(FileSystem.readFile(folder + "/config.json")).object)
    return config["quantization_config"]?.object?["ignore"]?.array?.compactMap(\.string) ?? []
  }

  @Test func `bytes depend on no memory, no threads and no stop within a prediction layer`() throws
  {
    try withTemporaryFolder { folder in
      var options = try options(folder)
      let expected = try SmallRun.expectTheSameBytes(options, in: folder + "/same")
      var layers: Set<Int> = []
      try SmallRun.runInterrupted(options) { _ in
        switch try RunStatus(output: options.output).position {
        case .attend(let layer, _, _), .experts(let layer, _, _, _, _), .advance(let layer, _, _):
          layers.insert(layer)
        default: break
        }
      }
      #expect(layers == [0, 1, 2, 3])
      #expect(try SmallRun.contents(options.output) == expected)
      var windows = options
      windows.output = folder + "/windows"
      windows.window = 3
      try SmallRun.run(windows)
      #expect(try SmallRun.contents(windows.output) == expected)
      options.predictions = nil
      let error = #expect(throws: RunStateError.self) { try SmallRun.run(options) }
      #expect("\(try #require(error))".contains("--mtp W4A16 in groups of 32"))
    }
  }

  @Test
  func `they are no layers of the model, whoever tells of them, and each step says that it begins`()
    throws
  {
    try withTemporaryFolder { folder in
      let options = try options(folder)
      let layers = LayerCount(2, predictions: 2)
      var steps: [String] = []
      var last = ""
      try QuantizeModel(QuantizePlan(options)) { event in
        switch event {
        case .progress(let progress):
          #expect(progress.layers == layers)
          guard let layer = progress.layer else { return }
          let step = "\(layer) \(progress.step.rawValue)"
          // Before any of its tokens.
          if step != last { #expect(progress.tokensDone == 0, "\(step)") }
          if step != last { steps.append(step) }
          last = step
        case .layerFinished(let layer): #expect(layer.layers == layers)
        default: break
        }
      }.run()
      #expect(steps.count >= 4 * 3 - 1, "\(steps)")
      #expect(Set(steps).isSuperset(of: ["0 attend", "1 advance", "2 experts", "3 attend"]))
      let status = try RunStatus(output: options.output)
      #expect(status.layers == layers)
      #expect(status.record?.progress.map(\.layers) ?? layers == layers)
      let report = try RunReport(output: options.output).report
      #expect(report.subject.layers == layers && report.subject.modelPath == Self.model)
      #expect(report.html.contains("prediction layers to W4A16 in groups of 32"))
    }
  }

  /// vLLM 0.33 makes `eh_proj` a plain Linear, whatever config.json says.
  @Test func `their Linears are quantized, the model and what joins them are as without`() throws {
    try withTemporaryFolder { folder in
      let (one, other) = (try options(folder, "with"), try options(folder, "without", mtp: nil))
      for options in [one, other] { try SmallRun.run(options) }
      let (with, without) = (try tensors(one.output), try tensors(other.output))
      let source = try tensors(Self.model)
      for (name, bytes) in without {
        if isFurther(name) { #expect(bytes == source[name], "\(name)") }
        if !isFurther(name) || name.contains("eh_proj") || name.contains("enorm")
          || name.contains("hnorm") || name.contains("shared_head") || name.contains("embed_tokens")
        {
          #expect(bytes == with[name], "\(name)")
        }
      }
      let spec = try CheckpointShapes(Checkpoint(folder: Self.model)).predicting().spec
      let linears = spec.layers.suffix(2).flatMap(\.linears)
      for linear in linears {
        #expect(with[linear.name + ".weight_packed"] != nil && with[linear.weight] == nil)
      }
      let names = Set(linears.map(\.name))
      #expect(try names.isDisjoint(with: ignored(one.output)))
      #expect(try names.isSubset(of: ignored(other.output)))
      for name in Self.further {
        for aside in ["eh_proj", "shared_head.head", "mlp.gate"] {
          #expect(try ignored(one.output).contains(name + aside))
        }
      }
    }
  }

  /// Of what the layers leave, as the judge computed it with the source's weights.
  @Test(arguments: ["glm4-moe-two", "deepseek-v3-two"])
  func `quantized prediction layers are nearer to the source than those rounded to nearest`(
    name: String
  ) throws {
    let model = fixturePath("predictions/" + name)
    let golden = try SafetensorsFile(path: model + "/golden.safetensors")
    let tokens = try #require(golden["input_ids"]).integers.map { Int32($0) }
    let sequences = [0..<12, 12..<24]
    func error(_ output: String) throws -> Float {
      let checkpoint = try Checkpoint(folder: output)
      #expect(checkpoint.spec.predicts)
      let backend = Backend(threads: 2)
      var states = try golden.matrix("hidden.2", columns: 32)
      for layer in checkpoint.spec.layers.suffix(2) {
        let entrance = try #require(layer.entrance)
        states = entrance.apply(
          to: states, checkpoint.embed(entrance.read(tokens, sequences: sequences)),
          sequences: sequences, weights: checkpoint.weights, backend: backend)
        for part in layer.parts {
          states =
            part.sequence?.apply(
              to: states, sequences: sequences, weights: checkpoint.weights, backend: backend)
            ?? states
          part.tokens?.add(to: [states], weights: checkpoint.weights, backend: backend)
        }
      }
      return relativeError(states.values, try golden.floats("predicted.1"))
    }
    try withTemporaryFolder { folder in
      var options = try options(folder, "ours", model: model)
      try SmallRun.run(options)
      let ours = try error(options.output)
      options.output = folder + "/nearest"
      options.smooths = false
      options.rounding = .nearest
      try SmallRun.run(options)
      let nearest = try error(options.output)
      #expect(ours > 0 && ours < nearest, "\(ours) against \(nearest)")
    }
  }

  @Test func `verify passes, and finds damage in a prediction layer`() throws {
    try withTemporaryFolder { folder in
      let options = try options(folder)
      try SmallRun.run(options)
      func verify() throws -> VerifyReport {
        try VerifyModel(output: options.output, source: options.model, threads: 2).run()
      }
      let report = try verify()
      #expect(report.findings == [])
      let spec = try CheckpointShapes(Checkpoint(folder: Self.model)).predicting().spec
      #expect(report.quantizedLinears == spec.layers.flatMap(\.linears).count)
      let name = "model.layers.3.mlp.experts.2.down_proj.weight_packed"
      let tensor = try #require(ShardedModel(folder: options.output)[name])
      var bytes = try FileSystem.readFile(tensor.file.path)
      bytes[tensor.range.lowerBound] ^= 0x77
      try replaceFile(tensor.file.path, with: bytes)
      #expect(try verify().findings.contains { $0.subject == name })
    }
  }

  @Test func `evaluate measures the model alone, and compare tells of prediction layers`() throws {
    try withTemporaryFolder { folder in
      let (one, other) = (try options(folder, "with"), try options(folder, "without", mtp: nil))
      for options in [one, other] { try SmallRun.run(options) }
      let results = try EvaluateModel(
        EvaluateOptions(
          models: [one.output, other.output], reference: Self.model,
          data: CalibrationSource(
            path: folder + "/ids.jsonl", selection: RowSelection(samples: 4, sequenceLength: 20)),
          memory: 1 << 30, threads: 2, scratch: folder + "/scratch")
      ).runAll()
      let divergences = try results.map { try #require($0.divergence).mean }
      #expect(divergences[0] > 0 && divergences[0] == divergences[1])
      let comparison = try CompareModels(one.output, other.output, threads: 2).run()
      #expect(comparison.schemes.count > 10)
      #expect(comparison.schemes.allSatisfy { isFurther($0.subject) && $0.second == "as it is" })
    }
  }

  /// What an earlier run made is read like any source, with prediction layers or without.
  @Test func `prediction layers that are stored as codes are read`() throws {
    try withTemporaryFolder { folder in
      let coded = try options(folder, "coded")
      try SmallRun.run(coded)
      let plain = try options(folder, "plain", model: coded.output, mtp: nil)
      try SmallRun.run(plain)
      let tensors = try tensors(plain.output)
      let source = try Checkpoint(folder: coded.output)
      for linear in source.spec.layers.suffix(2).flatMap(\.linears) {
        let decoded = source.weights.weight(linear)
          .matrix(0..<linear.outputs, from: Matrix.unlimited)
        #expect(tensors[linear.weight] == decoded.encoded(as: .bf16), "\(linear.name)")
      }
      let again = try options(folder, "again", model: coded.output, mtp: "W8A16")
      try SmallRun.run(again)
      for options in [plain, again] {
        let report = try VerifyModel(output: options.output, source: coded.output, threads: 2).run()
        #expect(report.findings == [])
      }
      #expect(try Checkpoint(folder: again.output).spec.predicts)
    }
  }

  @Test func `what is quantized and what stays is told with prediction layers by themselves`()
    throws
  {
    try withTemporaryFolder { folder in
      var options = try options(folder)
      var coverage = try QuantizePlan(options).coverage
      #expect(coverage.quantized == "layers 0-1, prediction layers 2-3")
      #expect(
        coverage.left.last?.text
          == "eh_proj, enorm, hnorm, shared_head, embed_tokens of layer 3 (multi-token prediction)")
      options.ignore = ["model.layers.3.self_attn.*"]
      coverage = try QuantizePlan(options).coverage
      #expect(
        coverage.quantized == "layers 0-1, prediction layer 2, parts of prediction layer 3")
      options.ignore = []
      options.predictions = nil
      coverage = try QuantizePlan(options).coverage
      #expect(coverage.quantized == "layers 0-1")
    }
  }

  @Test func `a scheme of a part of the model is none of its prediction layers`() throws {
    try withTemporaryFolder { folder in
      var options = try options(folder)
      options.schemes += try IgnorePattern.targets(
        "experts", of: Checkpoint(folder: Self.model).spec, origin: "--scheme"
      ).map { IntegerScheme(.w4a16Asymmetric, groupSize: 32).targeting($0) }
      let output = try QuantizePlan(options).output
      let spec = try CheckpointShapes(Checkpoint(folder: Self.model)).predicting().spec
      for layer in spec.layers {
        for linear in layer.experts.flatMap(\.linears) {
          #expect(output.schemes[linear]?.weights?.isSymmetric == (layer.index > 1))
        }
      }
    }
  }

  @Test func `a model without prediction layers and a scheme that vLLM does not load are refused`()
    throws
  {
    try withTemporaryFolder { folder in
      var options = try options(folder, model: fixturePath("awq/moe-only"))
      #expect(throws: (any Error).self) { try QuantizePlan(options) }
      options.model = Self.model
      options.predictions = try SchemePreset.written("W4A8").grouped(by: 32)
      let error = #expect(throws: PredictionError.self) { try QuantizePlan(options) }
      #expect("\(try #require(error))".hasPrefix("--mtp W4A8: vLLM cannot load this: "))
    }
  }
}
