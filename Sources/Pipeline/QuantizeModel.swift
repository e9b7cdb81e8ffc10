// The run: copy what stays, then for each layer attend, experts, advance; commit after each.

internal import Calibration
internal import CompressedTensors
internal import JSON
package import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import Recipes
internal import Safetensors
internal import ScratchStore
internal import SystemIO
package import Tensors
internal import Transformer

/// What stops a run.
package enum QuantizeError: Error, CustomStringConvertible, Equatable {
  case alreadyQuantized(folder: String)
  case nonFiniteWeight(file: String, tensor: String, row: Int, column: Int)
  case nonFiniteActivation(layer: Int, tap: String, channel: Int, largest: String?)
  /// The number is one, and what becomes of it is none.
  case overflow(file: String, tensor: String, row: Int, column: Int, dtype: DType)
  case infiniteScale(file: String, tensor: String, row: Int, columns: Range<Int>, dtype: DType)
  case missingInstructions(engine: Engine)
  /// - place: the file, or the folder where the file is not there yet.
  case engineRounds(place: String, tensor: String, dtype: DType)

  package var description: String {
    switch self {
    case .alreadyQuantized(let folder):
      "\(folder): already quantized; start from the original checkpoint"
    case .nonFiniteWeight(let file, let tensor, let row, let column):
      "\(file): `\(tensor)` holds NaN or infinity at [\(row), \(column)]; download the file again"
    case .nonFiniteActivation(let layer, let tap, let channel, let largest):
      "layer \(layer): \(tap) is NaN or infinite in channel \(channel)"
        + (largest.map { ", and the largest weight near it is \($0)" } ?? "")
        + "; check the weights of this layer and the ones before, and the calibration data"
    case .overflow(let file, let tensor, let row, let column, let dtype):
      "\(file): `\(tensor)` is finite at [\(row), \(column)], but with the scales that are folded in it goes beyond "
        + "\(dtype.rawValue); use --no-smoothing, or look at why its numbers are that large"
    case .infiniteScale(let file, let tensor, let row, let columns, let dtype):
      "\(file): `\(tensor)` has numbers in row \(row), columns \(columns.lowerBound) to \(columns.upperBound - 1), "
        + "whose range goes beyond \(dtype.rawValue), so that their scale would be infinite; use --scheme W4A16, or "
        + "--ignore the module"
    case .missingInstructions(let engine):
      "--engine \(engine.rawValue): this CPU has \(CPU.instructionSet), not AVX512_BF16; use --engine f32"
    case .engineRounds(let place, let tensor, let dtype):
      "\(place): `\(tensor)` is \(dtype.rawValue), and --engine bf16 is for weights in BF16 or FP8; use --engine f32"
    }
  }
}

extension QuantizeError {
  init(_ number: NonFiniteNumber) {
    self = .nonFiniteWeight(
      file: number.tensor.file.path, tensor: number.tensor.name, row: number.row,
      column: number.column)
  }
}

