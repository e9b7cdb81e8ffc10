// A checkpoint, plain or quantized, over token sequences, layer by layer: likelihood, and distance to a reference.

package import Calibration
internal import CompressedTensors
internal import Glibc
internal import LinearAlgebra
internal import Models
internal import Quantization
internal import ScratchStore
internal import SystemIO
internal import Tensors
internal import Transformer

package struct EvaluateOptions: Sendable {
  package var model: String
  package var reference: String?
  package var data: CalibrationSource
  package var memory: Int
  package var threads: Int
  /// A folder that this process may fill and remove again.
  package var scratch: String

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

package struct Divergence: Sendable, Equatable {
  /// Mean of KL(reference || model) over all positions, in nats.
  package let mean: Double
  package let median: Double
  package let percentile99: Double
  /// Share of positions with the same most likely token.
  package let agreement: Double
}

package struct Evaluation: Sendable, Equatable {
  package let tokens: Int
  /// Mean negative log-likelihood of each token given the ones before it, in nats.
  package let nll: Double
  package let referenceNLL: Double?
  package let divergence: Divergence?

  package var perplexity: Double { exp(nll) }
}

/// Two checkpoints that cannot be compared.
package struct OtherVocabulary: Error, CustomStringConvertible, Equatable {
  package let model: Int
  package let reference: Int
  package var description: String {
    "the model has \(model) tokens, the reference \(reference); compare checkpoints of one model"
  }
}

package struct EvaluateModel {
  private let options: EvaluateOptions
  private let workers: Workers
  private let model: Checkpoint
  private let reference: Checkpoint?
  private let blocks: [TokenBlock]
  private let progress: (String, Int, Int) -> Void

  /// Positions whose logits are held at a time.
  private static let logitRows = 64

  /// - Parameter progress: folder, layers done, layers.
  package init(_ options: EvaluateOptions, progress: @escaping (String, Int, Int) -> Void) throws {
    self.options = options
    self.progress = progress
    try Gemm.check()
    workers = Workers(threads: options.threads)
    model = try Checkpoint(folder: options.model)
    reference = try options.reference.map { try Checkpoint(folder: $0) }
    if let reference, reference.spec.vocabularySize != model.spec.vocabularySize {
      throw OtherVocabulary(
        model: model.spec.vocabularySize, reference: reference.spec.vocabularySize)
    }
    let data = try options.data.load(
      model: options.reference ?? options.model, vocabularySize: model.spec.vocabularySize)
    blocks = TokenBlock.cut(data.sequences)
  }

  package func run() throws -> Evaluation {
    try FileSystem.createFolder(options.scratch)
    defer { try? FileSystem.remove(options.scratch) }
    let states = try finalStates(of: model, name: "model")
    let referenceStates = try reference.map { try finalStates(of: $0, name: "reference") }
    return try compare(states, referenceStates)
  }

  /// The normed states that the head reads. Kept in float32: what is measured is the weights, not the storage.
  private func finalStates(of checkpoint: Checkpoint, name: String) throws -> HiddenStates {
    let (spec, weights) = (checkpoint.spec, checkpoint.weights)
    func path(_ layer: Int) -> String { "\(options.scratch)/\(name)-\(layer).zst" }
    func read(_ layer: Int) throws -> HiddenStates {
      try HiddenStates(
        path: path(layer), dtype: .f32, blocks: blocks, columns: spec.hiddenSize,
        workers: workers)
    }
    let embedded = try ScratchWriter(path: path(0), dtype: .f32)
    for block in blocks {
      try embedded.append(
        weights.embed(block.tokens, spec.embedding, columns: spec.hiddenSize, workers: workers),
        workers: workers)
    }
    let blockBytes = (blocks.map(\.count).max() ?? 0) * spec.hiddenSize * 4
    let blocksPerPass = max(1, (options.memory - 128 << 20) / max(1, 8 * blockBytes))
    for layer in spec.layers {
      progress(checkpoint.folder, layer.index, spec.layers.count)
      let states = try read(layer.index)
      let results = try ScratchWriter(path: path(layer.index + 1), dtype: .f32)
      for pass in ranges(of: blocks.count, by: blocksPerPass) {
        var attended: [Matrix] = []
        for index in pass {
          attended.append(
            layer.attend(
              try states.read(index), sequences: blocks[index].sequences, weights: weights,
              workers: workers))
        }
        layer.feedForward(attended, weights: weights, workers: workers) {
          weights.release($0.linears)
        }
        for block in attended {
          let isLast = layer.index + 1 == spec.layers.count
          try results.append(
            isLast ? spec.finalNorm.apply(to: block, weights: weights, workers: workers) : block,
            workers: workers)
        }
      }
      weights.discard(layer.linears)
      try FileSystem.remove(path(layer.index))
    }
    progress(checkpoint.folder, spec.layers.count, spec.layers.count)
    return try read(spec.layers.count)
  }

  private func compare(_ states: HiddenStates, _ referenceStates: HiddenStates?) throws
    -> Evaluation
  {
    var (nll, referenceNLL) = (0.0, 0.0)
    var predicted = 0
    var agreements = 0
    var divergences: [Double] = []
    for (index, block) in blocks.enumerated() {
      let x = try states.read(index)
      let y = try referenceStates?.read(index)
      let lastRows = Set(block.sequences.map { $0.upperBound - 1 })
      for rows in ranges(of: block.count, by: Self.logitRows) {
        let scores = logProbabilities(x, rows, model)
        let wanted = y.flatMap { y in reference.map { logProbabilities(y, rows, $0) } }
        for (offset, row) in rows.enumerated() {
          let got = unsafe UnsafeBufferPointer(start: scores.row(offset), count: scores.columns)
          if !lastRows.contains(row) {
            nll -= unsafe Double(got[Int(block.tokens[row + 1])])
            predicted += 1
          }
          guard let wanted else { continue }
          let want = unsafe UnsafeBufferPointer(start: wanted.row(offset), count: wanted.columns)
          if !lastRows.contains(row) {
            referenceNLL -= unsafe Double(want[Int(block.tokens[row + 1])])
          }
          var divergence = 0.0
          for token in want.indices {
            let (expected, found) = unsafe (Double(want[token]), Double(got[token]))
            divergence += exp(expected) * (expected - found)
          }
          divergences.append(divergence)
          if unsafe largest(want) == largest(got) { agreements += 1 }
        }
      }
    }
    divergences.sort()
    func percentile(_ share: Double) -> Double {
      divergences[max(0, Int(share * Double(divergences.count)) - 1)]
    }
    let count = Double(max(1, predicted))
    return Evaluation(
      tokens: blocks.reduce(0) { $0 + $1.count }, nll: nll / count,
      referenceNLL: reference == nil ? nil : referenceNLL / count,
      divergence: divergences.isEmpty
        ? nil
        : Divergence(
          mean: divergences.reduce(0, +) / Double(divergences.count), median: percentile(0.5),
          percentile99: percentile(0.99),
          agreement: Double(agreements) / Double(divergences.count)))
  }

  private func largest(_ values: UnsafeBufferPointer<Float>) -> Int {
    var best = 0
    for index in values.indices where unsafe values[index] > values[best] { best = index }
    return best
  }

  /// Log-softmax of the head over some rows, `[rows, vocabulary]`.
  private func logProbabilities(_ x: Matrix, _ rows: Range<Int>, _ checkpoint: Checkpoint) -> Matrix
  {
    let logits = Gemm.multiply(
      x.matrix(rows), by: checkpoint.weights.weight(checkpoint.spec.head), workers: workers)
    workers.forEach(logits.rows) { index in
      let row = unsafe logits.row(index)
      var highest = -Float.infinity
      for token in 0..<logits.columns { highest = unsafe max(highest, row[token]) }
      var sum = 0.0
      for token in 0..<logits.columns { sum += unsafe exp(Double(row[token] - highest)) }
      let shift = highest + Float(log(sum))
      for token in 0..<logits.columns { unsafe row[token] -= shift }
    }
    return logits
  }
}
