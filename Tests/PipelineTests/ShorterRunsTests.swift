// Proposals of settings: estimates of the runs that these settings give, in the order of what they cost.

import Calibration
import Pipeline
import Planning
import Quantization
import Testing
import TestSupport

@Suite struct ShorterRunsTests {
  private func options(samples: Int = 64) -> QuantizeOptions {
    var options = SmallRun.options("/nowhere")
    options.model = fixturePath("glm4-moe-4m")
    options.data.path = fixturePath("calibration.jsonl")
    options.data.selection.samples = samples
    options.schemes = [IntegerScheme(.w4a16, groupSize: 128).scheme]
    options.memory = 1 << 30
    return options
  }

  /// The options that the flags of a proposal stand for.
  private func options(_ flags: [String]) throws -> QuantizeOptions {
    var result = options()
    for flag in flags {
      let words = flag.split(separator: " ")
      switch words[0] {
      case "--expert-tokens": result.expertTokens = Int(words[1])
      case "--samples": result.data.selection.samples = try #require(Int(words[1]))
      case "--rounding": result.rounding = try #require(RoundingMethod(rawValue: String(words[1])))
      default: Issue.record("no flag of a proposal: \(flag)")
      }
    }
    return result
  }

  @Test func `a proposal has the time of the run with its flags`() throws {
    try withTemporaryFolder { folder in
      let runs = try ShorterRuns([QuantizePlan(options())], loading: 3, folder: folder)
      let all = try runs.all()
      #expect(
        all.map(\.flags) == [
          ["--expert-tokens 256"], ["--expert-tokens 256", "--samples 32"],
          ["--expert-tokens 256", "--rounding clip"],
          ["--expert-tokens 256", "--samples 32", "--rounding clip"],
        ])
      for run in all where !run.changesRounding {
        let plan = try QuantizePlan(options(run.flags))
        let time = try TimeEstimate(plan, runs.rates, reading: runs.reading, loading: 3)
        // Summed up in another order.
        #expect(abs(time.total - run.seconds) < 1e-9 * run.seconds, "\(run)")
      }
    }
  }

  @Test func `a run without data has nothing to propose`() throws {
    try withTemporaryFolder { folder in
      var options = options()
      options.smooths = false
      options.rounding = .nearest
      let runs = try ShorterRuns([QuantizePlan(options)], loading: 0, folder: folder).all()
      #expect(runs.isEmpty)
    }
  }

  @Test func `settings that were asked for are not proposed again`() throws {
    try withTemporaryFolder { folder in
      var few = options(samples: 24)
      few.expertTokens = 200
      few.rounding = .clip
      let all = try ShorterRuns([QuantizePlan(few)], loading: 0, folder: folder).all()
      #expect(all.isEmpty, "\(all)")
    }
  }
}
