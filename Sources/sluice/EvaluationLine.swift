// EvaluationEvents to stderr: what was found, how far it is, a line for each layer.

internal import CompressedTensors
internal import JSON
internal import Pipeline
internal import Planning
internal import Reporting
internal import SystemIO

final class EvaluationLine {
  private let memory: Int
  private let threads: Int
  private var liveLine = LiveLine()

  init(memory: Int, threads: Int) {
    self.memory = memory
    self.threads = threads
  }

  func show(_ event: EvaluationEvent) {
    if Console.form == .json, Console.level != .quiet { write(event) }
    switch event {
    case .dataLoaded(let data):
      let (news, warnings) = dataLines(data)
      for text in news { Console.news(text) }
      for text in warnings { Console.warning(text) }
    case .warning(let warning): Console.warning("\(warning)")
    case .started(let plan):
      Console.news(
        "evaluating \(counted(plan.tokens, "token")), \(counted(plan.layerBlocks, "block")) at a time through "
          + "the layers, \(plan.headBlocks) through the head; memory \(bytesText(memory)), planned "
          + "peak \(bytesText(plan.peakBytes)); \(counted(threads, "thread"))")
    case .progress(let progress): show(progress)
    case .layerFinished(let folder, let layer, let layers, let seconds):
      Console.news(
        "\(HubCache.name(of: folder)): layer \(layer) of 0-\(layers - 1), \(durationText(seconds))")
      liveLine.interrupted()
    case .finished(let summary): finish(summary)
    }
  }

  private func show(_ progress: EvaluationProgress) {
    let place = progress.folder.map(HubCache.name)
    liveLine.show(
      ProgressMoment(
        share: progress.share, secondsLeft: progress.secondsLeft,
        layer: place.map { _ in (progress.layer, LayerCount(progress.layers)) },
        step: place ?? "head",
        residentBytes: ResidentMemory.current().residentBytes),
      fields: { [("model", .text(progress.folder))] })
  }

  private func finish(_ summary: EvaluationSummary) {
    Console.news(
      "memory: peak \(bytesText(summary.peakBytes)) of \(bytesText(memory)), "
        + "\(bytesText(summary.plan.peakBytes)) planned; \(durationText(summary.seconds)), "
        + "\(durationText(summary.processorSeconds)) of processor time")
    if summary.peakBytes > memory {
      Console.warning("\(RunWarning.overBudget(peak: summary.peakBytes, budget: memory))")
    }
  }

  /// The event as a line of JSON.
  private func write(_ event: EvaluationEvent) {
    switch event {
    case .dataLoaded(let data): Console.event("data", data.fields)
    case .started(let plan):
      Console.event(
        "started",
        [
          ("tokens", .int(plan.tokens)), ("scratch_bytes", .int(plan.scratchBytes)),
          ("memory_bytes", .int(memory)), ("planned_bytes", .int(plan.peakBytes)),
          ("threads", .int(threads)),
        ])
    case .layerFinished(let folder, let layer, let layers, let seconds):
      Console.event(
        "layer",
        [
          ("model", .string(folder)), ("layer", .int(layer)), ("layers", .int(layers)),
          ("seconds", .double(seconds)),
        ])
    case .finished(let summary):
      Console.event(
        "finished",
        [
          ("peak_bytes", .int(summary.peakBytes)), ("memory_bytes", .int(memory)),
          ("planned_bytes", .int(summary.plan.peakBytes)), ("seconds", .double(summary.seconds)),
          ("processor_seconds", .double(summary.processorSeconds)),
        ])
    case .progress, .warning: break
    }
  }
}
