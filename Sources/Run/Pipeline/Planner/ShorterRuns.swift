// Settings that take less time than those of a plan: what to ask for where a run would take weeks.

internal import Calibration
internal import CompressedTensors
internal import Models
internal import Planning
internal import Quantization
internal import Transformer

/// Other settings for a run, and how long it takes with them.
package struct ShorterRun: Sendable, Equatable {
  /// To be added to the command, or to take the place of those that it has: `--samples 128`.
  package let flags: [String]
  package let seconds: Double
  /// Whether rounding is another, which costs more than fewer tokens do.
  package let changesRounding: Bool
}

/// The settings that are worth trying, in the order of what they cost: nothing that could be measured, then little.
package struct ShorterRuns {
  /// Of all passes.
  private let plans: [QuantizePlan]
  private let loading: Double
  /// Tokens that are enough for an expert; nil where there are no experts, or no more tokens than that anyway.
  private let expertTokens: Int?
  /// What each of the plans takes on this machine.
  package private(set) var times: [TimeEstimate]
  package let rates: Rates
  package let reading: SourceReading

  /// With fewer tokens than these, errors grow by more than a tenth.
  private static let fewestTokens = 4096

  /// Measures for about two seconds.
  ///
  /// - Parameters:
  ///   - plans: of the passes of a run.
  ///   - loading: seconds that opening the model and reading the data took.
  ///   - folder: where a small file may be written for a moment, on the disk that the run will write to.
  package init(_ plans: [QuantizePlan], loading: Double, folder: String) throws {
    self.plans = plans
    self.loading = loading
    let plan = plans[plans.count - 1]
    expertTokens = Self.expertTokens(of: plan)
    rates = Rates(plan.options, engine: plan.run.engine, folder: folder)
    reading = SourceReading(plan)
    times = []
    for plan in plans {
      times.append(
        try TimeEstimate(
          plan, rates, reading: reading, loading: times.isEmpty ? loading : 0))
    }
  }

  /// What all passes take on this machine.
  package var time: TimeEstimate { TimeEstimate(times) }

  private var plan: QuantizePlan { plans[plans.count - 1] }

  /// Twice the channels of an expert's down projection: as good as all tokens where it was measured.
  private static func expertTokens(of plan: QuantizePlan) -> Int? {
    let widths = plan.spec.layers.flatMap(\.experts).map(\.down.inputs)
    guard let widest = widths.max(), plan.run.tokens > 0 else { return nil }
    return 2 * widest < min(plan.options.expertTokens ?? .max, plan.run.tokens) ? 2 * widest : nil
  }

  /// All of them, best first.
  package func all() throws -> [ShorterRun] {
    var runs: [ShorterRun] = []
    for rounding in roundings {
      let plans = try plans.map { try QuantizePlan($0, with: options($0, rounding)) }
      let changesRounding = rounding != plan.options.rounding
      for samples in samples {
        let flags =
          (expertTokens.map { ["--expert-tokens \($0)"] } ?? [])
          + (samples.map { ["--samples \($0)"] } ?? [])
          + (changesRounding ? ["--rounding \(rounding.rawValue)"] : [])
        if flags.isEmpty { continue }
        runs.append(
          ShorterRun(
            flags: flags, seconds: try seconds(plans, samples: samples),
            changesRounding: changesRounding))
      }
    }
    return runs
  }

  /// Those of a plan with another rounding, and with the tokens that are enough for an expert.
  private func options(_ plan: QuantizePlan, _ rounding: RoundingMethod) -> QuantizeOptions {
    var options = plan.options
    options.rounding = rounding
    options.expertTokens = expertTokens ?? options.expertTokens
    return options
  }

  /// What all passes take with fewer sequences.
  ///
  /// - Parameter plans: of the passes with all of them.
  private func seconds(_ plans: [QuantizePlan], samples: Int?) throws -> Double {
    try plans.reduce(loading) { sum, plan in
      var fewer = plan
      if let samples {
        var options = plan.options
        options.data.selection.samples = samples
        fewer = try QuantizePlan(plan, with: options)
      }
      return sum + (try TimeEstimate(fewer, rates, reading: reading, loading: 0).total)
    }
  }

  private var roundings: [RoundingMethod] {
    plan.options.rounding.needsGram ? [plan.options.rounding, .clip] : [plan.options.rounding]
  }

  /// Halves of halves of the sequences there are; nil for all.
  private var samples: [Int?] {
    let sequences = plan.sequences
    var result: [Int?] = [nil]
    var count = 1
    while count * 2 < sequences { count *= 2 }
    while count > 0, count < sequences,
      plan.run.tokens / max(1, sequences) * count >= Self.fewestTokens
    {
      result.append(count)
      count /= 2
    }
    return result
  }
}
