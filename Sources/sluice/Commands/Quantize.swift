// sluice quantize: flags to a run.

import ArgumentParser
internal import Calibration
internal import Glibc
internal import Pipeline
internal import Planning
internal import Ranks
internal import Release
internal import SystemIO

struct Quantize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Quantize a checkpoint with AWQ, within the memory you name.",
    discussion: """
      Progress goes to stderr. Ctrl-C finishes the unit in work, commits it and exits with 130; the \
      same command then goes on, also after a crash, and gives the same bytes.

      EXAMPLES
        sluice quantize GLM-4.6 \\
            -o GLM-4.6-W4A16 --memory 8GiB
        sluice quantize GLM-4.6 \\
            -o GLM-4.6-W4A16 --memory 8GiB \\
            --calibration chats.parquet \\
            --ignore 'model.layers.[0-2].*'
        sluice quantize GLM-4.6 \\
            -o GLM-4.6-RTN --no-smoothing
        sluice quantize GLM-4.6 \\
            -o GLM-4.6-200GB \\
            --target-size 200GB
      """)

  @OptionGroup var arguments: QuantizeArguments

  @Option(
    name: [.short, .long],
    help: ArgumentHelp(
      "The folder to write: new, empty, or one to go on with.", valueName: "folder"),
    completion: .directory)
  var output: String

  @Option(
    help: ArgumentHelp(
      "Write the report of the run to this file, too. It always goes to OUT/.sluice/report.html.",
      valueName: "file"), completion: .file(extensions: ["html"]))
  var report: String?

  @Flag(help: "Forget an earlier run in the output folder and start over.")
  var restart = false

  @Flag(
    name: .customLong("no-card"),
    help: "Copy the model's README.md instead of writing a model card.")
  var noCard = false

  @Option(
    name: .customLong("evaluate-on"),
    help: ArgumentHelp(
      """
      When all is done, measure the distance to the model on this data, for the report and the model card. --samples \
      and the other data flags hold for it, too.
      """, valueName: "data"), completion: .file())
  var evaluateOn: String?

  @OptionGroup var log: RunLogArguments

  func validate() throws {
    if evaluateOn != nil, arguments.data.sequenceLength < 2 {
      throw ValidationError("--sequence-length is at least 2 where --evaluate-on measures")
    }
  }

  func run() throws {
    log.begin()
    var options = try arguments.options(output: output)
    options.restarts = restart
    options.report = report
    options.version = Version.number
    options.writesCard = !noCard
    options.request = RunRequest(
      folder: RunRequest.currentFolder, words: [Array(goingOn.dropFirst())])
    let evaluation = try evaluateOn.map { try self.evaluation(on: $0, of: options) }
    if let report {
      try RunReport.check(report, output: options.output)
      for data in [options.data, evaluation?.data].compactMap({ $0 }) {
        try data.checkApart(report, flag: "--report")
      }
    }
    let measures = evaluation.map { !EvaluationFile.holds($0, of: options.output) } ?? false
    if let evaluation, measures { try EvaluateModel.check(evaluation) }
    // A terminal or a pager that goes away must not end days of work.
    signal(SIGPIPE, SIG_IGN)
    let interruption = Interruption()
    let signals = StopSignals(requesting: interruption)
    defer { signals.stop() }
    let progress = ProgressLine(memory: options.memory, threads: options.threads)
    let ranks = try Launcher.start()
    options.ranks = ranks.count
    // All of them read the same tokens, and would write them under one name.
    if ranks.rank > 0 { options.data.savedTokens = nil }
    // The first rank speaks for all; of the others, warnings are heard.
    let show: (RunEvent) -> Void = { event in
      if ranks.rank == 0 { return progress.show(event) }
      if case .warning = event { progress.show(event) }
    }
    if options.size != nil {
      let run = try SizedRun(options) { ResidentMemory.current().peakBytes }
      if ranks.rank == 0 { arguments.warnOfUnused(run.writing) }
      try checkLimits(threads: options.threads, bytes: run.peakBytes)
      try run.run(ranks: ranks, command: goingOn, interruption: interruption, report: show)
    } else {
      let plan = try QuantizePlan(options) { ResidentMemory.current().peakBytes }
      if ranks.rank == 0 { arguments.warnOfUnused(plan) }
      try checkLimits(threads: options.threads, bytes: plan.run.peakBytes)
      try plan.run(ranks: ranks, command: goingOn, interruption: interruption, report: show)
    }
    if !measures { signals.stop() }
    ranks.finish()
    if ranks.rank > 0 { return }
    if let evaluation, measures {
      let whereStopped: @Sendable () -> Void = { [output = options.output, command = goingOn] in
        Console.news("\(output) is finished; only measuring it is left")
        Console.stopped(command)
      }
      signals.handle { _ in
        whereStopped()
        Glibc.exit(130)
      }
      // Asked for after the last commit of the run.
      if interruption.isRequested {
        whereStopped()
        throw ExitCode(130)
      }
      do {
        let measured = try MeasuredModels(
          evaluation, after: signals, whereStopped: whereStopped)
        Console.show(measured.text)
      } catch {
        Console.news(
          "\(options.output) is finished, but not measured; the same command measures it")
        throw error
      }
    }
    NextSteps(
      output: options.output, model: trimmed(arguments.model), isMeasured: evaluation != nil,
      isServed: progress.isServed
    ).tell()
  }

  /// What is measured at the end. Data that is not there is refused before days of work.
  private func evaluation(on data: String, of options: QuantizeOptions) throws -> EvaluateOptions {
    var source = try arguments.data.source(data)
    source.savedTokens = nil
    try source.check()
    var result = EvaluateOptions(
      models: [options.output], reference: options.model, data: source, memory: options.memory,
      threads: options.threads,
      scratch: "\(options.scratch ?? options.output + "/.sluice")/sluice-evaluate-\(getpid())")
    result.worst = 0
    result.acceptedKeys = options.acceptedKeys
    return result
  }
}
