// What the steps of a run ask of the weights of its source: those of files that are there, or of shapes alone.

package import LinearAlgebra
package import Models
internal import Quantization
internal import Safetensors
package import Tensors
package import Transformer

/// The weights of a source, with what a step needs beside their numbers.
package protocol SourceWeights: LayerWeights {
  /// Whether what is read stays mapped until it is released by name.
  var isHeld: Bool { get set }
  /// Whether Linears read what an inference engine makes of their inputs.
  var isServed: Bool { get set }
  /// The type of a tensor as it is stored.
  func dtype(of tensor: String) -> DType
  /// How many dimensions a tensor has.
  func rank(of tensor: String) -> Int
  /// Whether a parameter's numbers lie one after the other, as in a tensor of its own.
  func isInOnePiece(_ tensor: String) -> Bool
  /// The numbers of a tensor `[rows, columns]`.
  func rows(ofTensor name: String) -> any WeightRows
  /// Lets the memory of a Linear go that was read to its end, unless these weights are held.
  func letGo(_ linear: LinearSpec)
  /// Lets the memory of some Linears go; they are read again when they are needed again.
  func release(_ linears: [LinearSpec])
  /// Lets the memory of a tensor `[rows, columns]` go, and of the scales beside it.
  func release(tensor name: String)
  /// Lets the memory of Linears go that will not be needed again.
  func discard(_ linears: [LinearSpec])
  /// Lets go of every page that is mapped.
  func releaseAll()
  /// The rows of an embedding, `[tokens, columns]`.
  func embed(
    _ tokens: [Int32], _ name: String, columns: Int, backend: Backend
  ) throws -> Matrix
}

extension SourceWeights {
  /// These weights; what is read of them stays mapped until it is released by name.
  package var held: Self {
    var result = self
    result.isHeld = true
    return result
  }

  /// These weights; their Linears read what an inference engine makes of their inputs.
  package var served: Self {
    var result = self
    result.isServed = true
    return result
  }

  /// What the first layer of a model reads, `[tokens, H]`.
  package func embed(_ tokens: [Int32], of spec: ModelSpec, backend: Backend) throws -> Matrix {
    let result = try embed(
      tokens, spec.embedding, columns: spec.hiddenSize, backend: backend)
    if spec.embeddingScale != 1 { result.multiply(by: spec.embeddingScale, backend: backend) }
    return result
  }

  /// What the head of a model reads of the states behind its last layer, `[tokens, H]`.
  package func finish(_ states: Matrix, of spec: ModelSpec, backend: Backend) -> Matrix {
    spec.finalNorm.apply(
      to: spec.exit?.read(states, weights: self, backend: backend) ?? states, weights: self,
      backend: backend)
  }
}

/// The pages of a Linear's weight, for the ledger.
struct WeightPages: Sendable {
  /// What they are let go of by.
  let key: String
  /// All of them, scales and what lies between its numbers included.
  let bytes: Int
  let rows: Int
  /// Bytes from the first number of some rows to the last; nil where every row spans all of it.
  let tileBytes: @Sendable (Int) -> Int?
  /// Whether they stay mapped when they were read.
  let isHeld: Bool

  static let name = "mapped weights"

  /// The Linear whose weight a tensor is.
  static func key(ofTensor name: String) -> String { String(name.dropLast(".weight".count)) }

  /// Small tiles stay mapped until their Linear is released; of larger ones there is one for each thread at a time.
  func noteReading(_ count: Int, tileRows: Int, backend: Backend) {
    let ledger = backend.ledger
    let bytes = count == rows ? self.bytes : self.bytes / max(1, rows) * count
    ledger.read(key, bytes)
    guard let tile = tileBytes(tileRows).map({ min(bytes, $0) }), !isHeld,
      tile >= CheckpointWeights.releasedTile
    else {
      ledger.map(key, bytes, as: Self.name)
      return
    }
    let most = min(bytes, backend.threads * tile)
    ledger.take(Self.name, most, from: .mapped)
    ledger.giveBack(Self.name, most, to: .mapped)
  }
}

/// Rows here and there of a mapped embedding.
enum EmbeddingRows {
  /// Rows after which their pages are let go of.
  static let together = 32
  /// What the kernel maps around a row of codes, and around its scales.
  private static let around = 2 * (64 << 10)

