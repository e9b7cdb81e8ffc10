// The steps of an evaluation: every layer of one checkpoint after the other, and all heads over the vocabulary.

internal import Calibration
internal import CompressedTensors
internal import LinearAlgebra
internal import Models
internal import Planning
internal import Safetensors
internal import ScratchStore
internal import SystemIO
internal import Tensors
internal import Transformer

/// One checkpoint of an evaluation.
struct EvaluatedModel {
  let folder: String
  let spec: ModelSpec
  let weights: any SourceWeights
}

/// What the steps of an evaluation are made from. Where the backend computes nothing, they run on shapes.
struct EvaluationSteps {
  /// Those that are measured, then the reference where there is one.
  let models: [EvaluatedModel]
  let measured: Int
  let blocks: [TokenBlock]
  /// Blocks that go through a layer together.
  let layerBlocks: Int
  /// Blocks that meet the vocabulary together.
  let headBlocks: Int
  let backend: Backend
  let scratch: String
  /// Some work was done.
  let progress: () -> Void

  // MARK: Layers

  func path(_ checkpoint: Int, layer: Int) -> String {
    "\(scratch)/\(checkpoint)-\(layer).zst"
  }

  func states(_ checkpoint: Int, layer: Int) throws -> HiddenStates {
    try HiddenStates(
      path: path(checkpoint, layer: layer), dtype: .f32, blocks: blocks,
      columns: models[checkpoint].spec.columns(before: layer), backend: backend)
  }

  private func writer(_ index: Int, layer: Int) throws -> ScratchWriter {
    try backend.computes
      ? ScratchWriter(path: path(index, layer: layer), dtype: .f32) : ScratchWriter(ofShapes: .f32)
  }

  /// The states that the first layer reads. Kept in float32, as all of them: what is measured is the weights, not the
  /// storage.
  func embed(_ index: Int) throws {
    let (spec, weights) = (models[index].spec, models[index].weights)
    let embedded = try writer(index, layer: 0)
    try backend.forEach(of: blocks, alike: \.count) { block in
      try embedded.append(
        weights.embed(block.tokens, of: spec, backend: backend), backend: backend)
    }
  }

  /// One layer of one checkpoint; the last one's states are normed, as the head reads them.
  func advance(_ layer: LayerSpec, of index: Int) throws {
    let (spec, weights) = (models[index].spec, models[index].weights)
    let states = try states(index, layer: layer.index)
    let file = try writer(index, layer: layer.index + 1)
    let isLast = layer.index + 1 == spec.layers.count
    let passes = ranges(of: blocks.count, by: layerBlocks)
    try backend.forEach(of: passes, alike: { $0.map { blocks[$0].sequences } }) { pass in
      var results: [Matrix] = []
      for part in layer.parts {
        var read: [Matrix] = []
        for (place, block) in pass.enumerated() {
          // Read where it is used: before the first part, one block's states are in memory at a time.
          let x = part.index == 0 ? try states.read(block) : results.remove(at: place)
          if part.isParallel { read.append(x) }
          results.insert(mix(x, block, part, weights), at: place)
          progress()
        }
        if let mixer = part.sequence?.mixer { weights.release(mixer.linears) }
        part.tokens?.add(
          to: results, reading: part.isParallel ? read : nil, weights: weights, backend: backend
        ) {
          weights.release($0.linears)
          progress()
        }
      }
      for block in results {
        try file.append(
          isLast ? weights.finish(block, of: spec, backend: backend) : block, backend: backend)
      }
      progress()
    }
  }

  /// A block through a part's branch along the sequence, where it has one.
  private func mix(
    _ x: Matrix, _ block: Int, _ part: LayerPart, _ weights: any SourceWeights
  ) -> Matrix {
    part.sequence?.apply(
      to: x, sequences: blocks[block].sequences, weights: weights, backend: backend) ?? x
  }

  // MARK: Heads

  /// Every position's view of the next token, for each model: the vocabulary outside, blocks inside, so that a pass reads
  /// each head once.
  ///
  /// - Parameter check: sees every position of every model.
  func score(
    _ states: [HiddenStates],
    check: (_ model: Int, PositionTally, PositionScore) throws -> Void
  ) throws -> [[PositionScore]] {
    var scores = [[PositionScore]](repeating: [], count: measured)
    var sequence = 0
    let passes = ranges(of: blocks.count, by: headBlocks)
    try backend.forEach(of: passes, alike: { $0.map { blocks[$0].sequences } }) { pass in
      let held = try zip(states, models).map { reader, model in
        try pass.map { block in
          model.weights.read(try reader.read(block), by: model.spec.head, backend: backend)
        }
      }
      let tallies = tally(held, blocks[pass])
      if !backend.computes { return }
      for (place, block) in blocks[pass].enumerated() {
        for rows in block.sequences {
          for row in rows {
            for model in 0..<measured {
              let tally = tallies[model][place][row]
              let score = PositionScore(
                tally, sequence: sequence, seen: row - rows.lowerBound + 1,
                hasNext: row + 1 < rows.upperBound, hasReference: hasReference)
              scores[model].append(score)
              try check(model, tally, score)
            }
          }
          sequence += 1
        }
      }
    }
    return scores
  }

