// The run: copy what stays, then for each layer attend, experts, advance; commit after each.

internal import Models
internal import Calibration
package import CompressedTensors
internal import Glibc
internal import JSON
internal import LinearAlgebra
package import Planning
package import Quantization
package import Recipes
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

/// Everything a user can say about a run.
package struct QuantizeOptions: Sendable {
  package var model: String
  package var output: String
  /// A JSON-lines file with `input_ids`; needed unless `smooths` is off.
  package var calibration: String?
  package var samples = 512
  package var sequenceLength = 2048
  package var scheme = QuantScheme(.w4a16, groupSize: 128)
  package var ignore: [String] = []
  package var smooths = true
  package var duoScaling = DuoScaling.on
  /// Points of the scale search; one of `duoScaling.gridSizes`.
  package var gridPoints = 20
  /// What is smoothed; nil for all that the model's description knows.
  package var mappings: [RecipeMapping]?
  /// The file that `mappings` are from, and `ignore`, where `ignoreIsFromRecipe`.
  package var recipe: String?
  package var ignoreIsFromRecipe = false
  package var loss = SmoothingLoss.diagonal
  package var memory: Int
  package var threads: Int
  /// A folder for hidden states; `OUT/.sluice/scratch` where none is named.
  package var scratch: String?
  package var maximumShardBytes = 5_000_000_000
  package var restarts = false

  package init(model: String, output: String, memory: Int, threads: Int) {
    self.model = model
    self.output = output
    self.memory = memory
    self.threads = threads
  }

  /// Takes over everything that a recipe says.
  package mutating func follow(_ recipe: Recipe, file: String) {
    self.recipe = file
    scheme = recipe.scheme
    ignore = recipe.ignore
    ignoreIsFromRecipe = true
    smooths = recipe.smooths
    duoScaling = recipe.duoScaling
    gridPoints = recipe.gridPoints
    mappings = recipe.mappings
  }

  var grid: [GridPoint] { GridPoint.grid(points: gridPoints, duo: duoScaling) }
}

/// Options that do not go together.
package enum QuantizeError: Error, CustomStringConvertible, Equatable {
  case alreadyQuantized(folder: String)
  case noCalibration
  case nonFiniteWeight(file: String, tensor: String, row: Int, column: Int)
  case nonFiniteActivation(layer: Int, tap: String, channel: Int)

  package var description: String {
    switch self {
    case .alreadyQuantized(let folder):
      "\(folder): already quantized; start from the original checkpoint"
    case .noCalibration:
      "smoothing needs --calibration DATA; without data, --no-smoothing rounds to nearest"
    case .nonFiniteWeight(let file, let tensor, let row, let column):
      "\(file): `\(tensor)` holds NaN or infinity at [\(row), \(column)]; download the file again"
    case .nonFiniteActivation(let layer, let tap, let channel):
      "layer \(layer): \(tap) is NaN or infinite in channel \(channel); check the weights of "
        + "this layer and the ones before, and the calibration data"
    }
  }
}

