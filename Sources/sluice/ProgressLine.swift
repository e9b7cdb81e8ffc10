// RunEvents to stderr: what was found, how far it is, what each layer came to.

internal import JSON
internal import LinearAlgebra
internal import Pipeline
internal import Planning
internal import Reporting
internal import SystemIO

/// What became of the rows of a data set, and what to be warned of.
///
/// - Parameter isAgain: whether they are those that an output was made with, and no option names others.
func dataLines(
  _ data: DataSummary, isAgain: Bool = false
) -> (news: [String], warnings: [String]) {
  var lines: [String] = []
  var warnings: [String] = []
  if data.path == nil {
    lines.append(
      "note: calibrating with the built-in chats"
        + (isAgain ? ", as the output was" : "; --calibration DATA takes your own"))
  }
  var text = "data: \(counted(data.sequences, "sequence")), \(counted(data.tokens, "token"))"
  if data.cutRows > 0 {
    text += "; \(data.cutRows) cut to \(counted(data.sequenceLength, "token"))"
  }
  if data.emptyRows > 0 { text += "; \(counted(data.emptyRows, "row")) empty" }
  if data.failedRows > 0 { text += "; \(counted(data.failedRows, "row")) unusable" }
  lines.append(text)
  if let first = data.firstFailure { warnings.append("first unusable row: \(first)") }
  if data.sequences < data.asked {
    warnings.append(
      "\(counted(data.asked, "sample")) \(data.asked == 1 ? "was" : "were") asked for, the data gives \(data.sequences)"
    )
  }
  return (lines, warnings)
}

/// What a run came to, and where more is told what each of its steps took.
private func summaryLines(_ summary: RunSummary) -> [String] {
  let share = Double(summary.outputBytes) / Double(max(1, summary.sourceBytes))
  let peak = summary.steps.map(\.bytes).max() ?? 0
  var lines = [
    "done: \(summary.output), \(bytesText(summary.outputBytes)) "
      + "(\(percentText(share)) of the source), \(durationText(summary.wallSeconds)), "
      + "\(durationText(summary.processorSeconds)) of processor time",
    "memory: peak \(bytesText(peak)) of \(bytesText(summary.budget)), "
      + "\(bytesText(summary.plan.peakBytes)) planned; scratch \(bytesText(summary.scratchBytes)), "
      + "\(bytesText(summary.plan.scratchBytes)) planned",
  ]
  if Console.level != .verbose { return lines }
  lines.append("  " + row(["step", "time", "peak", "planned", "heap", "mapped files"]))
  for step in summary.steps {
    lines.append(
      "  "
        + row([
          step.step.rawValue, durationText(step.seconds), bytesText(step.bytes),
          bytesText(summary.plan.step(step.step).bytes), bytesText(step.heapBytes),
          bytesText(step.mappedBytes),
        ]))
  }
  return lines
}

/// What is read, and why.
private func checkText(_ what: RunCheck) -> String {
  switch what {
  case .source(let bytes): "reading the source once, for its checksums: \(bytesText(bytes))"
  case .sourceAgain(let bytes):
    "the source was moved or written since this run began; comparing its checksums: \(bytesText(bytes))"
  case .output(let folder, let bytes): "comparing the checksums of \(folder): \(bytesText(bytes))"
  }
}

final class ProgressLine {
  private let memory: Int
  private let threads: Int
  /// Whether a finished output is made again.
  private let isAgain: Bool
  private var liveLine = LiveLine()
  private var saidLegend = false
  /// Of passes that follow each other, each has a word of its own for what is the same.
  private var said: Set<String> = []
  /// What is told of a step when the next one begins.
  private var last: RunProgress?
  private var stepStarted = ContinuousClock.now
  /// Whether inference engines load what is written.
  private(set) var isServed = true

  init(memory: Int, threads: Int, isAgain: Bool = false) {
    self.memory = memory
    self.threads = threads
    self.isAgain = isAgain
  }

