// Checkpoints, plain or quantized, over token sequences: every layer within a budget of memory, then the heads of all of
// them at once.

package import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Safetensors
package import ScratchStore
internal import SystemIO
internal import Tensors
internal import Tokenization
internal import Transformer

package struct EvaluateOptions: Sendable {
  /// Measured side by side.
  package var models: [String]
  package var reference: String?
  package var data: CalibrationSource
  /// Peak resident memory of the process, in bytes.
  package var memory: Int
  package var threads: Int
  /// A folder that this process may fill and remove again.
  package var scratch: String
  /// How many of the worst positions are told.
  package var worst = 10
  /// Keys of config.json that no description knows, and that the user takes to change nothing.
  package var acceptedKeys: Set<String> = []

  package init(
    models: [String], reference: String?, data: CalibrationSource, memory: Int, threads: Int,
    scratch: String
  ) {
    self.models = models
    self.reference = reference
    self.data = data
    self.memory = memory
    self.threads = threads
    self.scratch = scratch
  }
}

/// What stops an evaluation.
package enum EvaluationError: Error, CustomStringConvertible, Equatable {
  case otherVocabulary(folder: String, model: Int, reference: Int)
  case nonFinite(folder: String, sequence: Int, position: Int)
  case noSpace(path: String, needed: Int, free: Int)
  case scratchChanged(ScratchError)

  package var description: String {
    switch self {
    case .otherVocabulary(let folder, let model, let reference):
      "\(folder): the model has \(model) tokens, the reference \(reference); compare checkpoints of one model"
    case .nonFinite(let folder, let sequence, let position):
      "\(folder): the logits of sequence \(sequence), position \(position), are NaN or infinite; "
        + "check its weights with sluice verify, or download it again"
    case .noSpace(let path, let needed, let free):
      "\(path): \(bytesText(needed)) are needed, \(bytesText(free)) are free; free some space, use "
        + "fewer --samples, or choose another folder with --scratch"
    case .scratchChanged(let error):
      "\(error); something else wrote there, or the disk is failing: run it again with another "
        + "--scratch"
    }
  }
}