  private var hasReference: Bool { models.count > measured }

  /// - Parameter states: of each checkpoint, the blocks of a pass.
  /// - Returns: of each model, block and position.
  private func tally(
    _ states: [[Matrix]], _ blocks: ArraySlice<TokenBlock>
  ) -> [[[PositionTally]]] {
    let positions = blocks.reduce(0) { $0 + $1.count }
    let bytes = positions * measured * Self.tallyBytes
    return backend.holding("positions under way", bytes: bytes) {
      tally(states, blocks, positions)
    }
  }

  /// What is known of a position while the vocabulary goes by.
  private static let tallyBytes = 96

  private func tally(
    _ states: [[Matrix]], _ blocks: ArraySlice<TokenBlock>, _ positions: Int
  ) -> [[[PositionTally]]] {
    let none = blocks.map { [PositionTally](repeating: PositionTally(), count: $0.count) }
    var tallies = [[[PositionTally]]](repeating: none, count: measured)
    let following = blocks.map(\.following)
    let heads = models.map(\.spec.head)
    let vocabulary = models[0].spec.vocabularySize
    let parts = ranges(of: vocabulary, by: HeadTiles.vocabulary)
    backend.forEach(of: parts, alike: \.count) { tokens in
      let tiles = zip(models, heads).map { SomeRows($0.weights.weight($1), rows: tokens) }
      for block in none.indices {
        for rows in ranges(of: none[block].count, by: HeadTiles.positions) {
          let logits = zip(states, tiles).enumerated().map { index, each in
            let (states, tile) = each
            // Of shapes there are no numbers.
            let bias = models[index].weights.bias(models[index].spec.head)
              .map { backend.computes ? Array($0[tokens]) : $0 }
            let result = Gemm.multiply(
              slice(states[block], rows), by: tile, bias: bias, backend: backend, into: "logits")
            let scale = models[index].spec.logitScale
            if scale != 1 { result.multiply(by: scale, backend: backend) }
            if let cap = models[index].spec.logitCap {
              result.capSoftly(at: cap, backend: backend)
            }
            return result
          }
          backend.ledger.note(Operation(.elements, [logits.reduce(0) { $0 + $1.count }]))
          let reference = hasReference ? logits[measured] : nil
          for model in 0..<measured {
            add(
              logits[model], reference, of: tokens, to: &tallies[model][block], rows,
              next: following[block])
          }
        }
        progress()
      }
      for (model, head) in zip(models, heads) { model.weights.release([head]) }
    }
    return tallies
  }

  private func slice(_ block: Matrix, _ rows: Range<Int>) -> Matrix {
    if rows.count == block.rows { return block }
    let result = backend.matrix(
      "positions of a product", rows: rows.count, columns: block.columns)
    backend.compute { unsafe block.decode(rows, into: result.base) }
    return result
  }

  private func add(
    _ model: Matrix, _ reference: Matrix?, of tokens: Range<Int>,
    to tallies: inout [PositionTally], _ rows: Range<Int>, next: [Int?]
  ) {
    unsafe tallies.withUnsafeMutableBufferPointer { buffer in
      nonisolated(unsafe) let tallies = unsafe buffer
      backend.forEach(rows.count) { row in
        let position = rows.lowerBound + row
        unsafe tallies[position].add(
          model: model.row(row), reference: reference?.row(row), of: tokens, next: next[position])
      }
    }
  }
}

extension ModelSpec {
  /// Columns of the states in front of a layer, or, behind the last one, of what the head reads.
  func columns(before layer: Int) -> Int {
    layer < layers.count ? statesBefore(layer: layer) * hiddenSize : hiddenSize
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

  func noteReading(_ count: Int, tileRows: Int, backend: Backend) {
    base.noteReading(count, tileRows: tileRows, backend: backend)
  }

  func decode(_ rows: Range<Int>, into result: UnsafeMutablePointer<Float>) {
    unsafe base.decode(
      rows.lowerBound + range.lowerBound..<rows.upperBound + range.lowerBound, into: result)
  }
}
