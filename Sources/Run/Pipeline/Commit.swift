// What makes the work of a run durable, and tells of it: the one place where the state of a run changes.

internal import Calibration
internal import CompressedTensors
internal import JSON
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import Ranks
internal import Recipes
internal import Reporting
internal import Safetensors
internal import ScratchStore
internal import SystemIO
internal import Tensors
internal import Transformer

/// The files of an output, the state that speaks of them, and what is told while they grow.
final class Commit: StepResults, StepMeter {
  let plan: QuantizePlan
  let backend: Backend
  let folder: OutputFolder
  let writer: ShardWriter
  let scales: ShardWriter
  private let choices: Journal
  private let checksums: Journal
  private let sourceJournal: Journal
  private let files: Journal
  /// Checksums of the source's pieces from when the run began, by their positions.
  var sourceChecksums: SourceChecksums
  private let report: (RunEvent) -> Void
  private let interruption: Interruption
  private(set) var state: RunState
  /// What the processes before this one did and took.
  private let history: RunHistory
  private let scratch: String
  private var largestScratch = 0
  private var memory: StepWatch
  private var lastCommit = Clock()
  private var record: ProgressRecord
  /// What layers are taken over from.
  var oldOutput: OldOutput?
  private var recordClock: Clock?
  private let runClock = Clock()
  /// The share of the pass's arithmetic that earlier processes did.
  private let shareBefore: Double
  /// For the layer in work, over all processes: loss of each smoothing over that without, and error of each Linear that
  /// is rounded other than to nearest over that of rounding to nearest.
  private var (layerLosses, layerErrors): ([Double], [Double])
  private var lastProgress: RunProgress?
  /// When the pass over the tokens began that is in work, and how many of them were done by then.
  private var pass = (clock: Clock(), tokens: 0)
  /// What other ranks took so far, by rank.
  private var others: [Int: RankUse] = [:]
  private let ranks: any Ranks
  /// Where statistics are kept that a commit needs.
  var states: StateFiles?

  init(
    _ plan: QuantizePlan, folder: OutputFolder, scratch: String, state: RunState, resumed: Bool,
    backend: Backend, ranks: any Ranks, command: [String], interruption: Interruption,
    report: @escaping (RunEvent) -> Void
  ) throws {
    do {
      writer = try ShardWriter(layout: plan.layout, folder: folder.path, resume: resumed)
      scales = try ShardWriter(
        layout: plan.scalesLayout, folder: folder.work, resume: resumed)
      choices = try Journal(path: folder.choices, committed: state.choices)
      checksums = try Journal(path: folder.checksums, committed: state.checksums)
      sourceJournal = try Journal(
        path: folder.sourceChecksums, committed: state.sourceChecksums)
      files = try Journal(path: folder.files, committed: state.files)
      sourceChecksums = try SourceChecksums(
        sourceJournal.committed, of: plan, path: folder.sourceChecksums)
    } catch let error where resumed && Self.tellsOfChange(error) {
      throw RunStateError.filesChanged(path: folder.state, problem: "\(error)")
    }
    if !resumed {
      // From here on a second run finds a state to go on from, and files as that state needs them.
      try writer.synchronize()
      try scales.synchronize()
      for journal in [choices, checksums, sourceJournal, files] { try journal.synchronize() }
      try synchronizeFolder(folder.work)
      try state.commit(to: folder.state)
      try folder.hasBegun()
    }
    self.plan = plan
    self.folder = folder
    self.state = state
    history = state.history
    self.scratch = scratch
    self.backend = backend
    self.ranks = ranks
    self.interruption = interruption
    self.report = report
    memory = StepWatch(backend, isFirst: plan.span.lowerBound == 0)
    record = ProgressRecord(
      command: command, ranks: plan.options.ranks, threads: plan.options.threads,
      budget: plan.options.memory)
    shareBefore = state.history.passShare ?? 0
    (layerLosses, layerErrors) = choices.ratios(layer: state.position.layer)
  }

  /// Whether a file of the output is not as the state has it. Where the system fails, it may well be.
  private static func tellsOfChange(_ error: any Error) -> Bool {
    switch error {
    case SafetensorsError.shardSizeDiffers, SafetensorsError.shardHeaderDiffers: true
    case SafetensorsError.system(let error): error.isMissing
    case let error as SystemError: error.isMissing
    default: error is JournalChanged
    }
  }

