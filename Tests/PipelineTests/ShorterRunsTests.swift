// Proposals of settings: estimates of the runs that these settings give, in the order of what they cost.

import Calibration
import Pipeline
import Planning
import Quantization
import Testing
import TestSupport

@Suite struct ShorterRunsTests {
  private func options(samples: Int = 64, tokens: OtherTokens = .all) -> QuantizeOptions {
    var options = SmallRun.options("/nowhere")
    options.model = fixturePath("glm4-moe-4m")
    options.data.path = fixturePath("calibration.jsonl")
    options.data.selection.samples = samples
    options.schemes = [IntegerScheme(.w4a16, groupSize: 128).scheme]
    options.memory = 1 << 30
    options.expertTokens = tokens
    return options
  }

  /// The options that the flags of a proposal stand for.
  private func options(_ flags: [String]) throws -> QuantizeOptions {
    var result = options()
    for flag in flags {
      let words = flag.split(separator: " ")
      switch words[0] {
      case "--expert-tokens": result.expertTokens = .auto
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
          ["--expert-tokens auto"], ["--expert-tokens auto", "--samples 32"],
          ["--expert-tokens auto", "--rounding fast"],
          ["--expert-tokens auto", "--samples 32", "--rounding fast"],
          ["--expert-tokens auto", "--rounding clip"],
          ["--expert-tokens auto", "--samples 32", "--rounding clip"],
        ])
      for run in all where run.growthOfRounding == 1 {
        let plan = try QuantizePlan(options(run.flags))
        let time = try TimeEstimate(plan, runs.rates, reading: runs.reading, loading: 3)
        // Summed up in another order.
        #expect(abs(time.total - run.seconds) < 1e-9 * run.seconds, "\(run)")
      }
    }
  }

  @Test func `each of many hosts needs no more memory than one of two`() throws {
    try withTemporaryFolder { folder in
      let plan = try QuantizePlan(options(samples: 8))
      let runs = try ShorterRuns([plan], loading: 0, folder: folder)
      // Were all of their processes on one, each would need more than 4 GiB.
      let hosts = try HostsEstimate([plan], hosts: 4096, runs, loading: 0)
      #expect(hosts.points.map(\.hosts) == (0...12).map { 1 << $0 })
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
      few.expertTokens = .number(200)
      few.rounding = .clip
      let all = try ShorterRuns([QuantizePlan(few)], loading: 0, folder: folder).all()
      #expect(all.isEmpty, "\(all)")
    }
  }

  @Test func `experts that see what is enough are no proposal`() throws {
    try withTemporaryFolder { folder in
      for tokens in [OtherTokens.auto, .number(4096)] {
        let plan = try QuantizePlan(options(tokens: tokens))
        #expect(plan.run.otherTokens == 4096)
        let all = try ShorterRuns([plan], loading: 0, folder: folder).all()
        #expect(all.first?.flags == ["--samples 32"])
      }
    }
  }

  private func run(
    _ tokens: (Int, Int),
    _ rounding: (RoundingMethod, RoundingMethod) = (.compensated, .compensated)
  ) -> ShorterRun {
    ShorterRun(flags: [], seconds: 1, tokens: tokens, rounding: rounding)
  }

  @Test func `what a shorter run gives up is told by its parts`() {
    #expect(run((131_072, 65_536)).losses == "nothing measurable")
    #expect(
      run((16_384, 4096)).losses
        == "6 % more KL by 4 096 tokens instead of 16 384; as measured on small models")
    #expect(
      run((65_536, 65_536), (.compensated, .fast)).losses
        == "35 % more KL by --rounding fast; as measured on small models")
    #expect(
      run((16_384, 4096), (.fast, .clip)).losses
        == "6 % more KL by 4 096 tokens instead of 16 384, 3.0 times the KL by --rounding clip; "
        + "as measured on small models")
  }

  @Test func `less than what other rows make of the KL is nothing measurable`() {
    #expect(ShorterRun.words(1.009) == "nothing measurable")
    #expect(ShorterRun.words(1.07) == "7 % more KL")
    #expect(ShorterRun.words(2.56) == "2.6 times the KL")
  }
}