/// A run in progress: its inputs, its open files, and the steps in files of their own.
package final class QuantizeModel {
  let plan: QuantizePlan
  let workers: Workers
  let weights: CheckpointWeights
  let folder: OutputFolder
  let writer: ShardWriter
  let smoothingWriter: ShardWriter
  let choices: Journal
  private let checksums: Journal
  private let sourceJournal: Journal
  private let files: Journal
  /// Checksums of the source's tensors from when the run began, by the tensors' places.
  private var sourceChecksums: [String]
  /// Whether a shard of the source was moved or written since a process last looked.
  private let sourceMoved: Bool
  let report: (RunEvent) -> Void
  private let interruption: Interruption
  private let lock: FileLock
  private(set) var state: RunState
  /// What the processes before this one did and took.
  private let history: RunHistory
  let scratch: String
  var largestScratch = 0
  private let resumed: Bool
  private var memory: StepWatch
  private var lastCommit = Clock()
  private var record: ProgressRecord
  private var recordClock: Clock?
  private let runClock = Clock()
  private var operationsDone: Double
  private let operationsBefore: Double
  /// For the layer in work, over all processes: loss of each smoothing over that without, and error of each Linear that
  /// is rounded other than to nearest over that of rounding to nearest.
  private var (layerLosses, layerErrors): ([Double], [Double])
  private var lastProgress: RunProgress?
  /// How gate and up projections of the layer in work are rounded.
  var madeInputRounding: (layer: Int, rounding: ChosenRounding)?

  /// Opens or resumes the output.
  ///
  /// - Parameter command: what to tell others who ask how to go on.
  package init(
    _ plan: QuantizePlan, command: [String] = [], interruption: Interruption = Interruption(),
    report: @escaping (RunEvent) -> Void
  ) throws {
    try Gemm.check(plan.run.engine)
    let options = plan.options
    let folder = OutputFolder(path: options.output)
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
    }
    sourceMoved =
      state.source.isEmpty || state.position == .done
      ? false
      : try SourceChanged.check(
        SourceFile.all(of: plan.checkpoint.model), against: state.source, in: options.model)
    if state.position != .done { state.history.begin(plan) }
    // Before anything else is made there: a folder without this mark and without a state is taken for somebody else's.
    if !resumed { try folder.begin() }
    let scratch = try folder.openScratch(
      options.scratch, plan: plan, state: &state, resumed: resumed)
    do {
      writer = try ShardWriter(layout: plan.layout, folder: folder.path, resume: resumed)
      smoothingWriter = try ShardWriter(
        layout: ShardLayout(
          singleFile: OutputFolder.smoothingFile, tensors: plan.output.smoothingTensors),
        folder: folder.work, resume: resumed)
      choices = try Journal(path: folder.choices, committed: state.choices)
      checksums = try Journal(path: folder.checksums, committed: state.checksums)
      sourceJournal = try Journal(
        path: folder.sourceChecksums, committed: state.sourceChecksums)
      files = try Journal(path: folder.files, committed: state.files)
      sourceChecksums = try plan.sourceChecksums(
        sourceJournal.committed, path: folder.sourceChecksums)
    } catch  where resumed {
      throw RunStateError.filesChanged(path: folder.state, problem: "\(error)")
    }
    if !resumed {
      // From here on a second run finds a state to go on from, and files as that state needs them.
      try writer.synchronize()
      try smoothingWriter.synchronize()
      for journal in [choices, checksums, sourceJournal, files] { try journal.synchronize() }
      try synchronizeFolder(folder.work)
      try state.commit(to: folder.state)
      try folder.hasBegun()
    }
    self.plan = plan
    self.folder = folder
    self.lock = lock
    self.state = state
    history = state.history
    self.scratch = scratch
    self.resumed = resumed
    self.interruption = interruption
    self.report = report
    workers = Workers(
      threads: options.threads, memory: MemoryBudget(limit: 0), engine: plan.run.engine)
    memory = StepWatch(workers.memory)
    record = ProgressRecord(command: command, threads: options.threads, budget: options.memory)
    operationsBefore = plan.operations(before: state.position)
    operationsDone = operationsBefore
    weights = plan.checkpoint.weights
    (layerLosses, layerErrors) = choices.ratios(layer: state.position.layer)
  }

  var layers: [LayerSpec] { plan.checkpoint.spec.layers }

  var isInterrupted: Bool { interruption.isRequested }

  /// Does all units that are not done yet; of a finished run, checks that it is whole.
  ///
  /// - Throws: `Interrupted` after a commit when that was asked for; errors leave the last commit intact.
  package func run() throws {
    let note = try ReservedNote(path: folder.ending)
    do {
      try state.position == .done ? confirm() : work()
      try? FileSystem.remove(folder.ending)
    } catch {
      let known = (error as? ScratchError).map { RunStateError.scratchChanged($0) }
      let error = StoppedRun.telling(known ?? error, share: state.history.share)
      note.write(error is Interrupted ? "a signal asked it to" : "\(error)")
      writeRecord(lastProgress)
      throw error
    }
  }

  private func work() throws {
    let started = Clock()
    report(.started(plan.run, resumed: resumed))
    report(.covers(plan.coverage))
    if let data = plan.data { report(.dataLoaded(data)) }
    for warning in plan.warnings { report(.warning(warning)) }
    if resumed { try checkWritten(checksums.committed) }
    if sourceMoved {
      begin(.check)
      try checkSource()
      state.source = SourceFile.all(of: plan.checkpoint.model)
      try state.commit(to: folder.state)
    }
    var layerClock = Clock()
    while state.position != .done {
      if isInterrupted { throw Interrupted(output: folder.path) }
      switch state.position {
      case .copy where state.source.isEmpty:
        begin(.check)
        for line in try folder.copySideFiles(from: plan.options.model) { try files.add(line: line) }
        try recordSource()
        state.source = SourceFile.all(of: plan.checkpoint.model)
        try commit(.copy)
      case .copy:
        begin(.copy)
        if let data = plan.data { try choices.add(data, of: plan.options.data) }
        try copyTensors()
        try embedTokens()
        try commit(.attend(layer: 0, block: 0))
      case .attend(let layer, let block):
        begin(.attend)
        layerClock = Clock()
        try attend(layers[layer], from: block)
        try commit(.experts(layer: layer, unit: 0, end: 0, block: 0))
      case .experts(let layer, let unit, let end, let block):
        begin(.experts)
        // A group of its own size where the last commit was between groups; else what that one began, as far as it
        // fits the memory of this run.
        let group = unit + plan.run.unitsPerGroup
        let end = min(
          block == 0 ? group : min(end, group), layers[layer].mlp.units.count)
        try quantizeUnits(unit..<end, of: layers[layer], from: block)
        let isLast = end == layers[layer].mlp.units.count
        try commit(
          isLast
            ? .advance(layer: layer, block: 0)
            : .experts(layer: layer, unit: end, end: end, block: 0))
        if isLast { madeInputRounding = nil }
      case .advance(let layer, let block):
        begin(.advance)
        try advance(layers[layer], from: block)
        let isLast = layer + 1 == layers.count
        try commit(isLast ? .finish : .attend(layer: layer + 1, block: 0))
        weights.discard(layers[layer].linears)
        finishLayer(layers[layer], seconds: layerClock.seconds)
      case .finish:
        begin(.check)
        try checkWritten(try FileSystem.readFile(folder.checksums))
        try finish()
        try commit(.done)
        try FileSystem.remove(scratch)
        writeRecord(nil)
      case .done: break
      }
    }
    let peaks = memory.soFar()
    let peak = peaks.map(\.bytes).max() ?? 0
    if peak > plan.options.memory {
      report(.warning(.overBudget(peak: peak, budget: plan.options.memory)))
    }
    writeReport()
    report(
      .finished(
        RunSummary(
          output: folder.path, report: folder.reportPage, sourceBytes: plan.run.sourceBytes,
          outputBytes: plan.run.outputBytes,
          scratchBytes: largestScratch, steps: peaks, plan: plan.run, budget: plan.options.memory,
          wallSeconds: started.seconds, processorSeconds: processorSeconds())))
  }

  /// A finished run again: every byte is looked at, and the small files are made again where they are not as they were.
  private func confirm() throws {
    report(.checking(.output(folder.path, bytes: plan.run.outputBytes)))
    begin(.check)
    try checkWritten(checksums.committed)
    let made = try folder.restoreFiles(
      files.committed, from: plan.options.model, own: ownFiles)
    writeReport()
    report(
      .alreadyFinished(
        output: folder.path, report: folder.reportPage, outputBytes: plan.run.outputBytes,
        madeAgain: made))
  }

  // MARK: Commits

  /// Seconds of work that a kill may cost; more where a commit has to write statistics, which are large.
  private static let secondsBetweenCommits = 30.0
  private static let secondsBetweenStatistics = 60.0

  /// Output durable, then scratch (each file when it was written), then the state: never the other way round.
  private func commit(
    _ next: RunPosition, appended: [String: Int] = [:], statistics: String? = nil
  ) throws {
    try checkUsed(until: next)
    try writer.synchronize()
    try smoothingWriter.synchronize()
    try recordChecksums()
    for journal in [choices, checksums, sourceJournal, files] { try journal.synchronize() }
    state.position = next
    state.appended = appended
    if statistics != state.statistics, case .experts(_, let unit, _, _) = next {
      state.statisticsUnit = unit
    }
    state.statistics = statistics
    state.choices = choices.mark
    state.checksums = checksums.mark
    state.sourceChecksums = sourceJournal.mark
    state.files = files.mark
    state.history = history.adding(
      memory.soFar(), scratchBytes: largestScratch, share: plan.share(before: next))
    try state.commit(to: folder.state)
    lastCommit = Clock()
    if next != .done { try dropScratch() }
  }

  /// Keeps the checksums of what was written since the last call. Called after every unit, so that the order never depends on commits.
  func recordChecksums() throws {
    for (tensor, checksum) in writer.takeChecksums() + smoothingWriter.takeChecksums() {
      try checksums.add(line: Checksums.line(tensor, checksum))
    }
  }

  /// Holds every tensor that was written, and every scale, against its checksum.
  private func checkWritten(_ lines: [UInt8]) throws {
    let checksums = Checksums(lines: lines)
    let layout = plan.layout
    func check(_ path: String, shard: Int?) throws {
      let file = try SafetensorsFile(path: path)
      let change = checksums.firstChange(workers: workers) { name in
        layout.location(of: name)?.shard == shard ? file[name] : nil
      }
      if let change { throw change }
    }
    // One file after the other: what is kept of its tensors is gone before the next.
    for (index, shard) in layout.shards.enumerated() {
      try check("\(folder.path)/\(shard.fileName)", shard: index)
    }
    try check("\(folder.work)/\(OutputFolder.smoothingFile)", shard: nil)
  }

  /// In the middle of a step: a commit where the last one is long ago, or someone wants to stop.
  ///
  /// - Parameters:
  ///   - writers: scratch files that the step goes on to write.
  ///   - statistics: what the step has gathered, in the order in which it will restore it.
  ///   - keepsStatistics: whether those of the last commit are still needed.
  ///   - isDue: whether it is time whatever the clock says.
  func commitIfDue(
    _ position: RunPosition, _ writers: [StatesWriter] = [],
    statistics: [ActivationStatistics] = [], keepsStatistics: Bool = false, isDue: Bool = false
  ) throws {
    let stops = interruption.isRequested
    let interval =
      statistics.isEmpty ? Self.secondsBetweenCommits : Self.secondsBetweenStatistics
    if !stops, !isDue, lastCommit.seconds < interval { return }
    for writer in writers { try writer.file.synchronize() }
    try synchronizeFolder(scratch)
    let saved =
      try statistics.isEmpty
      ? keepsStatistics ? state.statistics : nil : save(statistics, for: position)
    try commit(
      position,
      appended: Dictionary(uniqueKeysWithValues: writers.map { ($0.name, $0.file.byteCount) }),
      statistics: saved)
    if stops { throw Interrupted(output: folder.path) }
  }

  // MARK: The source

  /// Keeps the checksum of a tensor of the source.
  func keep(_ checksum: Checksum, of tensor: StoredTensor) throws {
    guard let place = plan.checkpoint.model.position(of: tensor.name) else { return }
    sourceChecksums[place] = checksum.text
    try sourceJournal.add(line: Checksums.line(tensor.name, checksum))
  }

  /// What was kept of it.
  func sourceChecksum(of tensor: StoredTensor) -> String {
    plan.checkpoint.model.position(of: tensor.name).map { sourceChecksums[$0] } ?? ""
  }

  // MARK: The end

  /// config.json and the index come last: their presence says that the output is complete.
  private func finish() throws {
    _ = try folder.restoreFiles(try files.lines(), from: plan.options.model)
    for (name, bytes) in ownFiles {
      try folder.checkPlace(folder.path + "/" + name)
      try replaceFile(folder.path + "/" + name, with: bytes)
      try files.add(line: OutputFolder.line(name, Checksum(bytes)))
    }
  }

  /// The files that a run writes at its end, in their order.
  private var ownFiles: [(name: String, bytes: [UInt8])] {
    let buffers = Set(layers.compactMap(\.mlp.router?.correctionBias))
    let parameters = plan.output.tensors.filter { !buffers.contains($0.name) }
      .reduce(0) { $0 + $1.byteCount / $1.dtype.byteWidth }
    var config = plan.checkpoint.config
    config["quantization_config"] =
      QuantizationConfig(groups: plan.output.schemes.schemes, ignore: plan.output.ignore).json
    func text(_ json: JSONValue) -> [UInt8] { Array((json.serialized(indent: 2) + "\n").utf8) }
    return [
      (OutputFolder.recipe, Array(plan.recipe.yaml().utf8)),
      (OutputFolder.index, text(plan.layout.index(totalParameters: parameters))),
      (OutputFolder.config, text(.object(config))),
    ]
  }

  // MARK: Reporting

  private func begin(_ step: RunStep) {
    memory.begin(step, limit: plan.run.step(step).bufferBytes)
  }

  func noteMemory() { memory.note() }

  /// A block of tokens went through a step: `operations` for each of them.
  func noteBlock(_ block: Int, _ step: RunStep, _ layer: LayerSpec, operations: Double) {
    operationsDone += Double(plan.blocks[block].count) * operations
    memory.note()
    reportProgress(
      step, layer: layer.index, tokensDone: plan.blocks[...block].reduce(0) { $0 + $1.count })
  }

  /// What is done once for all tokens is done.
  func noteOnce(_ operations: Operations) {
    operationsDone += operations.once
    memory.note()
  }

  /// - Parameter checked: of a file that is read to its end, the share that was.
  func reportProgress(_ step: RunStep, layer: Int?, tokensDone: Int, checked: Double? = nil) {
    let all = plan.run.operations
    let done = operationsDone - operationsBefore
    let progress = RunProgress(
      step: step, layer: layer, layers: layers.count, tokensDone: tokensDone,
      tokensInStep: plan.run.tokens, share: all > 0 ? min(1, operationsDone / all) : 0,
      secondsLeft: done > 0 && runClock.seconds > 1
        ? runClock.seconds / done * max(0, all - operationsDone) : nil,
      checked: checked)
    lastProgress = progress
    report(.progress(progress))
    if recordClock.map({ $0.seconds > 1 }) ?? true { writeRecord(progress) }
  }

  private func writeRecord(_ progress: RunProgress?) {
    let memory = ResidentMemory.current()
    record.progress = progress
    record.residentBytes = memory.residentBytes
    record.peakBytes = max(record.peakBytes, memory.peakBytes, self.memory.peakBytes)
    record.write(to: folder.progress)
    recordClock = Clock()
  }

  /// For people, once all is done: a report that cannot be written does not make the output a worse one.
  private func writeReport() {
    do {
      let result = try RunReport(output: folder.path)
      try result.write()
      if let page = plan.options.report { try result.write(page: page) }
    } catch {
      report(.warning(.noReport(problem: "\(error)")))
    }
  }

  func note(_ choice: SmoothingChoice, layer: LayerSpec) throws {
    try choices.add(choice, layer: layer.index)
    layerLosses.append(choice.lossRatio)
  }

  func note(
    _ linear: LinearSpec, _ rounding: ChosenRounding, _ errors: RoundingErrors, layer: LayerSpec
  ) throws {
    try choices.add(linear: linear.name, rounding, errors, layer: layer.index)
    if errors.nearest > 0 { layerErrors.append(errors.chosen / errors.nearest) }
  }

  private func finishLayer(_ layer: LayerSpec, seconds: Double) {
    func mean(_ ratios: [Double]) -> Double? {
      ratios.isEmpty ? nil : ratios.reduce(0, +) / Double(ratios.count)
    }
    report(
      .layerFinished(
        LayerSummary(
          layer: layer.index, layers: layers.count,
          quantizedLinears: layer.linears.filter { plan.output.fates[$0.weight] == .packed }.count,
          smoothings: layerLosses.count, lossRatio: mean(layerLosses),
          roundingRatio: mean(layerErrors), seconds: seconds)))
    (layerLosses, layerErrors) = ([], [])
  }
}

/// Seconds since it was made.
struct Clock {
  private let start = ContinuousClock.now

  var seconds: Double {
    let elapsed = ContinuousClock.now - start
    return Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) * 1e-18
  }
}
