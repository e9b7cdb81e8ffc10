// Models that choose what they attend to in long texts: short ones are computed, others refused.

import Calibration
import CompressedTensors
import JSON
import Models
import Pipeline
import Quantization
import Tensors
import Testing
import TestSupport
import Transformer

@Suite struct SparseAttentionTests {
  private func options(_ model: String, _ output: String) -> QuantizeOptions {
    var options = QuantizeOptions(model: model, output: output, memory: 1 << 30, threads: 2)
    options.data.path = model + "/ids.jsonl"
    options.data.selection.samples = 2
    options.schemes = [IntegerScheme(.w4a16, groupSize: 32).scheme]
    return options
  }

  @Test func `sequences with more tokens than are attended to are refused with both numbers`()
    throws
  {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try GrownModel(
        "deepseek-v32-yarn-groups", dtype: .bf16, in: model, changing: [("index_topk", 23)])
      let options = options(model, folder + "/out")
      let error = SequenceTooLong(tokens: 24, longest: 23)
      #expect(throws: error) { try QuantizePlan(options) }
      #expect(throws: error) {
        try EvaluateModel(
          EvaluateOptions(
            models: [model], reference: nil,
            data: CalibrationSource(
              path: model + "/ids.jsonl", selection: RowSelection(samples: 2, sequenceLength: 100)),
            memory: 1 << 30, threads: 2, scratch: folder + "/scratch"))
      }
      #expect("\(error)".contains("24 tokens") && "\(error)".contains("--sequence-length 23"))
      var shorter = options
      shorter.data.selection.sequenceLength = 23
      #expect(try QuantizePlan(shorter).spec.longestSequence == 23)
    }
  }

  /// Short sequences are computed without it: only the list of readers by their widths tells of it.
  @Test func `an indexer that is left out of the readers of a norm is found`() throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try GrownModel("glm-moe-dsa-listed", dtype: .bf16, in: model)
      let checkpoint = try Checkpoint(folder: model)
      let layer = checkpoint.spec.layers[0]
      let indexer = Set(layer.attention.scored.map(\.linear.weight))
      #expect(indexer.count == 3)
      var found: Set<String> = []
      for (index, smoothing) in layer.smoothings.enumerated() {
        for (place, reader) in smoothing.consumers.enumerated()
        where indexer.contains(reader.weight) {
          var broken = checkpoint
          broken.spec.layers[0].smoothings[index].consumers.remove(at: place)
          let spoiled = broken.spec.layers[0]
          #expect(spoiled.unlistedReaders(of: spoiled.smoothings[index]) == [reader.weight])
          let plan = try QuantizePlan(
            options(model, folder + "/out\(index)-\(place)"), checkpoint: broken)
          let error = #expect(throws: ReaderUnlisted.self) {
            try QuantizeModel(plan) { _ in }.run()
          }
          #expect(error?.smoothing == smoothing.producerName)
          #expect(error?.tensors == [reader.weight])
          found.insert(reader.weight)
        }
      }
      #expect(found == indexer)
    }
  }
}
