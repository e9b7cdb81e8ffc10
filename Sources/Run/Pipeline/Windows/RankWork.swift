// What a process does of a window of layers: states of some blocks of tokens, and tasks.

internal import Calibration
internal import CompressedTensors
internal import Glibc
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Safetensors
internal import ScratchStore
internal import SystemIO
internal import Tensors
internal import Transformer

/// The work of one rank, and all that it needs for it.
final class RankWork {
  let plan: QuantizePlan
  let folder: OutputFolder
  let scratch: String
  let backend: Backend
  /// Seconds that a file of another rank may take to be seen.
  let patience: Int
  private let weights: any SourceWeights
  private let writer: ShardWriter
  private let scales: ShardWriter
  private let source: () -> SourceChecksums
  private let meter: any StepMeter
  private let interruption: Interruption
  private let report: (RunEvent) -> Void

  init(
    _ plan: QuantizePlan, folder: OutputFolder, scratch: String, backend: Backend,
    weights: any SourceWeights, writer: ShardWriter, scales: ShardWriter,
    source: @escaping () -> SourceChecksums, meter: any StepMeter, patience: Int,
    interruption: Interruption,
    report: @escaping (RunEvent) -> Void
  ) {
    self.plan = plan
    self.folder = folder
    self.scratch = scratch
    self.backend = backend
    self.weights = weights
    self.writer = writer
    self.scales = scales
    self.source = source
    self.meter = meter
    self.patience = patience
    self.interruption = interruption
    self.report = report
  }

  private func inputs(_ stage: Stage, pieces: [String: Int]) -> (StepInputs, TaskResults) {
    let results = TaskResults(
      folder, [writer, scales], meter: meter, interruption: interruption, report: report)
    let states = StateFiles(
      folder: scratch, type: plan.stateType, blocks: plan.blocks, hidden: plan.spec.hiddenSize,
      backend: backend, pieces: { pieces }, patience: patience,
      resumption: { Resumption() }, grew: {})
    let inputs = StepInputs(
      spec: plan.spec, output: plan.output, stage: stage, trials: plan.trials,
      options: plan.options, blocks: plan.blocks, passes: plan.run.passes,
      calibratedLayers: plan.run.calibratedLayers, backend: backend, weights: weights,
      states: states, results: results, checkpoint: plan.checkpoint, writer: writer,
      scales: scales)
    return (inputs, results)
  }

  // MARK: States

  /// The blocks of a rank: consecutive ones, with about as many tokens as those of the others.
  static func share(of blocks: [TokenBlock], rank: Int, of count: Int) -> Range<Int> {
    let all = blocks.reduce(0) { $0 + $1.count }
    func end(_ rank: Int) -> Int {
      var (tokens, index) = (0, 0)
      while index < blocks.count, tokens * count < all * rank {
        tokens += blocks[index].count
        index += 1
      }
      return index
    }
    return end(rank)..<end(rank + 1)
  }

  /// The states behind a part of a layer, of one rank's blocks.
  ///
  /// - Parameter pieces: of the states that the part reads.
  /// - Returns: what was written, by file name: nothing where there are no blocks.
  func makeStates(
    _ part: LayerPart, rank: Int, of count: Int, pieces: [String: Int]
  ) throws -> [String: Int] {
    let share = Self.share(of: plan.blocks, rank: rank, of: count)
    let layer = plan.spec.layers[part.layer]
    var written: [String: Int] = [:]
    if !share.isEmpty {
      let own = try ownScratch(rank)
      defer { if own != scratch { try? FileSystem.remove(own) } }
      var (inputs, _) = inputs(.states, pieces: pieces)
      inputs.blocks = Array(plan.blocks[share])
      inputs.states = inputs.states.piece(from: share.lowerBound, inputs.blocks, own: own)
      meter.begin(.attend)
      try Attend(inputs: inputs, layer: layer, part: part).run(from: 0)
      if let branch = part.tokens {
        meter.begin(.advance)
        try Advance(inputs: inputs, layer: layer, part: part, branch: branch).run(from: 0)
      }
      for kind in [StateKind.attended, .routing] {
        let name = StateFiles.name(kind, part)
        try FileSystem.remove(
          "\(own)/\(StatePiece(first: share.lowerBound, of: name).fileName)")
      }
      let next =
        part.index + 1 < layer.parts.count
        ? StateFiles.name(.hidden, layer: part.layer, part: part.index + 1)
        : StateFiles.name(.hidden, layer: part.layer + 1, part: 0)
      let name = StatePiece(first: share.lowerBound, of: next).fileName
      written[name] = try FileSystem.fileSize("\(scratch)/\(name)")
    }
    let read = plan.sourceReads.namesOfStates(behind: part)
    try source().check(
      read.indices.filter { $0 % count == rank }.map { read[$0] }, of: plan, backend: backend)
    weights.releaseAll()
    return written
  }

