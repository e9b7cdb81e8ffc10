// Likelihood of the forward goldens, and distance to a reference.

import Calibration
import CompressedTensors
import Pipeline
import Safetensors
import SystemIO
import Testing
import TestSupport

@Suite struct EvaluateModelTests {
  /// Mean negative log-likelihood from transformers' log-probabilities.
  private func expectedNLL(_ golden: SafetensorsFile) throws -> Double {
    let ids = try #require(golden["input_ids"])
    let scores = try golden.floats("log_probabilities")
    let (sequences, length) = (ids.shape[0], ids.shape[1])
    let vocabulary = scores.count / (sequences * length)
    var sum = 0.0
    for sequence in 0..<sequences {
      for position in 0..<length - 1 {
        let row = sequence * length + position
        sum -= Double(scores[row * vocabulary + ids.integers[row + 1]])
      }
    }
    return sum / Double(sequences * (length - 1))
  }

  @Test(arguments: ["published-qk-norm", "two-groups-whole"])
  func `the likelihood is the one of transformers`(name: String) throws {
    let model = fixturePath("forward/" + name)
    let golden = try SafetensorsFile(path: model + "/golden.safetensors")
    let ids = try #require(golden["input_ids"])
    try withTemporaryFolder { folder in
      let rows = (0..<ids.shape[0]).map { row in
        "{\"input_ids\":\(ids.integers[row * ids.shape[1]..<(row + 1) * ids.shape[1]])}"
      }
      let text = folder + "/ids.jsonl"
      try replaceFile(text, with: Array(rows.joined(separator: "\n").utf8))
      let result = try EvaluateModel(
        EvaluateOptions(
          model: model, reference: model,
          data: CalibrationSource(
            path: text, selection: RowSelection(samples: 8, sequenceLength: 64)),
          memory: 256 << 20, threads: 2, scratch: folder + "/scratch")
      ) { _, _, _ in }.run()
      #expect(abs(result.nll - (try expectedNLL(golden))) < 1e-4)
      #expect(result.divergence?.mean == 0)
      #expect(result.divergence?.agreement == 1)
      #expect(!FileSystem.exists(folder + "/scratch"))
    }
  }

  @Test func `smoothing keeps the model nearer to its reference than plain rounding does`() throws {
    try withTemporaryFolder { folder in
      func divergence(smooths: Bool) throws -> Double {
        var options = QuantizeOptions(
          model: fixturePath("glm4-moe-4m"), output: "\(folder)/\(smooths)", memory: 256 << 20,
          threads: 2)
        options.data.path = fixturePath("calibration.jsonl")
        options.data.selection.samples = 48
        options.smooths = smooths
        options.ignore = ["model.layers.0.*"]
        try SmallRun.run(options)
        let evaluation = try EvaluateModel(
          EvaluateOptions(
            model: options.output, reference: options.model,
            data: CalibrationSource(
              path: fixturePath("calibration.jsonl"),
              selection: RowSelection(samples: 8, sequenceLength: 128)),
            memory: 256 << 20, threads: 2, scratch: folder + "/scratch")
        ) { _, _, _ in }.run()
        return try #require(evaluation.divergence).mean
      }
      let (smoothed, plain) = try (divergence(smooths: true), divergence(smooths: false))
      #expect(smoothed < 0.3 * plain, "KL \(smoothed) against \(plain)")
    }
  }
}