  var position: RunPosition { state.position }

  /// Bytes of the scratch files that windows of layers left, by name.
  var pieces: [String: Int] {
    get { state.pieces }
    set { state.pieces = newValue }
  }

  /// What buffers took at their most, by step and name.
  var usedBuffers: [RunStep: [String: Int]] { memory.buffers }
  var usedPages: [RunStep: [String: Int]] { memory.pages }
  var usedLoops: [RunStep: LoopTimes] { memory.loops }

  /// Whether the checksums of the source are known.
  var knowsSource: Bool { !state.source.isEmpty }

  var committedChecksums: [UInt8] { checksums.committed }

  var resumption: Resumption {
    Resumption(
      appended: state.appended, statistics: state.statistics, statisticsUnit: state.statisticsUnit)
  }

  var isInterrupted: Bool { interruption.isRequested }

  func stopIfAsked() throws {
    if isInterrupted { throw Interrupted(output: folder.path) }
  }

  /// What the user is told of an error.
  func telling(_ error: any Error) -> any Error {
    StoppedRun.telling(error, state: folder.state, share: state.history.share)
  }

  // MARK: Commits

  /// Seconds of work that a kill may cost; more where a commit has to write statistics, which are large.
  private static let secondsBetweenCommits = 30.0
  private static let secondsBetweenStatistics = 60.0

  func commit(_ next: RunPosition) throws { try commit(next, appended: [:], statistics: nil) }

  /// Output durable, then scratch (each file when it was written), then the state: never the other way round.
  private func commit(
    _ next: RunPosition, appended: [String: Int], statistics: String?
  ) throws {
    try checkUsed(until: next)
    try writer.synchronize()
    try scales.synchronize()
    try recordChecksums(of: nil)
    for journal in [choices, checksums, sourceJournal, files] { try journal.synchronize() }
    state.position = next
    state.pieces = state.pieces.filter { needed($0.key, by: next) }
    state.appended = appended
    if statistics != state.statistics, case .experts(_, _, let unit, _, _) = next {
      state.statisticsUnit = unit
    }
    state.statistics = statistics
    state.choices = choices.mark
    state.checksums = checksums.mark
    state.sourceChecksums = sourceJournal.mark
    state.files = files.mark
    let isDone = next == .done || next == .finish
    state.history = history.adding(
      memory.soFar(), of: Array(others.values), scratchBytes: largestScratch,
      share: plan.run.operations > 0 ? (isDone ? 1 : passShare) : nil)
    if next == .done { state.history = state.history.finishing() }
    try state.commit(to: folder.state)
    lastCommit = Clock()
    if next != .done { try dropScratch() }
    if let unplanned = backend.memory.unplanned { throw unplanned }
  }

  func recordChecksums(of linears: [LinearSpec]?) throws {
    for (tensor, checksum) in [writer, scales].flatMap({ $0.takeChecksums(of: linears) }) {
      try checksums.add(line: Checksums.line(tensor, checksum))
    }
  }