  func show(_ event: RunEvent) {
    if case .warning(.notLoaded) = event { isServed = false }
    if Console.form == .json { return write(event) }
    switch event {
    case .started(let plan, let resumed):
      line(
        "\(resumed ? "going on" : "starting"): \(counted(plan.tokens, "calibration token"))"
          + (plan.otherTokens.map { " (experts see their own and \(grouped($0)) others)" } ?? "")
          + ", "
          + bytesText(plan.sourceBytes)
          + (plan.outputBytes > 0 ? " to \(bytesText(plan.outputBytes))" : "") + "; memory "
          + "\(bytesText(memory)), planned peak \(bytesText(plan.peakBytes)); \(counted(threads, "thread")), "
          + "\(plan.engine.name), \(CPU.instructionSet)")
    case .dataLoaded(let data):
      let (news, warnings) = dataLines(data, isAgain: isAgain)
      for text in news { once(text) }
      for text in warnings { warn(text) }
    case .covers(let coverage): for text in coverage.lines { once(text) }
    case .keeps(let kept): once("kept states: \(kept.words)")
    case .measuring(let groups, let choices):
      line(
        "measuring: what \(choices.joined(separator: ", ")) would do to \(counted(groups, "group")) of Linears"
      )
    case .layerTakenOver(let layer, let layers):
      endStep()
      line("\(layers.place(of: layer)): as it was")
    case .layerMeasured(let layer, let layers, let seconds):
      line("\(layers.place(of: layer)): measured, \(durationText(seconds))")
    case .chosen(let size):
      line(
        "chosen: \(size.words); \(bytesText(size.bytes)) of \(bytesText(size.target)) allowed, predicted loss "
          + rounded(size.loss))
    case .progress(let progress): show(progress)
    case .layerFinished(let layer):
      endStep()
      let errors = errorText(layer)
      if !errors.isEmpty, !saidLegend {
        line(legend(layer))
        saidLegend = true
      }
      line(
        "\(layer.layers.place(of: layer.layer)): "
          + (layer.quantizedLinears == 0
            ? "not quantized"
            : "\(counted(layer.quantizedLinears, "Linear")), \(counted(layer.smoothings, "smoothing"))"
              + errors)
          + ", \(durationText(layer.seconds))")
    case .warning(let warning): warn("\(warning)")
    case .checking(let what): line(checkText(what))
    case .alreadyFinished(let output, let report, let bytes, let madeAgain):
      line("already finished: \(output), \(bytesText(bytes)), every tensor as it was written")
      for name in madeAgain { line("made again, as it was gone or changed: \(name)") }
      line("report: \(report)")
    case .finished(let summary):
      endStep()
      for text in summaryLines(summary) { line(text) }
      line("report: \(summary.report)")
    }
  }

  private func once(_ text: String) {
    if said.insert(text).inserted { line(text) }
  }

  private func warn(_ text: String) {
    if said.insert(text).inserted { Console.warning(text) }
    liveLine.interrupted()
  }

  private func line(_ text: String) {
    Console.news(text)
    liveLine.interrupted()
  }

  private func show(_ progress: RunProgress) {
    if last?.step != progress.step || last?.layer != progress.layer {
      endStep()
      stepStarted = ContinuousClock.now
    }
    last = progress
    liveLine.show(
      ProgressMoment(progress, residentBytes: ResidentMemory.current().residentBytes))
  }

  /// Where more is told: what a step took that is done.
  private func endStep() {
    guard let progress = last else { return }
    last = nil
    if Console.level != .verbose { return }
    let place = progress.layer.map { "\(progress.layers.place(of: $0)), " } ?? ""
    line(
      "\(place)\(progress.step.rawValue): \(durationText(seconds(ContinuousClock.now - stepStarted)))"
        + (progress.tokensPerSecond.map { ", \(Int(saturating: $0.rounded())) tokens/s" } ?? "")
        + ", \(bytesText(ResidentMemory.current().residentBytes)) of memory")
  }

  /// The event as a line of JSON.
  private func write(_ event: RunEvent) {
    switch event {
    case .progress(let progress):
      liveLine.show(
        ProgressMoment(progress, residentBytes: ResidentMemory.current().residentBytes))
    case .warning(let warning): warn("\(warning)")
    case .dataLoaded(let data):
      writeNews(event)
      for text in dataLines(data).warnings { warn(text) }
    default: writeNews(event)
    }
  }

  private func writeNews(_ event: RunEvent) {
    if Console.level == .quiet { return }
    let (name, fields) = event.fields(memory: memory, threads: threads)
    Console.event(name, fields)
  }
}

/// What AWQ's scales and the rounding after them left of the error, in the words of the legend.
private func errorText(_ layer: Pipeline.LayerSummary) -> String {
  func percent(_ share: Double) -> String {
    share.isFinite ? "\(Int(saturating: (min(max(share, 0), 1e6) * 100).rounded())) %" : "? %"
  }
  let before = layer.lossRatio == nil ? "RTN" : "AWQ"
  return (layer.lossRatio.map { ", error of AWQ \(percent($0)) of RTN" } ?? "")
    + (layer.roundingRatio.map { ", as written \(percent($0)) of \(before)" } ?? "")
}

/// Said once, before the first layer with errors.
private func legend(_ layer: Pipeline.LayerSummary) -> String {
  "legend: error is the mean squared change of a Linear's output on the calibration tokens, less is better; "
    + "RTN: rounded to nearest"
    + (layer.lossRatio == nil ? "" : "; AWQ: the same after AWQ's scales")
    + (layer.roundingRatio == nil ? "" : "; as written: with --rounding's better ranges and codes")
}
