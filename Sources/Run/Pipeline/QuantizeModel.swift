// The run: copy what stays, then for each part of each layer attend, experts, advance; commit after each.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Models
package import Planning
package import Ranks
internal import Safetensors
internal import ScratchStore
internal import SystemIO
package import Tensors
internal import Transformer

/// A run: the loop over its steps.
package final class QuantizeModel {
  private let plan: QuantizePlan
  private let folder: OutputFolder
  private let backend: Backend
  private let commit: Commit
  private let inputs: StepInputs
  private let lock: FileLock
  private let keptLock: FileLock?
  private let report: (RunEvent) -> Void
  private let resumed: Bool
  private let windows: WindowRun
  /// Whether a shard of the source was moved or written since a process last looked.
  private let sourceMoved: Bool

  /// Opens or resumes the output.
  ///
  /// - Parameters:
  ///   - ranks: the processes that share the work; this is the first of them.
  ///   - command: what to tell others who ask how to go on.
  package init(
    _ plan: QuantizePlan, ranks: any Ranks = OneProcess(), command: [String] = [],
    interruption: Interruption = Interruption(),
    report: @escaping (RunEvent) -> Void
  ) throws {
    try Gemm.check(plan.run.engine)
    let options = plan.options
    let folder = OutputFolder(path: options.output, isMeasuring: plan.measures)
    let lock = try folder.open(source: options.model, restart: options.restarts)
    let resumed = FileSystem.exists(folder.state)
    var state: RunState
    if resumed {
      state = try RunState(readingFrom: folder.state)
      try state.inputs.check(
        against: plan.inputs, path: folder.state, data: options.data.name, model: options.model)
      try state.check(against: plan, path: folder.state)
    } else {
      state = RunState(inputs: plan.inputs, scratch: "")
      state.layerRecords = plan.layerRecords
      state.request = plan.options.request
    }
    sourceMoved =
      state.source.isEmpty || state.position == .done
      ? false
      : try SourceChanged.check(
        SourceFile.all(of: plan.checkpoint.model), against: state.source, in: options.model)
    if state.position != .done {
      try state.check(keeping: plan.kept, path: folder.state, resumed: resumed)
      state.history.begin(plan)
    }
    keptLock = state.position == .done ? nil : try plan.kept?.open()
    // Before anything else is made there: a folder without this mark and without a state is taken for somebody else's.
    if !resumed { try folder.begin() }
    let scratch = try folder.openScratch(
      options.scratch, plan: plan, state: &state, resumed: resumed)
    let backend = Backend(
      threads: options.threads, memory: MemoryBudget(limit: 0), engine: plan.run.engine)
    let commit = try Commit(
      plan, folder: folder, scratch: scratch, state: state, resumed: resumed, backend: backend,
      ranks: ranks, command: command, interruption: interruption, report: report)
    self.plan = plan
    self.folder = folder
    self.lock = lock
    self.backend = backend
    self.commit = commit
    self.resumed = resumed
    self.report = report
    let weights = plan.checkpoint.weights.noted(in: backend.ledger)
    inputs = StepInputs(
      spec: plan.spec, output: plan.output, trials: plan.trials, options: options,
      blocks: plan.blocks,
      passes: plan.run.passes, calibratedLayers: plan.run.calibratedLayers, backend: backend,
      weights: weights,
      states: StateFiles(
        folder: scratch, type: plan.stateType, blocks: plan.blocks,
        hidden: plan.spec.hiddenSize, backend: backend, kept: plan.kept,
        pieces: { [unowned commit] in commit.pieces },
        // It keeps them, too: neither would ever go.
        resumption: { [unowned commit] in commit.resumption },
        grew: { [unowned commit] in commit.noteScratch() }),
      results: commit, checkpoint: plan.checkpoint, writer: commit.writer, scales: commit.scales)
    commit.states = inputs.states
    windows = WindowRun(
      work: RankWork(
        plan, folder: folder, scratch: scratch, backend: backend, weights: weights,
        writer: commit.writer, scales: commit.scales,
        source: { [unowned commit] in commit.sourceChecksums },
        meter: commit, patience: ranks.count > 1 ? FollowingRank.patience : 0,
        interruption: interruption, report: report),
      commit: commit, ranks: ranks)
  }

  /// What was done so far.
  package var ledger: Ledger { backend.ledger }

  /// What buffers took at their most, by step and name, as the ledger has it.
  package var usedBuffers: [RunStep: [String: Int]] { commit.usedBuffers }
  package var usedPages: [RunStep: [String: Int]] { commit.usedPages }
  /// What loops took, where `ledger.loops` was started.
  package var usedLoops: [RunStep: LoopTimes] { commit.usedLoops }

  /// Does all units that are not done yet; of a finished run, checks that it is whole.
  ///
  /// - Throws: `Interrupted` after a commit when that was asked for; errors leave the last commit intact.
  package func run() throws {
    let note = try ReservedNote(path: folder.ending)
    do {
      if commit.position != .done {
        try work()
      } else if plan.measures {
        // Its file is gone.
        try commit.finishMeasuring()
      } else {
        try confirm()
      }
      try windows.end()
      try? FileSystem.remove(folder.ending)
    } catch {
      let error = commit.telling(error)
      note.write(error is Interrupted ? "a signal asked it to" : "\(error)")
      commit.writeLastRecord()
      throw error
    }
  }

  private func work() throws {
    let started = Clock()
    if let sizing = plan.sizing {
      report(
        .measuring(groups: sizing.groupCount, choices: sizing.wish.options.map(\.name)))
    }
    report(.started(plan.run, resumed: resumed))
    report(.covers(plan.coverage))
    if let data = plan.data { report(.dataLoaded(data)) }
    if let kept = plan.keptSummary { report(.keeps(kept)) }
    for warning in plan.warnings { report(.warning(warning)) }
    if resumed { try commit.checkWritten(commit.committedChecksums) }
    if sourceMoved { try commit.recheckSource() }
    if commit.knowsSource { try commit.beginKeeping() }
    let layers = plan.spec.layers
    var layerClock = Clock()
    // Of the part whose units are in work.
    var shared: (part: [Int], rounding: SharedRounding) = ([], SharedRounding())
    while commit.position != .done {
      try commit.stopIfAsked()
      switch commit.position {
      case .copy where !commit.knowsSource: try commit.recordSource()
      case .copy:
        commit.begin(.copy)
        if let data = plan.data { try commit.note(data, of: plan.options.data) }
        if let chosen = plan.options.chosen { try commit.note(chosen.record) }
        let copy = Copy(inputs: inputs, tensors: plan.copiedTensors)
        try copy.copyTensors { commit.noteCopied() }
        try copy.embedTokens()
        try commit.commit(.attend(layer: 0, part: 0, block: 0))
      case .attend(let layer, 0, 0) where plan.reused?.layers.contains(layer) == true:
        try commit.takeOver(layers[layer])
      case .attend(let layer, 0, 0) where makesStatesFirst: try windows.begin(at: layer)
      case .forward(let first, let end, let layer, let part):
        try windows.makeStates(first: first, end: end, layer: layer, part: part)
      case .window(let first, let end): try windows.round(first: first, end: end)
      case .attend(let layer, let index, let block):
        commit.begin(.attend, layer: layer)
        let part = layers[layer].parts[index]
        if index == 0 { layerClock = Clock() }
        try Attend(inputs: inputs, layer: layers[layer], part: part).run(from: block)
        try part.tokens == nil
          ? finish(part, since: layerClock)
          : commit.commit(.experts(layer: layer, part: index, unit: 0, end: 0, block: 0))
      case .experts(let layer, let index, let unit, let end, let block):
        commit.begin(.experts, layer: layer)
        let part = layers[layer].parts[index]
        if shared.part != [layer, index] { shared = ([layer, index], SharedRounding()) }
        let count = part.units.count
        // A group of its own size where the last commit was between groups; else what that one began, as far as it
        // fits the memory of this run.
        let group = unit + plan.run.unitsPerGroup
        let end = min(block == 0 ? group : min(end, group), count)
        if let branch = part.tokens {
          try Experts(inputs: inputs, layer: layers[layer], part: part, branch: branch).run(
            unit..<end, from: block, shared: &shared.rounding)
        }
        if end == count { shared = ([], SharedRounding()) }
        try commit.commit(
          end == count
            ? .advance(layer: layer, part: index, block: 0)
            : .experts(layer: layer, part: index, unit: end, end: end, block: 0))
      case .advance(let layer, let index, let block):
        commit.begin(.advance, layer: layer)
        let part = layers[layer].parts[index]
        if let branch = part.tokens {
          try Advance(inputs: inputs, layer: layers[layer], part: part, branch: branch)
            .run(from: block)
        }
        try finish(part, since: layerClock)
      case .finish: try plan.measures ? commit.finishMeasuring() : commit.finish()
      case .done: break
      }
    }
    if !plan.measures { report(.finished(commit.summary(seconds: started.seconds))) }
  }

  private var makesStatesFirst: Bool { plan.run.window > 1 || plan.options.ranks > 1 }

  /// The commit behind the last step of a part; behind the last part, the layer is done.
  private func finish(_ part: LayerPart, since started: Clock) throws {
    let layer = plan.spec.layers[part.layer]
    if part.index + 1 < layer.parts.count {
      return try commit.commit(.attend(layer: layer.index, part: part.index + 1, block: 0))
    }
    let isLast = layer.index + 1 == plan.spec.layers.count
    try commit.commit(isLast ? .finish : .attend(layer: layer.index + 1, part: 0, block: 0))
    inputs.weights.discard(layer.linears)
    // Norms and biases of one layer after the other would add up.
    inputs.weights.releaseAll()
    commit.finishLayer(layer, seconds: started.seconds)
  }

  /// A finished run again: every byte is looked at, and the small files are made again where they are not as they were.
  private func confirm() throws {
    report(.checking(.output(folder.path, bytes: plan.run.outputBytes)))
    commit.begin(.check)
    try commit.checkWritten(commit.committedChecksums)
    let made = try commit.restoreFiles()
    report(
      .alreadyFinished(
        output: folder.path, report: folder.reportPage, outputBytes: plan.run.outputBytes,
        madeAgain: made))
  }
}

extension QuantizePlan {
  /// Runs it, alone or with other ranks.
  ///
  /// - Throws: `RankError.other` where these have other work; `Interrupted` after a commit when that was asked for; errors
  ///   leave the last commit intact.
  package func run(
    ranks: any Ranks, command: [String] = [], interruption: Interruption = Interruption(),
    report: @escaping (RunEvent) -> Void
  ) throws {
    try RankAgreement.check(self, ranks)
    if ranks.rank == 0 {
      try QuantizeModel(
        self, ranks: ranks, command: command, interruption: interruption, report: report
      ).run()
    } else {
      try FollowingRank(self, ranks: ranks, interruption: interruption, report: report).run()
    }
  }
}
