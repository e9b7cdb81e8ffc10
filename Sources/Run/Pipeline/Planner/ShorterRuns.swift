// Settings that take less time than those of a plan: what to ask for where a run would take weeks.

internal import Calibration
internal import CompressedTensors
internal import JSON
internal import Models
internal import Planning
package import Quantization
internal import Transformer

/// Other settings for a run, how long it takes with them, and what they cost.
package struct ShorterRun: Sendable {
  /// To be added to the command, or to take the place of those that it has: `--samples 128`.
  package let flags: [String]
  package let seconds: Double
  /// Tokens of the run as it was asked for, and of this one.
  package let tokens: (asked: Int, kept: Int)
  /// How rounding is asked for, and how it is done here.
  package let rounding: (asked: RoundingMethod, taken: RoundingMethod)

  package init(
    flags: [String], seconds: Double, tokens: (asked: Int, kept: Int),
    rounding: (asked: RoundingMethod, taken: RoundingMethod)
  ) {
    self.flags = flags
    self.seconds = seconds
    self.tokens = tokens
    self.rounding = rounding
  }

  /// What the KL is multiplied by, as was measured on small models: by fewer tokens, and by rounding otherwise.
  package var growth: Double { growthOfTokens * growthOfRounding }

  package var growthOfTokens: Double {
    (1 + Self.scarcity / Double(max(1, tokens.kept)))
      / (1 + Self.scarcity / Double(max(1, tokens.asked)))
  }

  package var growthOfRounding: Double {
    Self.divergence(rounding.taken) / Self.divergence(rounding.asked)
  }

  /// To be told: the flags as they are given.
  package var text: String { flags.joined(separator: " ") }

  /// What these settings give up.
  package var losses: String {
    if growth < 1 + Self.measurable { return Self.words(growth) }
    var parts: [String] = []
    if growthOfTokens >= 1 + Self.measurable {
      parts.append(
        "\(Self.words(growthOfTokens)) by \(grouped(tokens.kept)) tokens instead of "
          + grouped(tokens.asked))
    }
    if growthOfRounding >= 1 + Self.measurable {
      parts.append("\(Self.words(growthOfRounding)) by --rounding \(rounding.taken.rawValue)")
    }
    return parts.joined(separator: ", ") + "; as measured on small models"
  }

  /// A factor of the KL in words.
  package static func words(_ growth: Double) -> String {
    if growth < 1 + measurable { return "nothing measurable" }
    if growth < 2 { return "\(Int(saturating: (100 * (growth - 1)).rounded())) % more KL" }
    return "\((growth * 10).rounded() / 10) times the KL"
  }

  /// Growth of the KL that is less than what other calibration rows make of it.
  private static let measurable = 0.01

  /// With so many tokens the KL is twice that of very many: see Accuracy, "What each part is worth".
  private static let scarcity = 350.0

  /// The KL of a method over that of the default: as measured with 4 and 16 million parameters, and on three miniatures.
  private static func divergence(_ method: RoundingMethod) -> Double {
    switch method {
    case .compensated: 1
    case .fast: 1.35
    case .clip: 4
    case .nearest: 4.5
    }
  }
}

/// The settings that are worth trying, in the order of what they cost: nothing that could be measured, then little.
package struct ShorterRuns {
  /// Of all passes.
  private let plans: [QuantizePlan]
  private let loading: Double
  /// Whether experts see more tokens than is of use.
  private let limitsExperts: Bool
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
    let enough = OtherTokens.auto.most(
      of: plan.spec.layers.flatMap(\.experts), tokens: plan.run.tokens)
    limitsExperts = enough.map { $0 < plan.run.otherTokens ?? .max } ?? false
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

  /// All of them, best first.
  package func all() throws -> [ShorterRun] {
    var runs: [ShorterRun] = []
    for rounding in roundings {
      let plans = try plans.map { try QuantizePlan($0, with: options($0, rounding)) }
      for samples in samples {
        let flags =
          (limitsExperts ? ["--expert-tokens auto"] : [])
          + (samples.map { ["--samples \($0)"] } ?? [])
          + (rounding == plan.options.rounding ? [] : ["--rounding \(rounding.rawValue)"])
        if flags.isEmpty { continue }
        let (seconds, tokens) = try cost(plans, samples: samples)
        runs.append(
          ShorterRun(
            flags: flags, seconds: seconds, tokens: (plan.run.tokens, tokens),
            rounding: (plan.options.rounding, rounding)))
      }
    }
    return runs.sorted { $0.growth < $1.growth }
  }

  /// Those of a plan with another rounding, and with the tokens that are enough for an expert.
  private func options(_ plan: QuantizePlan, _ rounding: RoundingMethod) -> QuantizeOptions {
    var options = plan.options
    options.rounding = rounding
    if limitsExperts { options.expertTokens = .auto }
    return options
  }

  /// What all passes take with fewer sequences, and the tokens of these.
  ///
  /// - Parameter plans: of the passes with all of them.
  private func cost(
    _ plans: [QuantizePlan], samples: Int?
  ) throws -> (seconds: Double, tokens: Int) {
    try plans.reduce((loading, 0)) { sum, plan in
      var fewer = plan
      if let samples {
        var options = plan.options
        options.data.selection.samples = samples
        fewer = try QuantizePlan(plan, with: options)
      }
      let time = try TimeEstimate(fewer, rates, reading: reading, loading: 0)
      return (sum.0 + time.total, fewer.run.tokens)
    }
  }

  private var roundings: [RoundingMethod] {
    switch plan.options.rounding {
    case .compensated: [.compensated, .fast, .clip]
    case .fast: [.fast, .clip]
    case .clip, .nearest: [plan.options.rounding]
    }
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
