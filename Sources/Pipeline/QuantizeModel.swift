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
  case nonFiniteActivation(layer: Int, tap: String, channel: Int)
  case missingInstructions(engine: Engine)
  case engineRounds(file: String, tensor: String, dtype: DType)

  package var description: String {
    switch self {
    case .alreadyQuantized(let folder):
      "\(folder): already quantized; start from the original checkpoint"
    case .nonFiniteWeight(let file, let tensor, let row, let column):
      "\(file): `\(tensor)` holds NaN or infinity at [\(row), \(column)]; download the file again"
    case .nonFiniteActivation(let layer, let tap, let channel):
      "layer \(layer): \(tap) is NaN or infinite in channel \(channel); check the weights of "
        + "this layer and the ones before, and the calibration data"
    case .missingInstructions(let engine):
      "--engine \(engine.rawValue): this CPU has \(CPU.instructionSet), not AVX512_BF16; use --engine f32"
    case .engineRounds(let file, let tensor, let dtype):
      "\(file): `\(tensor)` is \(dtype.rawValue), and --engine bf16 is for weights in BF16 or FP8; use --engine f32"
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
  let report: (RunEvent) -> Void
  private let interruption: Interruption
  private let lock: FileLock
  private(set) var state: RunState
  /// Of the processes before this one.
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
  private var layerChoices: [SmoothingChoice] = []
  /// Of Linears that are rounded other than to nearest: the mean of error over that of rounding to nearest.
  private var layerErrors: [RoundingErrors] = []
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
    let fingerprint = try plan.fingerprint()
    var state: RunState
    if resumed {
      state = try RunState(readingFrom: folder.state)
      try state.check(against: fingerprint, path: folder.state)
      try state.check(against: plan, path: folder.state)
    } else {
      state = RunState(fingerprint: fingerprint, scratch: "")
    }
    if state.position != .done { state.history.begin(plan) }
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
    } catch  where resumed {
      throw RunStateError.filesChanged(path: folder.state, problem: "\(error)")
    }
    if !resumed {
      // From here on a second run finds a state to go on from, and files as that state needs them.
      try writer.synchronize()
      try smoothingWriter.synchronize()
      try choices.synchronize()
      try checksums.synchronize()
      try synchronizeFolder(folder.work)
      try state.commit(to: folder.state)
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
  }

  var layers: [LayerSpec] { plan.checkpoint.spec.layers }

  /// Does all units that are not done yet.
  ///
  /// - Throws: `Interrupted` after a commit when that was asked for; errors leave the last commit intact.
  package func run() throws {
    let started = Clock()
    report(.started(plan.run, resumed: resumed))
    report(.covers(plan.coverage))
    if let data = plan.data { report(.dataLoaded(data)) }
    for warning in plan.warnings { report(.warning(warning)) }
    if resumed, state.position != .done { try checkWritten(checksums.committed) }
    var layerClock = Clock()
    while state.position != .done {
      if interruption.isRequested { throw Interrupted(output: folder.path) }
      switch state.position {
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

  // MARK: Commits

  /// Seconds of work that a kill may cost; more where a commit has to write statistics, which are large.
  private static let secondsBetweenCommits = 30.0
  private static let secondsBetweenStatistics = 60.0

  /// Output durable, then scratch (each file when it was written), then the state: never the other way round.
  private func commit(
    _ next: RunPosition, appended: [String: Int] = [:], statistics: String? = nil
  ) throws {
    try writer.synchronize()
    try smoothingWriter.synchronize()
    try recordChecksums()
    try choices.synchronize()
    try checksums.synchronize()
    state.position = next
    state.appended = appended
    if statistics != state.statistics, case .experts(_, let unit, _, _) = next {
      state.statisticsUnit = unit
    }
    state.statistics = statistics
    state.choices = choices.mark
    state.checksums = checksums.mark
    state.history = history.adding(
      memory.soFar(), scratchBytes: largestScratch, share: plan.share(before: next))
    try state.commit(to: folder.state)
    lastCommit = Clock()
    if next != .done { try dropScratch() }
  }

  /// Of what was written since the last call. Called after every unit, so that the order never depends on commits.
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

  /// config.json and the index come last: their presence says that the output is complete.
  private func finish() throws {
    try folder.copySideFiles(from: plan.options.model)
    let buffers = Set(layers.compactMap(\.mlp.router?.correctionBias))
    let parameters = plan.output.tensors.filter { !buffers.contains($0.name) }
      .reduce(0) { $0 + $1.byteCount / $1.dtype.byteWidth }
    let index = plan.layout.index(totalParameters: parameters)
    try replaceFile(folder.recipe, with: Array(plan.recipe.yaml().utf8))
    try replaceFile(folder.index, with: Array((index.serialized(indent: 2) + "\n").utf8))
    var config = plan.checkpoint.config
    config["quantization_config"] =
      QuantizationConfig(scheme: plan.output.scheme, ignore: plan.output.ignore).json
    let text = JSONValue.object(config).serialized(indent: 2) + "\n"
    try replaceFile(folder.config, with: Array(text.utf8))
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

  func reportProgress(_ step: RunStep, layer: Int?, tokensDone: Int) {
    let all = plan.run.operations
    let done = operationsDone - operationsBefore
    let progress = RunProgress(
      step: step, layer: layer, layers: layers.count, tokensDone: tokensDone,
      tokensInStep: plan.run.tokens, share: all > 0 ? min(1, operationsDone / all) : 0,
      secondsLeft: done > 0 && runClock.seconds > 1
        ? runClock.seconds / done * max(0, all - operationsDone) : nil)
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
    layerChoices.append(choice)
  }

  func note(
    _ linear: LinearSpec, _ rounding: ChosenRounding, _ errors: RoundingErrors, layer: LayerSpec
  ) throws {
    try choices.add(linear: linear.name, rounding, errors, layer: layer.index)
    if errors.nearest > 0 { layerErrors.append(errors) }
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
          smoothings: layerChoices.count, lossRatio: mean(layerChoices.map(\.lossRatio)),
          roundingRatio: mean(layerErrors.map { $0.chosen / $0.nearest }),
          seconds: seconds)))
    layerChoices = []
    layerErrors = []
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
