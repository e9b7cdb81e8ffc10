// The report of a run, from what its last commit speaks of: state.json and choices.jsonl.

internal import CompressedTensors
internal import JSON
internal import Planning
package import Reporting
internal import SystemIO

/// Why a report cannot be written.
package enum RunReportError: Error, CustomStringConvertible, Equatable {
  case stillRunning(output: String)
  case noFile(path: String)
  case noFolder(path: String, folder: String)

  package var description: String {
    switch self {
    case .stillRunning(let output):
      "\(output): a run is writing there; name a file with --output PATH, or wait for its end"
    case .noFile(let path): "\(path): not a file; name one to write the report to"
    case .noFolder(let path, let folder):
      "\(path): there is no folder \(folder); make it first, or name another file for the report"
    }
  }
}

/// What is known of a run in its output folder, finished or not.
package struct RunReport: Sendable {
  package let report: Report
  private let folder: OutputFolder

  /// - Throws: `NoRun` where there is no run of Sluice; `RunStateError` and `ChoicesError` where its records are damaged.
  package init(output: String) throws {
    let status = try RunStatus(output: output)
    if status.isMeasuring {
      throw NoRun(
        path: output, problem: "a pass that measures for a size; its report comes with the output")
    }
    folder = OutputFolder(path: output)
    let state = try RunState(readingFrom: folder.state)
    let lines: [UInt8]
    do {
      lines = try Journal.read(folder.choices, committed: state.choices)
    } catch let error as JournalChanged {
      throw RunStateError.filesChanged(path: folder.state, problem: "\(error)")
    }
    report = Report(
      subject: Subject(state, output: output, status: status),
      choices: try Choices(lines: lines, file: folder.choices), cost: Cost(state.history),
      evaluations: EvaluationFile.read(folder))
  }

  /// Both files beside the state.
  package func write() throws {
    try write(page: folder.reportPage)
    try replaceFile(
      folder.reportJSON, with: Array((report.json.serialized(indent: 2) + "\n").utf8),
      durably: false)
  }

  package func write(page path: String) throws {
    try replaceFile(path, with: Array(report.html.utf8), durably: false)
  }

  /// Both files beside the state of a run that no process works on.
  package static func remake(output: String) throws -> RunReport {
    _ = try RunStatus(output: output)
    guard let lock = try FileLock(path: OutputFolder(path: output).lock) else {
      throw RunReportError.stillRunning(output: output)
    }
    return try withExtendedLifetime(lock) {
      let result = try RunReport(output: output)
      try result.write()
      return result
    }
  }

  package var page: String { folder.reportPage }

  /// Refuses a place that a report cannot be written to, before days of work.
  ///
  /// - Parameter output: a folder that will be there by then.
  package static func check(_ path: String, output: String) throws {
    if path.isEmpty || path.hasSuffix("/")
      || FileSystem.exists(path) && !FileSystem.isFile(path)
    {
      throw RunReportError.noFile(path: path)
    }
    let folder = FileSystem.parent(path)
    let isToCome =
      !FileSystem.exists(folder) && FileSystem.resolved(folder) == FileSystem.resolved(output)
    if isToCome { return }
    if !FileSystem.isFolder(folder) { throw RunReportError.noFolder(path: path, folder: folder) }
    try checkReplaceable(path)
  }
}

extension Subject {
  fileprivate init(_ state: RunState, output: String, status: RunStatus) {
    let history = state.history
    let settings = state.inputs.options.sorted { $0.key < $1.key }.map { Setting($0.key, $0.value) }
    let folder = status.record?.workingFolder ?? "."
    let path = history.model.hasPrefix("/") ? history.model : "\(folder)/\(history.model)"
    self.init(
      model: history.model, modelName: HubCache.name(of: history.model),
      modelPath: FileSystem.resolved(path), output: FileSystem.resolved(output),
      architecture: history.architecture,
      layers: history.layers, sourceBytes: history.sourceBytes, outputBytes: history.outputBytes,
      groupSize: state.inputs.groupSizes.max(),
      quantized: history.coverage?.quantized ?? "", left: history.coverage?.left.map(\.text) ?? [],
      settings: settings,
      command: status.record?.command ?? [], version: history.version,
      processor: history.processor, lastCommit: history.finished ?? status.lastCommit,
      progress: Progress(state.position, share: history.share))
  }
}

extension Progress {
  fileprivate init(_ position: RunPosition, share: Double?) {
    switch position {
    case .copy: self = .unfinished(step: "copying unchanged tensors", layer: nil, share: share)
    case .attend(let layer, _, _): self = .unfinished(step: "attend", layer: layer, share: share)
    case .experts(let layer, _, _, _, _):
      self = .unfinished(step: "experts", layer: layer, share: share)
    case .advance(let layer, _, _): self = .unfinished(step: "advance", layer: layer, share: share)
    case .forward(_, _, let layer, _):
      self = .unfinished(step: "states", layer: layer, share: share)
    case .window(let first, _): self = .unfinished(step: "layers", layer: first, share: share)
    case .finish: self = .unfinished(step: "the last check", layer: nil, share: share)
    case .done: self = .finished
    }
  }
}

extension Cost {
  fileprivate init(_ history: RunHistory) {
    self.init(
      processes: history.processes, processorSeconds: history.processorSeconds,
      ranks: history.ranks, threads: history.threads, budgetBytes: history.budgetBytes,
      scratchBytes: history.scratchBytes,
      steps: RunStep.allCases.compactMap { step in
        history.steps.first { $0.step == step }.map {
          StepCost(
            step: step.rawValue, seconds: $0.seconds, peakBytes: $0.bytes, heapBytes: $0.heapBytes,
            mappedBytes: $0.mappedBytes, plannedBytes: history.plannedBytes[step])
        }
      })
  }
}