/// The inputs of a run, opened, checked and planned; nothing has been written yet.
package struct QuantizePlan: Sendable {
  package let options: QuantizeOptions
  package let checkpoint: Checkpoint
  package let output: OutputPlan
  package let run: RunPlan
  package let warnings: [RunWarning]
  /// The recipe of this run, in llm-compressor's words.
  let recipe: Recipe
  let blocks: [TokenBlock]
  let layout: ShardLayout

  /// A Linear that llm-compressor quantizes unless it is ignored, and Sluice never does.
  private static let head = "lm_head"

  package init(_ options: QuantizeOptions) throws {
    try self.init(options, checkpoint: Checkpoint(folder: options.model))
  }

  /// - Parameter checkpoint: `options.model`, opened.
  package init(_ options: QuantizeOptions, checkpoint: Checkpoint) throws {
    self.options = options
    self.checkpoint = checkpoint
    if checkpoint.quantization != nil {
      throw QuantizeError.alreadyQuantized(folder: options.model)
    }
    var patterns: [IgnorePattern] = []
    let origin = options.ignoreIsFromRecipe ? "\(options.recipe ?? ""): ignore" : "--ignore"
    for text in options.ignore { patterns.append(try IgnorePattern(text, origin: origin)) }
    recipe = Recipe(
      scheme: options.scheme,
      ignore: patterns.map(\.recipeText)
        + (patterns.contains { $0.matches(Self.head) } ? [] : [Self.head]),
      smooths: options.smooths, duoScaling: options.duoScaling, gridPoints: options.gridPoints,
      mappings: options.mappings)
    let mappings = try options.mappings.map {
      try ResolvedMappings($0, of: checkpoint.spec, file: options.recipe ?? "mappings")
    }
    output = try OutputPlan(
      checkpoint, scheme: options.scheme, ignoring: patterns, smooths: options.smooths,
      producers: mappings?.producers)
    var warnings: [RunWarning] = []
    if options.smooths { warnings += (mappings?.notes ?? []).map { .mapping($0) } }
    if options.ignoreIsFromRecipe, !patterns.contains(where: { $0.matches(Self.head) }) {
      warnings.append(.headStays(recipe: options.recipe ?? ""))
    }
    if options.smooths {
      guard let path = options.calibration else { throw QuantizeError.noCalibration }
      let data = try CalibrationData(
        path: path, samples: options.samples, sequenceLength: options.sequenceLength,
        vocabularySize: checkpoint.spec.vocabularySize)
      if data.sequences.count < options.samples {
        warnings.append(.fewerSamples(asked: options.samples, found: data.sequences.count))
      }
      if data.emptyRows > 0 { warnings.append(.emptyRows(data.emptyRows)) }
      blocks = TokenBlock.cut(data.sequences)
    } else {
      blocks = []
    }
    self.warnings = warnings
    run = try RunPlan(
      Workload(
        checkpoint: checkpoint, output: output, blocks: blocks, loss: options.loss,
        gridPoints: options.grid.count, threads: options.threads), budget: options.memory)
    layout = ShardLayout(
      tensors: output.tensors, maximumShardBytes: options.maximumShardBytes)
  }

  /// What must be the same for a run to go on where another stopped.
  var fingerprint: [String: String] {
    var model = Digest()
    for (key, value) in checkpoint.config.entries { model.add("\(key)=\(value.serialized())") }
    for tensor in checkpoint.model.tensors {
      model.add("\(tensor.name) \(tensor.dtype) \(tensor.shape) \(tensor.range)")
    }
    var tokens = Digest()
    for block in blocks {
      tokens.add("\(block.sequences)")
      for token in block.tokens { tokens.add("\(token)") }
    }
    // Mappings that smooth all there is are as good as none.
    let smoothings = Array(output.smoothings.joined())
    let possible = checkpoint.spec.layers.flatMap(\.smoothings).filter {
      $0.consumers.contains { output.fates[$0.weight] == .packed }
    }
    var producers = Digest()
    for smoothing in smoothings { producers.add(smoothing.producerName) }
    let isAll = !options.smooths || smoothings.count == possible.count
    return [
      "model": model.text, "calibration tokens": tokens.text,
      "--scheme": "\(options.scheme.bits) bits\(options.scheme.isSymmetric ? "" : " asymmetric")",
      "--group-size": "\(options.scheme.groupSize)",
      "--ignore": options.ignore.joined(separator: " "),
      "--no-smoothing": options.smooths ? "off" : "on", "--loss": options.loss.rawValue,
      "--max-shard-size": "\(options.maximumShardBytes)", "engine": Gemm.engine,
      "duo_scaling": options.duoScaling.rawValue, "n_grid": "\(options.gridPoints)",
      "mappings": isAll ? "all" : "\(smoothings.count) of \(possible.count) (\(producers.text))",
    ]
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
    writer = try ShardWriter(layout: plan.layout, folder: folder.path, resume: resumed)
    smoothingWriter = try ShardWriter(
      layout: ShardLayout(
        singleFile: OutputFolder.smoothingFile, tensors: plan.output.smoothingTensors),
      folder: folder.work, resume: resumed)
    choices = try Choices(path: folder.choices, committedBytes: state.choicesBytes)
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
    for warning in plan.warnings { report(.warning(warning)) }
    var layerClock = Clock()
    while state.position != .done {
      if interruption.isRequested { throw Interrupted(output: folder.path) }
      switch state.position {
      case .copy:
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
