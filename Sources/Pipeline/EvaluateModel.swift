// A checkpoint, plain or quantized, over token sequences: every layer within a budget of memory, then the heads.

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
  package var model: String
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
    model: String, reference: String?, data: CalibrationSource, memory: Int, threads: Int,
    scratch: String
  ) {
    self.model = model
    self.reference = reference
    self.data = data
    self.memory = memory
    self.threads = threads
    self.scratch = scratch
  }
}

/// What stops an evaluation.
package enum EvaluationError: Error, CustomStringConvertible, Equatable {
  case otherVocabulary(model: Int, reference: Int)
  case nonFinite(folder: String, sequence: Int, position: Int)
  case noSpace(path: String, needed: Int, free: Int)
  case scratchChanged(ScratchError)

  package var description: String {
    switch self {
    case .otherVocabulary(let model, let reference):
      "the model has \(model) tokens, the reference \(reference); compare checkpoints of one model"
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
  let workers: Workers
  /// The model, then the reference where there is one.
  let checkpoints: [Checkpoint]
  let blocks: [TokenBlock]
  let plan: EvaluationPlan
  private let data: DataSummary
  /// Tokens that a token sees on average, as the plan has it.
  private let context: Double
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
    for folder in [options.model] + (options.reference.map { [$0] } ?? []) {
      try UnfinishedOutput.refuse(folder)
    }
    let room = RunPlan.checkpointRoom(budget: options.memory)
    func open(_ folder: String) throws -> Checkpoint {
      try Checkpoint(folder: folder, accepting: options.acceptedKeys, room: room)
    }
    let model = try open(options.model)
    let reference = try options.reference.map(open)
    let vocabulary = model.spec.vocabularySize
    if let reference, reference.spec.vocabularySize != vocabulary {
      throw EvaluationError.otherVocabulary(
        model: vocabulary, reference: reference.spec.vocabularySize)
    }
    try AcceptedKeyMissing.check(
      options.acceptedKeys, in: [model.config] + (reference.map { [$0.config] } ?? []),
      file: options.model + "/" + OutputFolder.config)
    let spelling = options.reference ?? options.model
    let checkpoints = [model] + (reference.map { [$0] } ?? [])
    let spelledBytes =
      try options.worst > 0 ? Tokenizer.memory(folder: spelling) : 0
    func work(_ blocks: [TokenBlock], longest: Int, loadingBytes: Int) -> EvaluationWorkload {
      EvaluationWorkload(
        checkpoints: checkpoints, blocks: blocks.map(\.count), longestSequence: longest,
        threads: options.threads, loadingBytes: loadingBytes, tokenizerBytes: spelledBytes)
    }
    let data = try options.data.load(
      model: spelling, vocabularySize: vocabulary,
      room: { bytes in
        try RunPlan.dataRoom(
          budget: options.memory, tensors: checkpoints.reduce(0) { $0 + $1.model.tensors.count },
          tokenizerBytes: bytes
        ) { loading in
          let blocks = TokenBlock.most(of: options.data.selection)
          let longest = blocks.first?.sequences.first?.count ?? 0
          return EvaluationPlan.smallestBudget(
            work(blocks, longest: longest, loadingBytes: loading))
        }
      })
    self.checkpoints = checkpoints
    self.data = DataSummary(data, of: options.data)
    blocks = TokenBlock.cut(data.sequences)
    context = Double(data.longest) / 2
    plan = try EvaluationPlan(
      work(blocks, longest: data.longest, loadingBytes: residentPeak()), budget: options.memory)
    workers = Workers(threads: options.threads, memory: MemoryBudget(limit: 0))
    memory = EvaluationWatch(workers.memory)
    progress = EvaluationProgressMeter(operations: plan.operations, report)
  }

  package func run() throws -> Evaluation {
    do {
      return try evaluate()
    } catch let error as ScratchError {
      throw EvaluationError.scratchChanged(error)
    }
  }

  private func evaluate() throws -> Evaluation {
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
    let states = try checkpoints.indices.map { try finalStates($0) }
    memory.begin(.head, plan)
    progress.step = .head
    let scores = try score(states)
    memory.begin(.text, plan)
    let result = try Evaluation(scores, of: self)
    report(.finished(memory.finish(plan)))
    return result
  }

  // MARK: Layers

  private func path(_ checkpoint: Int, layer: Int) -> String {
    "\(options.scratch)/\(checkpoint == 0 ? "model" : "reference")-\(layer).zst"
  }

  private func states(_ checkpoint: Int, layer: Int) throws -> HiddenStates {
    try HiddenStates(
      path: path(checkpoint, layer: layer), dtype: .f32, blocks: blocks,
      columns: checkpoints[checkpoint].spec.hiddenSize, workers: workers)
  }

  /// The normed states that the head reads. Kept in float32: what is measured is the weights, not the storage.
  private func finalStates(_ index: Int) throws -> HiddenStates {
    let (spec, weights) = (checkpoints[index].spec, checkpoints[index].weights)
    let embedded = try ScratchWriter(path: path(index, layer: 0), dtype: .f32)
    for block in blocks {
      try embedded.append(
        weights.embed(block.tokens, spec.embedding, columns: spec.hiddenSize, workers: workers),
        workers: workers)
    }
    for layer in spec.layers {
      let clock = Clock()
      progress.place = (checkpoints[index].folder, layer.index, spec.layers.count)
      try advance(layer, of: index)
      weights.discard(layer.linears)
      weights.releaseAll()
      try FileSystem.remove(path(index, layer: layer.index))
      report(
        .layerFinished(
          folder: checkpoints[index].folder, layer: layer.index, layers: spec.layers.count,
          seconds: clock.seconds))
    }
    return try states(index, layer: spec.layers.count)
  }

  private func advance(_ layer: LayerSpec, of index: Int) throws {
    let (spec, weights) = (checkpoints[index].spec, checkpoints[index].weights)
    let states = try states(index, layer: layer.index)
    let results = try ScratchWriter(path: path(index, layer: layer.index + 1), dtype: .f32)
    let isLast = layer.index + 1 == spec.layers.count
    for pass in ranges(of: blocks.count, by: plan.layerBlocks) {
      var attended: [Matrix] = []
      for block in pass {
        attended.append(
          layer.attend(
            try states.read(block), sequences: blocks[block].sequences, weights: weights,
            workers: workers))
        progress.add(
          tokens: blocks[block].count, operations: layer.attendOperations(context: context))
      }
      weights.release(layer.attention.linears)
      layer.feedForward(attended, weights: weights, workers: workers) {
        weights.release($0.linears)
      }
      for block in attended {
        try results.append(
          isLast ? spec.finalNorm.apply(to: block, weights: weights, workers: workers) : block,
          workers: workers)
        progress.add(tokens: block.rows, operations: layer.feedForwardOperations)
      }
    }
  }

  // MARK: Heads

  /// Every position's view of the next token: the vocabulary outside, blocks inside, so that a pass reads each head
  /// once.
  private func score(_ states: [HiddenStates]) throws -> [PositionScore] {
    var scores: [PositionScore] = []
    scores.reserveCapacity(plan.tokens)
    var sequence = 0
    for pass in ranges(of: blocks.count, by: plan.headBlocks) {
      let held = try states.map { reader in try pass.map { try reader.read($0) } }
      let tallies = tally(held, blocks[pass])
      for (block, tallies) in zip(blocks[pass], tallies) {
        for rows in block.sequences {
          for row in rows {
            scores.append(
              PositionScore(
                tallies[row], sequence: sequence, seen: row - rows.lowerBound + 1,
                hasNext: row + 1 < rows.upperBound, hasReference: states.count > 1))
            try check(tallies[row], scores[scores.count - 1])
          }
          sequence += 1
        }
      }
    }
    return scores
  }

  private func check(_ tally: PositionTally, _ score: PositionScore) throws {
    for (index, outlook) in [tally.model, tally.reference].prefix(checkpoints.count).enumerated()
    where !outlook.isFinite {
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

  /// - Parameter states: of each checkpoint, the blocks of a pass.
  private func tally(
    _ states: [[Matrix]], _ blocks: ArraySlice<TokenBlock>
  ) -> [[PositionTally]] {
    var tallies = blocks.map { [PositionTally](repeating: PositionTally(), count: $0.count) }
    let following = blocks.map(\.following)
    let heads = checkpoints.map(\.spec.head)
    let vocabulary = checkpoints[0].spec.vocabularySize
    for tokens in ranges(of: vocabulary, by: HeadTiles.vocabulary) {
      let tiles = zip(checkpoints, heads).map { SomeRows($0.weights.weight($1), rows: tokens) }
      for block in tallies.indices {
        for rows in ranges(of: tallies[block].count, by: HeadTiles.positions) {
          let logits = zip(states, tiles).map { states, tile in
            Gemm.multiply(
              slice(states[block], rows), by: tile, workers: workers, into: "logits")
          }
          add(logits, of: tokens, to: &tallies[block], rows, next: following[block])
        }
        progress.add(
          tokens: tallies[block].count,
          operations: heads.reduce(0) { $0 + $1.operations } * Double(tokens.count)
            / Double(vocabulary))
      }
      for (checkpoint, head) in zip(checkpoints, heads) { checkpoint.weights.release([head]) }
    }
    return tallies
  }

  private func slice(_ block: Matrix, _ rows: Range<Int>) -> Matrix {
    if rows.count == block.rows { return block }
    let result = workers.matrix(
      "positions of a product", rows: rows.count, columns: block.columns)
    unsafe block.decode(rows, into: result.base)
    return result
  }

  private func add(
    _ logits: [Matrix], of tokens: Range<Int>, to tallies: inout [PositionTally],
    _ rows: Range<Int>, next: [Int?]
  ) {
    let (model, reference) = (logits[0], logits.count > 1 ? logits[1] : nil)
    unsafe tallies.withUnsafeMutableBufferPointer { buffer in
      nonisolated(unsafe) let tallies = unsafe buffer
      workers.forEach(rows.count) { row in
        let position = rows.lowerBound + row
        unsafe tallies[position].add(
          model: model.row(row), reference: reference?.row(row), of: tokens, next: next[position])
      }
    }
  }
}

extension TokenBlock {
  /// For each position the token that follows, where there is one.
  fileprivate var following: [Int?] {
    var result = [Int?](repeating: nil, count: count)
    for rows in sequences {
      for row in rows.dropLast() { result[row] = Int(tokens[row + 1]) }
    }
    return result
  }
}

/// Some rows of a weight.
private struct SomeRows: WeightRows {
  private let base: any WeightRows
  private let range: Range<Int>

  init(_ base: any WeightRows, rows: Range<Int>) {
    self.base = base
    range = rows
  }

  var rows: Int { range.count }
  var columns: Int { base.columns }

  func decode(_ rows: Range<Int>, into result: UnsafeMutablePointer<Float>) {
    unsafe base.decode(
      rows.lowerBound + range.lowerBound..<rows.upperBound + range.lowerBound, into: result)
  }
}
