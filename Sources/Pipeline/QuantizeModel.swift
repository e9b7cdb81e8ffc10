// The run: copy what stays, then for each layer attend, experts, advance; commit after each.

internal import CompressedTensors
internal import JSON
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Quantization
internal import Recipes
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

/// What stops a run.
package enum QuantizeError: Error, CustomStringConvertible, Equatable {
  case alreadyQuantized(folder: String)
  case nonFiniteWeight(file: String, tensor: String, row: Int, column: Int)
  case nonFiniteActivation(layer: Int, tap: String, channel: Int)

  package var description: String {
    switch self {
    case .alreadyQuantized(let folder):
      "\(folder): already quantized; start from the original checkpoint"
    case .nonFiniteWeight(let file, let tensor, let row, let column):
      "\(file): `\(tensor)` holds NaN or infinity at [\(row), \(column)]; download the file again"
    case .nonFiniteActivation(let layer, let tap, let channel):
      "layer \(layer): \(tap) is NaN or infinite in channel \(channel); check the weights of "
        + "this layer and the ones before, and the calibration data"
    }
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
  let choices: Choices
  let report: (RunEvent) -> Void
  private let interruption: Interruption
  private let lock: FileLock
  private(set) var state: RunState
  let scratch: String
  private let resumed: Bool
  private var operationsDone = 0.0
  private var layerChoices: [SmoothingChoice] = []

  /// Opens or resumes the output.
  package init(
    _ plan: QuantizePlan, interruption: Interruption = Interruption(),
    report: @escaping (RunEvent) -> Void
  ) throws {
    try Gemm.check()
    let options = plan.options
    let folder = OutputFolder(path: options.output)
    let lock = try folder.open(source: options.model, restart: options.restarts)
    let resumed = FileSystem.exists(folder.state)
    let fingerprint = plan.fingerprint
    let state: RunState
    if resumed {
      state = try RunState(readingFrom: folder.state)
      try state.check(against: fingerprint, path: folder.state)
    } else {
      // With --scratch, two outputs may share a folder; each has its own below it.
      var name = Digest()
      name.add(FileSystem.resolved(options.output))
      let scratch =
        options.scratch.map { FileSystem.resolved($0) + "/sluice-scratch-" + name.text } ?? ""
      let needed = plan.layout.shards.reduce(0) { $0 + $1.byteCount }
      try Self.checkSpace(
        folder.path, needed + (options.scratch == nil ? plan.run.scratchBytes : 0))
      if options.scratch != nil { try Self.checkSpace(scratch, plan.run.scratchBytes) }
      state = RunState(fingerprint: fingerprint, scratch: scratch)
    }
    let scratch = state.scratch.isEmpty ? folder.work + "/scratch" : state.scratch
    if state.position != .done { try FileSystem.createFolder(scratch) }
    do {
      writer = try ShardWriter(layout: plan.layout, folder: folder.path, resume: resumed)
      smoothingWriter = try ShardWriter(
        layout: ShardLayout(
          singleFile: OutputFolder.smoothingFile, tensors: plan.output.smoothingTensors),
        folder: folder.work, resume: resumed)
      choices = try Choices(path: folder.choices, committedBytes: state.choicesBytes)
    } catch  where resumed {
      throw RunStateError.filesChanged(path: folder.state, problem: "\(error)")
    }
    // From here on a second run finds a state to go on from.
    if !resumed { try state.commit(to: folder.state) }
    self.plan = plan
    self.folder = folder
    self.lock = lock
    self.state = state
    self.scratch = scratch
    self.resumed = resumed
    self.interruption = interruption
    self.report = report
    workers = Workers(threads: options.threads)
    weights = plan.checkpoint.weights
  }

  private static func checkSpace(_ path: String, _ needed: Int) throws {
    let free = try FileSystem.freeBytes(path)
    if free < needed {
      throw OutputFolderError.noSpace(path: path, needed: needed, free: free)
    }
  }

  var layers: [LayerSpec] { plan.checkpoint.spec.layers }

  /// Does all units that are not done yet.
  ///
  /// - Throws: `Interrupted` after a commit when that was asked for; errors leave the last commit intact.
  package func run() throws {
    let started = Clock()
    report(.started(plan.run, resumed: resumed))
    if resumed, let asked = plan.options.scratch, !scratch.hasPrefix(FileSystem.resolved(asked)) {
      report(.warning(.scratchStays(scratch)))
    }
    if let data = plan.data { report(.dataLoaded(data)) }
    for warning in plan.warnings { report(.warning(warning)) }
    var layerClock = Clock()
    while state.position != .done {
      if interruption.isRequested { throw Interrupted(output: folder.path) }
      switch state.position {
      case .copy:
        if let data = plan.data { try choices.add(data, of: plan.options.data) }
        try copyTensors()
        try embedTokens()
        try commit(.attend(layer: 0))
      case .attend(let layer):
        layerClock = Clock()
        try attend(layers[layer])
        try commit(.experts(layer: layer, unit: 0))
      case .experts(let layer, let unit):
        let end = min(unit + plan.run.unitsPerGroup, layers[layer].mlp.units.count)
        try quantizeUnits(unit..<end, of: layers[layer])
        let isLast = end == layers[layer].mlp.units.count
        try commit(isLast ? .advance(layer: layer) : .experts(layer: layer, unit: end))
      case .advance(let layer):
        try prove(layers[layer])
        try advance(layers[layer])
        let isLast = layer + 1 == layers.count
        try commit(isLast ? .finish : .attend(layer: layer + 1))
        try dropScratch(before: layer + 1)
        finishLayer(layers[layer], seconds: layerClock.seconds)
      case .finish:
        try finish()
        try commit(.done)
        try FileSystem.remove(scratch)
      case .done: break
      }
    }
    let memory = ResidentMemory.current()
    if memory.peakBytes > plan.options.memory {
      report(.warning(.overBudget(peak: memory.peakBytes, budget: plan.options.memory)))
    }
    report(
      .finished(
        RunSummary(
          output: folder.path, sourceBytes: plan.run.sourceBytes, outputBytes: plan.run.outputBytes,
          peakBytes: memory.peakBytes, budget: plan.options.memory, wallSeconds: started.seconds,
          processorSeconds: processorSeconds())))
  }

  /// Output durable, then scratch (each file when it was written), then the state: never the other way round.
  private func commit(_ next: RunPosition) throws {
    try writer.synchronize()
    try smoothingWriter.synchronize()
    try choices.synchronize()
    state.position = next
    state.choicesBytes = choices.byteCount
    try state.commit(to: folder.state)
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

  func noteWork(operations: Double) { operationsDone += operations }

  func reportProgress(_ step: RunStep, layer: Int?, tokensDone: Int) {
    report(
      .progress(
        RunProgress(
          step: step, layer: layer, layers: layers.count, tokensDone: tokensDone,
          tokensInStep: plan.run.tokens,
          share: plan.run.operations > 0 ? min(1, operationsDone / plan.run.operations) : 0)))
  }

  func note(_ choice: SmoothingChoice, layer: LayerSpec) throws {
    try choices.add(choice, layer: layer.index)
    layerChoices.append(choice)
  }

  private func finishLayer(_ layer: LayerSpec, seconds: Double) {
    let ratios = layerChoices.map(\.lossRatio)
    report(
      .layerFinished(
        LayerSummary(
          layer: layer.index, layers: layers.count,
          quantizedLinears: layer.linears.filter { plan.output.fates[$0.weight] == .packed }.count,
          smoothings: ratios.count,
          lossRatio: ratios.isEmpty ? nil : ratios.reduce(0, +) / Double(ratios.count),
          seconds: seconds)))
    layerChoices = []
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
