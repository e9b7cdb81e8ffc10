// A run to a size: a pass that measures what every choice does to every group, where that is not known yet, and one that
// writes what was chosen.

internal import Calibration
internal import CompressedTensors
internal import Planning
internal import Quantization
package import Ranks
internal import Safetensors
internal import SystemIO

/// The plans of both passes.
package struct SizedRun {
  package let measuring: QuantizePlan
  /// Of what was chosen; before anything was measured, of what may be expected.
  package let writing: QuantizePlan
  /// Whether the measurements are in the output folder already.
  package let isMeasured: Bool

  /// - Parameters:
  ///   - isWhole: whether the weights must be there.
  ///   - residentPeak: what this process took at most so far, where it does nothing else.
  package init(
    _ options: QuantizeOptions, isWhole: Bool = true, residentPeak: () -> Int = { 0 }
  ) throws {
    var measuring =
      try isWhole
      ? QuantizePlan(options, residentPeak: residentPeak)
      : QuantizePlan(ofWhatIsHere: options, residentPeak: residentPeak)
    let found = try Self.measurements(of: measuring)
    isMeasured = found != nil
    let chosen = try Self.choice(measuring, found)
    writing = try QuantizePlan(measuring, choosing: chosen, restarts: options.restarts)
    if found == nil {
      let all = measuring.run.operations + writing.run.operations
      measuring.span = 0...(all > 0 ? measuring.run.operations / all : 0)
    }
    self.measuring = measuring
  }

  /// What is still to be done.
  package var passes: [QuantizePlan] { isMeasured ? [writing] : [measuring, writing] }

  package var peakBytes: Int { passes.map(\.run.peakBytes).max() ?? 0 }

  /// Does all that is not done yet.
  ///
  /// - Throws: `Interrupted` after a commit when that was asked for; errors leave the last commit intact.
  package func run(
    ranks: any Ranks = OneProcess(), command: [String] = [],
    interruption: Interruption = Interruption(), report: @escaping (RunEvent) -> Void
  ) throws {
    var writing = writing
    if !isMeasured {
      try measuring.run(
        ranks: ranks, command: command, interruption: interruption, report: report)
      if ranks.rank > 0 {
        _ = FileSystem.isThere(
          Self.folder(measuring).measurements, bytes: 1, waiting: FollowingRank.patience)
      }
      var chosen = try Self.choice(
        measuring, Measurements(readingFrom: Self.folder(measuring).measurements))
      chosen.begins = measuring.span.upperBound
      writing = try QuantizePlan(measuring, choosing: chosen, restarts: false)
    }
    if ranks.rank == 0, let chosen = writing.options.chosen { report(.chosen(chosen.record)) }
    try writing.run(ranks: ranks, command: command, interruption: interruption, report: report)
  }

  private static func folder(_ plan: QuantizePlan) -> OutputFolder {
    OutputFolder(path: plan.options.output)
  }

  private static func choice(_ plan: QuantizePlan, _ found: Measurements?) throws -> ChosenSize {
    guard let sizing = plan.sizing else { preconditionFailure("a run without a size") }
    guard let found else { return sizing.choose(sizing.assumedLosses) }
    let places = plan.options.schemes.map { found.choices.firstIndex(of: $0.words) }
    let losses = Sensitivity(found.groups, choices: places).losses { sizing.trials($0) }
    var chosen = sizing.choose(losses)
    chosen.checksums = found.checksums
    return chosen
  }

  /// What an earlier pass found for the same work; nil where it is still to be measured.
  private static func measurements(of plan: QuantizePlan) throws -> Measurements? {
    let (folder, options) = (folder(plan), plan.options)
    if options.output.isEmpty { return nil }
    if !FileSystem.exists(folder.measurements) {
      if !options.restarts, FileSystem.exists(folder.state), let size = options.size {
        throw SizeError.folderHasRun(path: folder.state, flag: size.flag)
      }
      return nil
    }
    do {
      let found = try Measurements(readingFrom: folder.measurements)
      try check(found, plan, path: folder.measurements)
      return found
    } catch let error where options.restarts && Self.isOvercome(error) {
      return nil
    }
  }

  /// Whether measuring anew helps. Where the system fails, what was measured may well be whole.
  private static func isOvercome(_ error: any Error) -> Bool {
    error is SizeError || error is RunStateError || error is SourceChanged
  }

  /// Refuses measurements of other work.
  private static func check(_ found: Measurements, _ plan: QuantizePlan, path: String) throws {
    guard let sizing = plan.sizing else { return }
    let options = plan.options
    try found.inputs.check(
      against: plan.measuredInputs, path: path, data: options.data.name, model: options.model)
    if let opened = plan.opened {
      _ = try SourceChanged.check(
        SourceFile.all(of: opened.model), against: found.source, in: options.model)
    }
    let asked = options.schemes.map(\.words)
    if !asked.allSatisfy(found.choices.contains) {
      throw SizeError.notMeasured(path: path, choices: asked, measured: found.choices)
    }
    if found.groups.map(\.name) != sizing.groups.map(\.name) {
      throw SizeError.damaged(path: path, problem: "other groups than those of this model")
    }
  }
}

extension QuantizePlan {
  /// What measurements depend on. What is chosen among is written beside them, in words that tell group sizes, too.
  var measuredInputs: RunInputs {
    var inputs = inputs
    for option in ["--choices", "--group-size", "--max-shard-size"] { inputs.options[option] = nil }
    return inputs
  }
}