package final class EvaluateModel {
  let options: EvaluateOptions
  let backend: Backend
  /// The models, then the reference where there is one.
  let checkpoints: [Checkpoint]
  let blocks: [TokenBlock]
  let plan: EvaluationPlan
  private let data: DataSummary
  private let progress: EvaluationProgressMeter
  private var memory: EvaluationWatch
  private let report: (EvaluationEvent) -> Void

  /// Opens, checks and plans; nothing is written yet.
  ///
  /// - Parameter residentPeak: what this process took at most so far, where it does nothing else.
  package init(
    _ options: EvaluateOptions, residentPeak: () -> Int = { 0 },
    report: @escaping (EvaluationEvent) -> Void = { _ in }
  ) throws {
    try Gemm.check(.f32)
    self.options = options
    self.report = report
    let folders = options.models + (options.reference.map { [$0] } ?? [])
    for folder in folders { try UnfinishedOutput.refuse(folder) }
    let room = RunPlan.checkpointRoom(budget: options.memory)
    func open(_ folder: String) throws -> Checkpoint {
      var checkpoint = try Checkpoint(
        folder: folder, accepting: options.acceptedKeys, room: room)
      // What predicts further tokens changes nothing of the next one.
      checkpoint.spec = checkpoint.spec.withoutPredictions
      return checkpoint
    }
    let checkpoints = try folders.map(open)
    for model in checkpoints.prefix(options.models.count) {
      if let problem = model.weights.activationProblem(of: model.spec) { throw problem }
    }
    // The reference's, or the first model's without one.
    let spelling = options.reference ?? folders[0]
    let vocabulary = checkpoints[options.reference == nil ? 0 : folders.count - 1]
      .spec.vocabularySize
    for model in checkpoints where model.spec.vocabularySize != vocabulary {
      throw EvaluationError.otherVocabulary(
        folder: model.folder, model: model.spec.vocabularySize, reference: vocabulary)
    }
    try AcceptedKeyMissing.check(
      options.acceptedKeys, in: checkpoints.map(\.config),
      file: folders[0] + "/" + OutputFolder.config)
    let spelledBytes =
      try options.worst > 0 ? Tokenizer.memory(folder: spelling) : 0
    let shapes = checkpoints.map { CheckpointShapes($0) }
    func planner(_ blocks: [TokenBlock], loadingBytes: Int) -> EvaluationPlanner {
      EvaluationPlanner(
        shapes, measured: options.models.count, blocks: blocks, threads: options.threads,
        loadingBytes: loadingBytes, tokenizerBytes: spelledBytes)
    }
    let data = try options.data.load(
      model: spelling, vocabularySize: vocabulary,
      room: { bytes in
        try RunPlan.dataRoom(
          budget: options.memory, tensors: checkpoints.reduce(0) { $0 + $1.weights.count },
          tokenizerBytes: bytes
        ) { loading in
          planner(TokenBlock.most(of: options.data.selection), loadingBytes: loading)
            .smallestBudget
        }
      })
    self.checkpoints = checkpoints
    self.data = DataSummary(data, of: options.data)
    blocks = TokenBlock.cut(data.sequences)
    for checkpoint in checkpoints {
      try checkpoint.spec.checkLength(TokenBlock.longest(of: blocks))
    }
    let loadingBytes = residentPeak()
    plan = try planner(blocks, loadingBytes: loadingBytes).plan(budget: options.memory)
    backend = Backend(threads: options.threads, memory: MemoryBudget(limit: 0))
    memory = EvaluationWatch(backend.memory, isAlone: loadingBytes > 0)
    progress = EvaluationProgressMeter(operations: plan.operations, report)
  }

  /// Refuses what will not be measured once its model is made, for want of memory or rows: its shapes are those of the
  /// reference.
  package static func check(_ options: EvaluateOptions) throws {
    var ahead = options
    ahead.models = options.reference.map { [$0] } ?? []
    _ = try EvaluateModel(ahead)
  }

  /// Bytes of all tensors of each model.
  package var modelBytes: [Int] { checkpoints.prefix(options.models.count).map(\.model.totalBytes) }

  /// What the first model comes to.
  package func run() throws -> Evaluation { try runAll()[0] }

  /// What each model comes to, in their order.
  package func runAll() throws -> [Evaluation] {
    do {
      return try evaluate()
    } catch ScratchError.system(let error) {
      throw error
    } catch let error as ScratchError {
      throw EvaluationError.scratchChanged(error)
    }
  }

  private func evaluate() throws -> [Evaluation] {
    report(.dataLoaded(data))
    for note in checkpoints.flatMap(\.notes) { report(.warning(.source(note: note))) }
    let longest = TokenBlock.longest(of: blocks)
    for warning in RunWarning.longSequence(longest, for: checkpoints[0].config) {
      report(.warning(warning))
    }
    report(.started(plan))
    try FileSystem.createFolder(options.scratch)
    defer { try? FileSystem.remove(options.scratch) }
    if try FileSystem.freeBytes(options.scratch) < plan.scratchBytes {
      throw EvaluationError.noSpace(
        path: options.scratch, needed: plan.scratchBytes,
        free: try FileSystem.freeBytes(options.scratch))
    }
    memory.begin(.layers, plan)
    let steps = EvaluationSteps(
      models: checkpoints.enumerated().map { index, checkpoint in
        let weights = checkpoint.weights.noted(in: backend.ledger)
        return EvaluatedModel(
          folder: checkpoint.folder, spec: checkpoint.spec,
          weights: index < options.models.count ? weights.served : weights)
      }, measured: options.models.count, blocks: blocks, layerBlocks: plan.layerBlocks,
      headBlocks: plan.headBlocks,
      backend: backend, scratch: options.scratch,
      progress: { [progress, backend] in progress.show(done: backend.ledger.arithmetic) })
    for index in checkpoints.indices { try throughLayers(index, steps) }
    let states = try checkpoints.indices.map {
      try steps.states($0, layer: checkpoints[$0].spec.layers.count)
    }
    memory.begin(.head, plan)
    progress.step = .head
    let scores = try steps.score(states, check: check)
    memory.begin(.text, plan)
    let spelling = Spelling(self)
    let result = scores.map { Evaluation($0, of: self, spelling) }
    report(.finished(memory.finish(plan)))
    return result
  }

  private func throughLayers(_ index: Int, _ steps: EvaluationSteps) throws {
    let (spec, weights) = (checkpoints[index].spec, steps.models[index].weights)
    try steps.embed(index)
    for layer in spec.layers {
      let clock = Clock()
      progress.place = (checkpoints[index].folder, layer.index, spec.layers.count)
      try steps.advance(layer, of: index)
      weights.discard(layer.linears)
      weights.releaseAll()
      try FileSystem.remove(steps.path(index, layer: layer.index))
      if let unplanned = backend.memory.unplanned { throw unplanned }
      report(
        .layerFinished(
          folder: checkpoints[index].folder, layer: layer.index, layers: spec.layers.count,
          seconds: clock.seconds))
    }
  }

  private func check(_ model: Int, _ tally: PositionTally, _ score: PositionScore) throws {
    let outlooks = [(model, tally.model), (options.models.count, tally.reference)]
    for (index, outlook) in outlooks where index < checkpoints.count && !outlook.isFinite {
      let checkpoint = checkpoints[index]
      if checkpoint.fp8 != nil,
        let number = checkpoint.weights.firstNonFinite(in: checkpoint.spec.claims)
      {
        throw QuantizeError(number)
      }
      throw EvaluationError.nonFinite(
        folder: checkpoints[index].folder, sequence: score.sequence, position: score.seen)
    }
  }
}
