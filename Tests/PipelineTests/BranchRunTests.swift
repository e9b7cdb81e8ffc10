// The steps of a run over layers of other forms: one model, its branches dealt to layers in other ways, is one function,
// and becomes the same output.

import Calibration
import CompressedTensors
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

/// How the branches of a model are dealt to layers.
enum Dealing: CaseIterable {
  /// A layer for every branch, as in hybrid models.
  case oneEach
  /// All branches in one layer.
  case allInOne
  /// Layers that end between a branch along the sequence and the one on tokens behind it.
  case shifted

  func deal(_ branches: [Branch<Mixer>]) -> [[Branch<Mixer>]] {
    switch self {
    case .oneEach: branches.map { [$0] }
    case .allInOne: [branches]
    case .shifted:
      [[branches[0]]]
        + stride(from: 1, to: branches.count, by: 2).map {
          Array(branches[$0..<min($0 + 2, branches.count)])
        }
    }
  }
}

@Suite struct BranchRunTests {
  private func plan(_ options: QuantizeOptions, _ dealing: Dealing?) throws -> QuantizePlan {
    var checkpoint = try Checkpoint(folder: options.model)
    if let dealing {
      checkpoint.spec.layers = dealing.deal(checkpoint.spec.layers.flatMap(\.branches))
        .enumerated().map { LayerSpec(index: $0, branches: $1) }
    }
    return try QuantizePlan(options, checkpoint: checkpoint)
  }

  /// Every tensor of the output and every smoothing scale.
  private func tensors(_ output: String) throws -> [String: [UInt8]] {
    let scales = try SafetensorsFile(path: output + "/.sluice/smoothing.safetensors").tensors
    let all = try ShardedModel(folder: output).tensors + scales
    return Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0.bytes) })
  }

  @Test(arguments: Dealing.allCases)
  func `branches dealt to layers in another way become the same output`(dealing: Dealing) throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options(folder + "/plain")
      try QuantizeModel(plan(options, nil), report: { _ in }).run()
      let expected = try tensors(options.output)
      #expect(expected.keys.contains { $0.hasSuffix("smoothing_scale") })
      options.output = folder + "/dealt"
      let plan = try plan(options, dealing)
      var steps: [StepSummary] = []
      try QuantizeModel(plan) { if case .finished(let summary) = $0 { steps = summary.steps } }
        .run()
      #expect(try tensors(options.output) == expected)
      for step in steps {
        #expect(step.bufferBytes <= plan.run.step(step.step).bufferBytes, "\(step.step)")
      }
    }
  }

  @Test func `tokens end in front of a layer of several parts of which nothing is rounded`()
    throws
  {
    try withTemporaryFolder { folder in
      var options = SmallRun.options(folder + "/out")
      options.ignore = ["model.layers.0.mlp.*", "model.layers.1.*"]
      var checkpoint = try Checkpoint(folder: options.model)
      let branches = checkpoint.spec.layers.flatMap(\.branches)
      checkpoint.spec.layers = [Array(branches.prefix(1)), Array(branches.dropFirst())]
        .enumerated().map { LayerSpec(index: $0, branches: $1) }
      #expect(checkpoint.spec.layers.map(\.parts.count) == [1, 2])
      let plan = try QuantizePlan(options, checkpoint: checkpoint)
      #expect(plan.run.calibratedLayers == 1)
      try QuantizeModel(plan) { _ in }.run()
      #expect(FileSystem.exists(options.output + "/config.json"))
    }
  }

  /// What both branches read is needed until both are added.
  @Test func `a run over branches side by side goes on from every commit`() throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try GrownModel("cohere2-moe-published", dtype: .bf16, in: model)
      var options = QuantizeOptions(
        model: model, output: folder + "/whole", memory: 1 << 30, threads: 2)
      options.data.path = model + "/ids.jsonl"
      options.data.selection.samples = 7
      options.schemes = [IntegerScheme(.w4a16, groupSize: 32).scheme]
      try QuantizeModel(QuantizePlan(options), report: { _ in }).run()
      let expected = try tensors(options.output)
      options.output = folder + "/cut"
      var places: Set<String> = []
      var isDone = false
      while !isDone {
        let interruption = Interruption()
        do {
          try QuantizeModel(QuantizePlan(options), interruption: interruption) { event in
            if case .progress = event { interruption.request() }
          }.run()
          isDone = true
        } catch is Interrupted {
          let state = try RunState(readingFrom: options.output + "/.sluice/state.json")
          places.insert("\(state.position)")
          try #require(places.count < 1000)
        }
      }
      #expect(places.count > 4)
      #expect(try tensors(options.output) == expected)
    }
  }

  @Test(arguments: Dealing.allCases)
  func `a run over other layers goes on from every part of one`(dealing: Dealing) throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options(folder + "/plain")
      try QuantizeModel(plan(options, nil), report: { _ in }).run()
      let expected = try tensors(options.output)
      options.output = folder + "/dealt"
      var places: Set<String> = []
      var isDone = false
      while !isDone {
        let interruption = Interruption()
        do {
          try QuantizeModel(plan(options, dealing), interruption: interruption) { event in
            if case .progress = event { interruption.request() }
          }.run()
          isDone = true
        } catch is Interrupted {
          let state = try RunState(readingFrom: options.output + "/.sluice/state.json")
          places.insert("\(state.position)")
          try #require(places.count < 1000)
        }
      }
      #expect(try tensors(options.output) == expected)
      if dealing == .allInOne { #expect(places.contains { $0.contains("part 1") }) }
    }
  }
}
