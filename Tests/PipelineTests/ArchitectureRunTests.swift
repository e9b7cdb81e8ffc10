// Whole runs of every architecture that there is a forward case of, on weights in sizes that can be cut into groups.

import Calibration
import CompressedTensors
import JSON
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

private let cases = fixtures(in: "forward")

/// One forward case of each class: the last by name.
private let classes: [String] = {
  var result: [String: String] = [:]
  for name in cases {
    let config = try? JSONValue.parse(
      FileSystem.readFile(fixturePath("forward/\(name)/config.json")))
    result[config?.object?["architectures"]?.array?.first?.string ?? name] = name
  }
  return result.values.sorted()
}()

@Suite struct ArchitectureRunTests {
  private func options(_ model: String, _ output: String) -> QuantizeOptions {
    var options = QuantizeOptions(model: model, output: output, memory: 1 << 30, threads: 2)
    options.data.path = model + "/ids.jsonl"
    options.data.selection.samples = 7
    options.schemes = [IntegerScheme(.w4a16, groupSize: 32).scheme]
    return options
  }

  /// Also the proof of every layer, which is part of a run.
  @Test(arguments: cases)
  func aRunIsWholeWithinItsPlanAndTheSameOnAnyMachine(name: String) throws {
    try checkRun(of: name)
  }

  /// Several blocks of 256 outputs of an expert and of 512 channels of the stream, and what is left of a tile of rows.
  @Test(arguments: [
    ("phi3-window", ["intermediate_size": 320]),
    ("gpt-oss-no-bias-yarn", ["intermediate_size": 288]),
    ("granite-moe-hybrid-published", ["shared_intermediate_size": 352, "intermediate_size": 288]),
    ("qwen3-moe-published", ["hidden_size": 576, "moe_intermediate_size": 544]),
    ("nemotron-h-published", ["moe_intermediate_size": 288]),
  ])
  func `widths of several blocks are whole, within their plan and the same`(
    name: String, sizes: [String: Int]
  ) throws {
    let edits = sizes.map { ($0.key, JSONValue.number(JSONNumber($0.value))) }
    try checkRun(of: name, changing: edits.sorted { $0.0 < $1.0 })
  }

  private func checkRun(of name: String, changing edits: [(String, JSONValue)] = []) throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try GrownModel(name, dtype: .bf16, in: model, changing: edits)
      var summary: RunSummary?
      var options = options(model, folder + "/out")
      try SmallRun.run(options) { if case .finished(let result) = $0 { summary = result } }
      for step in try #require(summary).steps {
        let planned = try #require(summary).plan.step(step.step).bufferBytes
        #expect(step.bufferBytes <= planned, "\(step.step)")
      }
      let report = try VerifyModel(output: options.output, source: model, threads: 2).run()
      #expect(report.findings == [])
      #expect(report.quantizedLinears > 0)
      let expected = try SmallRun.contents(options.output)
      options.output = folder + "/small"
      options.threads = 3
      options.memory = try QuantizePlan(options).run.smallestBudget
      try SmallRun.run(options)
      #expect(try SmallRun.contents(options.output) == expected)
    }
  }

  @Test(arguments: classes)
  func anAsymmetricOutputIsNearTheModel(name: String) throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try GrownModel(name, dtype: .f32, in: model)
      var options = options(model, folder + "/out")
      // vLLM loads no zero points of fused experts, and nothing writes them.
      let isFused = try Checkpoint(folder: model).spec.layers.flatMap(\.linears)
        .contains(where: \.isFused)
      options.schemes = [
        IntegerScheme(isFused ? .w4a16 : .w4a16Asymmetric, groupSize: 32).scheme
      ]
      try SmallRun.run(options)
      func divergence(_ output: String) throws -> Double {
        let result = try EvaluateModel(
          EvaluateOptions(
            models: [output], reference: model,
            data: CalibrationSource(
              path: model + "/ids.jsonl",
              selection: RowSelection(samples: 7, sequenceLength: 100)),
            memory: 1 << 30, threads: 2, scratch: folder + "/scratch")
        ).run()
        return try #require(result.divergence).mean
      }
      let ours = try divergence(options.output)
      options.output = folder + "/nearest"
      options.rounding = .nearest
      options.smooths = false
      try SmallRun.run(options)
      let nearest = try divergence(options.output)
      #expect(ours > 0 && ours < nearest, "\(ours) against \(nearest)")
    }
  }

  @Test func `a gate of a shared expert that config json does not ignore is found`() throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try GrownModel("qwen2-moe-published", dtype: .bf16, in: model)
      let options = options(model, folder + "/out")
      try SmallRun.run(options)
      let path = options.output + "/config.json"
      var config = try #require(JSONValue.parse(FileSystem.readFile(path)).object)
      var block = try #require(config["quantization_config"]?.object)
      let ignored = try #require(block["ignore"]?.array)
      let kept = ignored.filter { $0.string?.hasSuffix("shared_expert_gate") == false }
      #expect(kept.count < ignored.count)
      block["ignore"] = .array(kept)
      config["quantization_config"] = .object(block)
      try replaceFile(path, with: Array(JSONValue.object(config).serialized(indent: 2).utf8))
      let report = try VerifyModel(output: options.output, source: nil, threads: 2).run()
      #expect(report.findings.count == ignored.count - kept.count)
      #expect(
        report.findings.allSatisfy {
          $0.subject.hasSuffix("mlp.shared_expert_gate")
            && $0.problem == "not quantized, but not in `ignore`"
        })
    }
  }
}