  /// Writes down the most that is mapped at a time.
  static func noteMapping(of bytes: Int, rowBytes: Int, _ ledger: Ledger) {
    let most = min(bytes, together * (rowBytes + around))
    ledger.take(WeightPages.name, most, from: .mapped)
    ledger.giveBack(WeightPages.name, most, to: .mapped)
  }
}

/// The weights of shapes alone: what is done with them is written down, and nothing is computed.
package struct ShapeWeights: SourceWeights {
  private let source: CheckpointShapes
  private let ledger: Ledger
  package var isHeld = false
  package var isServed = false

  package init(_ source: CheckpointShapes, ledger: Ledger) {
    self.source = source
    self.ledger = ledger
  }

  package func vector(_ tensor: String) -> [Float] { [] }

  package func read(_ x: Matrix, by linear: LinearSpec, backend: Backend) -> Matrix {
    guard isServed, let activations = source.activations(linear) else { return x }
    return activations.rounded(x, backend: backend)
  }

  package func keep(
    _ x: Matrix, as part: KeyValueCache.Part, in cache: KeyValueCache, backend: Backend
  ) {
    guard isServed, let quantizer = source.cached(part, in: cache) else { return }
    quantizer.round(x, into: x, backend: backend)
  }

  package func weight(_ linear: LinearSpec) -> any WeightRows {
    ShapeRows(
      rows: linear.outputs, columns: linear.inputs, isBF16: source.isBF16(linear),
      pages: WeightPages(
        key: linear.name, bytes: source.mappedBytes([linear]), rows: linear.outputs,
        tileBytes: { source.tileBytes(linear, rows: $0) },
        isHeld: isHeld && !source.isCoded(linear.weight)))
  }

  package func dtype(of tensor: String) -> DType { source.tensor(tensor).dtype }

  package func rank(of tensor: String) -> Int { source.tensor(tensor).shape.count }

  package func rows(ofTensor name: String) -> any WeightRows {
    let tensor = source.tensor(name)
    return ShapeRows(
      rows: tensor.shape[0], columns: tensor.shape[1],
      isBF16: !source.isCoded(name) && tensor.dtype.unscaled == .bf16,
      pages: WeightPages(
        key: WeightPages.key(ofTensor: name), bytes: source.mappedBytes(name),
        rows: tensor.shape[0], tileBytes: { source.tileBytes(name, rows: $0) },
        isHeld: isHeld && !source.isCoded(name)))
  }

  package func letGo(_ linear: LinearSpec) { if !isHeld { release([linear]) } }

  package func isInOnePiece(_ tensor: String) -> Bool { source.isInOnePiece(tensor) }

  package func release(_ linears: [LinearSpec]) {
    for linear in linears { ledger.letGo(linear.name) }
  }

  package func release(tensor name: String) {
    ledger.letGo(WeightPages.key(ofTensor: name))
  }

  package func discard(_ linears: [LinearSpec]) { release(linears) }

  package func releaseAll() { ledger.letGoOfAll() }

  package func embed(
    _ tokens: [Int32], _ name: String, columns: Int, backend: Backend
  ) throws -> Matrix {
    if let pages = source.codedPages(name) {
      backend.ledger.note(.source, bytes: tokens.count * pages.rowBytes)
      EmbeddingRows.noteMapping(of: pages.bytes, rowBytes: pages.rowBytes, backend.ledger)
    } else {
      backend.ledger.note(
        .source, bytes: tokens.count * columns * source.tensor(name).dtype.byteWidth)
    }
    return backend.matrix("hidden states of a block", rows: tokens.count, columns: columns)
  }
}

/// The rows of a weight of which nothing is known but its shape.
private struct ShapeRows: WeightRows {
  let rows: Int
  let columns: Int
  let isBF16: Bool
  let pages: WeightPages

  func decode(_ range: Range<Int>, into result: UnsafeMutablePointer<Float>) {
    preconditionFailure("there are no numbers")
  }

  func noteReading(_ count: Int, tileRows: Int, backend: Backend) {
    pages.noteReading(count, tileRows: tileRows, backend: backend)
  }
}