  /// Holds every tensor that was written, and every scale, against its checksum.
  func checkWritten(_ lines: [UInt8]) throws {
    let checksums = Checksums(lines: lines)
    let layout = plan.layout
    func check(_ path: String, shard: Int?) throws {
      let file = try SafetensorsFile(path: path)
      let change = checksums.firstChange(backend: backend) { name in
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

  func commitIfDue(
    _ position: RunPosition, _ writers: [StatesWriter], statistics: [ActivationStatistics],
    keepsStatistics: Bool, isDue: Bool
  ) throws {
    let stops = interruption.isRequested
    let interval =
      statistics.isEmpty ? Self.secondsBetweenCommits : Self.secondsBetweenStatistics
    let isUnplanned = backend.memory.unplanned != nil
    if !stops, !isDue, !isUnplanned, lastCommit.seconds < interval { return }
    for writer in writers { try writer.file.synchronize() }
    try states?.synchronizeNames()
    let saved =
      try statistics.isEmpty
      ? keepsStatistics ? state.statistics : nil : states?.save(statistics, for: position)
    try commit(
      position,
      appended: Dictionary(uniqueKeysWithValues: writers.map { ($0.name, $0.file.byteCount) }),
      statistics: saved)
    if stops { throw Interrupted(output: folder.path) }
  }

  // MARK: Scratch

  /// Whether a piece of states is read from a position on.
  private func needed(_ piece: String, by position: RunPosition) -> Bool {
    switch position {
    case .forward, .window: true
    default:
      StatePiece(fileName: piece).map { names(neededBy: position).contains($0.name) } ?? false
    }
  }

  /// Removes every file in scratch that the state does not need to go on.
  private func dropScratch() throws {
    var needed = names(neededBy: state.position)
      .union(state.appended.keys).union(state.pieces.keys)
    if let statistics = state.statistics { needed.insert(statistics) }
    for file in try FileSystem.list(scratch) where !needed.contains(file) {
      try FileSystem.remove("\(scratch)/\(file)")
    }
  }

  /// States and statistics that work goes on from, as one process leaves them.
  private func names(neededBy position: RunPosition) -> Set<String> {
    var needed: Set<String> = []
    switch position {
    case .copy, .finish, .done: break
    case .forward(let first, _, _, _), .window(let first, _):
      needed.insert(StateFiles.name(.hidden, layer: first, part: 0))
    case .attend(let layer, let part, _):
      needed.insert(StateFiles.name(.hidden, layer: layer, part: part))
    case .experts(let layer, let part, _, _, _), .advance(let layer, let part, _):
      let part = plan.spec.layers[layer].parts[part]
      needed.insert(StateFiles.name(.readByTokens(of: part), part))
      needed.insert(StateFiles.name(.addedToByTokens(of: part), part))
      needed.insert(StateFiles.name(.routing, part))
      if case .experts = position {
        for place in part.tokens?.mixer.inputPlaces ?? [] {
          needed.insert(StateFiles.inputName(part, at: place))
        }
      }
    }
    return needed
  }

  /// Remembers the most that scratch held.
  func noteScratch() {
    largestScratch = max(largestScratch, FileSystem.folderSize(scratch))
  }

  // MARK: The source

  /// The first unit of a run: side files are copied, and the source is read once.
  func recordSource() throws {
    begin(.check)
    if !plan.measures {
      let lines = try folder.copySideFiles(
        from: plan.options.model, without: history.card == nil ? [] : [ModelCard.file])
      for line in lines { try files.add(line: line) }
    }
    if let lines = plan.kept?.sourceLines(of: SourceFile.all(of: plan.checkpoint.model)) {
      try takeOver(sourceLines: lines)
    } else {
      try readSource()
    }
    if let found = plan.options.chosen?.checksums, found != checksumsDigest {
      throw SizeError.sourceChanged(path: folder.measurements)
    }
    state.source = SourceFile.all(of: plan.checkpoint.model)
    try beginKeeping()
    try commit(.copy)
  }

  /// What is kept for other runs is of this source.
  func beginKeeping() throws {
    try plan.kept?.begin(
      source: state.source, digest: checksumsDigest, lines: sourceJournal.lines)
  }

  /// The checksums of shards that are as another run read them.
  private func takeOver(sourceLines lines: [UInt8]) throws {
    let checksums = try SourceChecksums(lines, of: plan, path: folder.sourceChecksums)
    for line in lines.split(separator: UInt8(ascii: "\n")) {
      try sourceJournal.add(line: String(decoding: line, as: UTF8.self))
    }
    sourceChecksums = checksums
  }

  /// Its files were moved or written since a process last looked.
  func recheckSource() throws {
    begin(.check)
    try checkSource()
    state.source = SourceFile.all(of: plan.checkpoint.model)
    try state.commit(to: folder.state)
  }

  /// Keeps the checksum of a piece of the source.
  func keep(_ checksum: Checksum, of tensor: StoredTensor) throws {
    sourceChecksums[tensor] = checksum.text
    try sourceJournal.add(line: Checksums.line(tensor.name, checksum))
  }

  /// Of the checksums of the source.
  var checksumsDigest: String {
    var digest = Digest()
    for checksum in sourceChecksums.values { digest.add(checksum) }
    return digest.text
  }

  func tell(_ event: RunEvent) { report(event) }

  // MARK: The end

  /// What was measured, for any size: its file says that a pass that measures came to its end.
  func finishMeasuring() throws {
    guard let sizing = plan.sizing else { preconditionFailure("nothing to measure for") }
    begin(.check)
    var lines = MeasuredLines(choices: plan.trials.count)
    for line in try choices.lines().split(separator: UInt8(ascii: "\n")) {
      guard let object = (try? JSONValue.parse(Array(line)))?.object else { continue }
      if let linear = MeasuredLinear(object) {
        lines.add(linear)
      } else if let energy = PartEnergy(object) {
        lines.add(energy)
      }
    }
    let groups: [GroupMeasurement]
    do {
      groups = try lines.groups(sizing.groups, of: plan.spec)
    } catch {
      throw SizeError.damaged(path: folder.choices, problem: "no word of `\(error.name)`")
    }
    try Measurements(
      inputs: plan.measuredInputs, source: state.source, checksums: checksumsDigest,
      choices: plan.options.schemes.map(\.words), groups: groups
    ).write(to: folder.measurements)
    try commit(.done)
    try FileSystem.remove(scratch)
    writeRecord(nil)
  }

  /// config.json and the index come last: their presence says that the output is complete.
  func finish() throws {
    begin(.check)
    try checkWritten(try FileSystem.readFile(folder.checksums))
    _ = try folder.restoreFiles(try files.lines(), from: plan.options.model)
    for (name, bytes) in ownFiles {
      // The card quotes the recipe.
      if name == OutputFolder.index { try ModelCard(folder)?.write(to: folder) }
      try folder.checkPlace(folder.path + "/" + name)
      try replaceFile(folder.path + "/" + name, with: bytes)
      try files.add(line: OutputFolder.line(name, Checksum(bytes)))
    }
    try commit(.done)
    try FileSystem.remove(scratch)
    writeRecord(nil)
  }

  /// Makes the files of a finished run again that are not as they were.
  ///
  /// - Returns: their names.
  func restoreFiles() throws -> [String] {
    var made = try folder.restoreFiles(
      files.committed, from: plan.options.model, own: ownFiles)
    if let card = try ModelCard(folder), try card.write(to: folder) { made.append(ModelCard.file) }
    writeReport()
    return made
  }

  /// The files that a run writes at its end, in their order.
  private var ownFiles: [(name: String, bytes: [UInt8])] {
    let buffers = Set(plan.spec.layers.flatMap(\.routers).compactMap(\.correctionBias))
    let parameters = plan.output.tensors.filter { !buffers.contains($0.name) }
      .reduce(0) { $0 + $1.byteCount / $1.dtype.byteWidth }
    let config = CheckpointConfig.config(
      plan.checkpoint.config,
      quantized: QuantizationConfig(
        groups: plan.output.schemes.schemes, ignore: plan.output.ignore,
        cache: plan.output.schemes.cache
      ).json)
    func text(_ json: JSONValue) -> [UInt8] { Array((json.serialized(indent: 2) + "\n").utf8) }
    return [
      (OutputFolder.recipe, Array(plan.recipe.yaml().utf8)),
      (OutputFolder.index, text(plan.layout.index(totalParameters: parameters))),
      (OutputFolder.config, text(.object(config))),
    ]
  }

  /// What a run came to.
  func summary(seconds: Double) -> RunSummary {
    let peaks = memory.soFar()
    let peak = peaks.map(\.bytes).max() ?? 0
    if peak > plan.options.memory {
      warn(.overBudget(peak: peak, budget: plan.options.memory))
    }
    writeReport()
    return RunSummary(
      output: folder.path, report: folder.reportPage, sourceBytes: plan.run.sourceBytes,
      outputBytes: plan.run.outputBytes, scratchBytes: largestScratch, steps: peaks,
      plan: plan.run, budget: plan.options.memory, wallSeconds: seconds,
      processorSeconds: others.values.reduce(processorSeconds()) { $0 + $1.processorSeconds })
  }

  // MARK: Reporting

  func begin(_ step: RunStep) {
    memory.begin(plan.run.step(step))
    pass = (Clock(), plan.blocks.prefix(position.block).reduce(0) { $0 + $1.count })
  }

  /// The step of a layer begins, and says so: its first block of tokens may be done much later.
  func begin(_ step: RunStep, layer: Int) {
    begin(step)
    reportProgress(step, layer: layer, tokensDone: pass.tokens)
  }

  func noteMemory() { memory.note() }

  /// A tensor was copied.
  func noteCopied() {
    noteMemory()
    reportProgress(.copy, layer: nil, tokensDone: 0)
  }

  func noteBlock(_ block: Int, _ step: RunStep, layer: Int) {
    memory.note()
    reportProgress(
      step, layer: layer, tokensDone: plan.blocks[...block].reduce(0) { $0 + $1.count })
  }

  func noteUnit(layer: Int) {
    memory.note()
    // Where statistics are kept no block of tokens tells how far the work is.
    if plan.kept != nil { reportProgress(.experts, layer: layer, tokensDone: pass.tokens) }
  }

  /// The share of the pass's arithmetic that is done, over all processes.
  private var passShare: Double {
    let all = plan.run.operations
    let others = ranks.told.dropFirst().reduce(0, +)
    return all > 0 ? min(1, shareBefore + (backend.ledger.arithmetic + others) / all) : 0
  }

  /// - Parameter checked: of a file that is read to its end, the share that was.
  func reportProgress(_ step: RunStep, layer: Int?, tokensDone: Int, checked: Double? = nil) {
    let share = history.share(ofPass: passShare)
    let done = share - history.share(ofPass: shareBefore)
    let (seconds, tokens) = (pass.clock.seconds, tokensDone - pass.tokens)
    let progress = RunProgress(
      step: step, layer: layer, layers: plan.layers, tokensDone: tokensDone,
      tokensInStep: plan.run.tokens, share: share,
      secondsLeft: done > 0 && runClock.seconds > 1
        ? runClock.seconds / done * max(0, 1 - share) : nil,
      tokensPerSecond: tokens > 0 && seconds > 0.05 ? Double(tokens) / seconds : nil,
      checked: checked)
    lastProgress = progress
    report(.progress(progress))
    if recordClock.map({ $0.seconds > 1 }) ?? true { writeRecord(progress) }
  }

  func writeLastRecord() { writeRecord(lastProgress) }

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
      warn(.noReport(problem: "\(error)"))
    }
  }

  func warn(_ warning: RunWarning) { report(.warning(warning)) }

  // MARK: Windows of layers

  /// What another rank took since it began.
  func note(_ use: RankUse, of rank: Int) { others[rank] = use }

  /// What a task left, in its turn.
  func add(_ record: TaskRecord) throws {
    for line in record.choices {
      try choices.add(line: line)
      if !plan.measures,
        let choice = (try? JSONValue.parse(Array(line.utf8))).flatMap({ Choice($0) })
      {
        count(choice)
      }
    }
    for line in record.checksums { try checksums.add(line: line) }
  }

  // MARK: Choices

  func note(_ data: DataSummary, of source: CalibrationSource) throws {
    try choices.add(.data(DataChoice(data, of: source)))
  }

  func note(_ size: SizeRecord) throws { try choices.add(.size(size)) }

  func note(_ choice: Choice) throws {
    try choices.add(choice)
    count(choice)
  }

  func note(measured line: String) throws { try choices.add(line: line) }

  private func count(_ choice: Choice) {
    switch choice {
    case .smoothing(let smoothing): layerLosses.append(smoothing.left ?? 1)
    case .linear(let linear): if let left = linear.left { layerErrors.append(left) }
    case .data, .size, .rescaled, .routing: break
    }
  }

  func recordedSmoothings(
    of layer: LayerSpec, in output: OutputPlan
  ) throws -> [AppliedSmoothing] { try folder.recordedSmoothings(of: layer, in: output) }

  /// A tensor of a layer that was taken over.
  func note(taken tensor: String, _ checksum: Checksum) throws {
    // In their own order they come to the same lines.
    _ = writer.takeChecksums() + scales.takeChecksums()
    try checksums.add(line: Checksums.line(tensor, checksum))
  }

  /// What was found for a layer that was taken over.
  func note(taken choice: String) throws { try choices.add(line: choice) }

  func finishLayer(_ layer: LayerSpec, seconds: Double) {
    if plan.measures {
      report(.layerMeasured(layer: layer.index, layers: plan.layers, seconds: seconds))
      return
    }
    func mean(_ ratios: [Double]) -> Double? {
      ratios.isEmpty ? nil : ratios.reduce(0, +) / Double(ratios.count)
    }
    report(
      .layerFinished(
        LayerSummary(
          layer: layer.index, layers: plan.layers,
          quantizedLinears: layer.linears.filter { plan.output.fates[$0.weight] == .packed }.count,
          smoothings: layerLosses.count, lossRatio: mean(layerLosses),
          roundingRatio: mean(layerErrors), seconds: seconds)))
    (layerLosses, layerErrors) = ([], [])
  }
}