  /// A new folder of this process, where one was named for that.
  private func ownScratch(_ rank: Int) throws -> String {
    guard let local = plan.options.localScratch else { return scratch }
    let result = "\(folder.scratchFolder(in: local))-\(rank)"
    // A process that was killed leaves its own behind.
    try FileSystem.remove(result)
    try FileSystem.createFolder(result)
    return result
  }

  // MARK: Tasks

  /// Asks for tasks and does them until all are done.
  func performAll(asking ask: ([UInt8]) throws -> [UInt8], pieces: [String: Int]) throws {
    var finished: [UInt8] = []
    while true {
      if interruption.isRequested { throw Interrupted(output: folder.path) }
      let answer = try ask(finished)
      finished = []
      if answer.isEmpty { return }
      guard let task = TaskDealer.task(answer) else {
        usleep(50_000)
        continue
      }
      try perform(task, pieces: pieces)
      finished = answer
    }
  }

  private func perform(_ task: WindowTask, pieces: [String: Int]) throws {
    let clock = Clock()
    let layer = plan.spec.layers[task.layer]
    let part = layer.parts[task.part]
    let (inputs, results) = inputs(.rounding, pieces: pieces)
    func check(_ from: RunPosition, _ next: RunPosition) throws {
      try source().check(
        plan.tensorsRead(from: from, until: next), of: plan, backend: backend)
    }
    func experts(_ unit: Int) -> RunPosition {
      .experts(layer: task.layer, part: task.part, unit: unit, end: unit, block: 0)
    }
    var isLast = part.tokens == nil
    switch task.work {
    case .attend:
      meter.begin(.attend)
      try Attend(inputs: inputs, layer: layer, part: part).run(from: 0)
      try check(.attend(layer: task.layer, part: task.part, block: 0), experts(0))
    case .units(let units):
      meter.begin(.experts)
      guard let branch = part.tokens else { break }
      let step = Experts(inputs: inputs, layer: layer, part: part, branch: branch)
      var shared = SharedRounding()
      for group in ranges(of: units.count, by: plan.run.unitsPerGroup) {
        let first = units.lowerBound + group.lowerBound
        let group = first..<first + group.count
        try step.run(group, from: 0, shared: &shared)
      }
      try check(experts(units.lowerBound), experts(units.upperBound))
    case .proof:
      meter.begin(.advance)
      guard let branch = part.tokens else { break }
      try Advance(inputs: inputs, layer: layer, part: part, branch: branch).prove()
      try check(.advance(layer: task.layer, part: task.part, block: 0), .finish)
      isLast = true
    }
    weights.releaseAll()
    try results.finish(task, seconds: clock.seconds)
    if isLast { try removeScratch(of: part) }
  }

  /// What tasks of a part leave to each other.
  private func removeScratch(of part: LayerPart) throws {
    let names =
      [StateKind.attended, .routing].map { StateFiles.name($0, part) }
      + (part.tokens?.mixer.inputPlaces ?? []).map { StateFiles.inputName(part, at: $0) }
    for name in names { try FileSystem.remove("\(scratch)/\(name)") }
  }
}
