// The weights of a checkpoint by name, plain, FP8 or quantized, decoded from the mapping when a product needs them.

internal import CKernels
package import LinearAlgebra
package import Safetensors
internal import SystemIO
package import Tensors
package import Transformer

extension StoredTensor {
  /// Lets a tile go that was just decoded: what is mapped at a time is a tile for each thread, however large the
  /// weight. Small tiles stay until their Linear is released; giving them back costs more than they hold.
  func releaseTile(bytes: Range<Int>) {
    if bytes.count >= CheckpointWeights.releasedTile { release(bytes: bytes) }
  }

  /// Lets go of rows of a weight that were just read, or only of what the kernel mapped beside it where the weight is
  /// held.
  func letGo(rows range: Range<Int>, isHeld: Bool) {
    if isHeld {
      // Its neighbours may be no one's to hold, and there are as many as held weights.
      if range.lowerBound == 0 || range.upperBound == shape[0] { releaseAround() }
      return
    }
    let rowBytes = shape[1] * dtype.byteWidth
    releaseTile(bytes: range.lowerBound * rowBytes..<range.upperBound * rowBytes)
  }
}

/// A mapped bf16, f16 or f32 weight.
package struct StoredWeight: WeightRows {
  package let tensor: StoredTensor
  /// Whether what was decoded stays mapped, for the next time.
  private let isHeld: Bool

  package init(_ tensor: StoredTensor, isHeld: Bool = false) {
    precondition(tensor.shape.count == 2 && tensor.dtype.isWeight, "\(tensor.name) is no weight")
    self.tensor = tensor
    self.isHeld = isHeld
  }

  package var rows: Int { tensor.shape[0] }
  package var columns: Int { tensor.shape[1] }

  package func decode(_ range: Range<Int>, into result: UnsafeMutablePointer<Float>) {
    let rowBytes = columns * tensor.dtype.byteWidth
    unsafe tensor.withBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      unsafe tensor.dtype.decode(
        base + range.lowerBound * rowBytes, count: range.count * columns, into: result)
    }
    tensor.letGo(rows: range, isHeld: isHeld)
  }

  package var isBF16: Bool { tensor.dtype == .bf16 }

  package func withBF16(
    _ range: Range<Int>, columns part: Range<Int>,
    _ body: (UnsafePointer<UInt16>, _ stride: Int) -> Void
  ) {
    precondition(isBF16, "\(tensor.name) is \(tensor.dtype)")
    unsafe tensor.withBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      let first = range.lowerBound * columns + part.lowerBound
      unsafe body((base + first * 2).assumingMemoryBound(to: UInt16.self), columns)
    }
    if part.upperBound == columns { tensor.letGo(rows: range, isHeld: isHeld) }
  }
}

/// All weights of an opened checkpoint.
package struct CheckpointWeights: LayerWeights {
  /// Tiles of this many bytes are let go of at once.
  package static let releasedTile = 256 << 10

  private let model: ShardedModel
  private let schemes: LinearSchemes?
  private let fp8: FP8Format?
  private var isHeld = false

  /// The model's tensors must have been checked against its description.
  ///
  /// - Parameters:
  ///   - schemes: of Linears that are quantized as config.json says.
  ///   - fp8: of FP8 weights.
  package init(_ model: ShardedModel, schemes: LinearSchemes?, fp8: FP8Format? = nil) {
    self.model = model
    self.schemes = schemes
    self.fp8 = fp8
  }

  /// These weights; what is read of them stays mapped until it is released by name.
  package var held: CheckpointWeights {
    var result = self
    result.isHeld = true
    return result
  }

  package func tensor(_ name: String) -> StoredTensor {
    guard let tensor = model[name] else {
      preconditionFailure("\(name) was not checked when the checkpoint was opened")
    }
    return tensor
  }

  package func vector(_ name: String) -> [Float] {
    let tensor = tensor(name)
    let count = tensor.byteCount / tensor.dtype.byteWidth
    return unsafe tensor.withBytes { bytes in
      unsafe [Float](unsafeUninitializedCapacity: count) { result, initialized in
        if let from = bytes.baseAddress, let to = result.baseAddress {
          unsafe tensor.dtype.decode(from, count: count, into: to)
        }
        initialized = count
      }
    }
  }

  package func weight(_ linear: LinearSpec) -> any WeightRows {
    codedWeight(linear) ?? rows(of: tensor(linear.weight))
  }

  /// nil for a weight that is not quantized as config.json says.
  package func codedWeight(_ linear: LinearSpec) -> (any CodedWeight)? {
    schemes?.stored(linear)?.codec.decode { model[$0] }
  }

  /// The numbers of a stored weight, whether they are scaled or not.
  package func rows(of tensor: StoredTensor) -> any WeightRows {
    guard let fp8, let module = tensor.fp8Module else {
      return StoredWeight(tensor, isHeld: isHeld)
    }
    return FP8Weight(
      tensor, scales: self.tensor(fp8.scales(of: module)), format: fp8, isHeld: isHeld)
  }

  /// The scale of one number of a stored weight, where it is FP8: in which tensor, and where.
  func scale(
    of tensor: StoredTensor, row: Int, column: Int
  ) -> (tensor: StoredTensor, row: Int, column: Int)? {
    guard let fp8, let module = tensor.fp8Module else { return nil }
    let block = fp8.block(of: tensor.shape)
    return (self.tensor(fp8.scales(of: module)), row / block.rows, column / block.columns)
  }

  /// Bytes of a Linear's weight, scales included.
  package func byteCount(_ linear: LinearSpec) -> Int {
    storedTensors(linear).reduce(0) { $0 + $1.byteCount }
  }

  /// Bytes of one number of a Linear's weight, without scales.
  package func byteWidth(_ linear: LinearSpec) -> Int { tensor(linear.weight).dtype.byteWidth }

  /// The rows of an embedding, `[tokens, columns]`. Read, not mapped: a row here and there would map their neighbours.
  package func embed(
    _ tokens: [Int32], _ name: String, columns: Int, workers: Workers
  ) throws -> Matrix {
    let tensor = tensor(name)
    let result = workers.matrix("hidden states of a block", rows: tokens.count, columns: columns)
    let bytes = columns * tensor.dtype.byteWidth
    let row = Buffer("an embedding", byteCount: bytes, from: workers.memory)
    for (index, token) in tokens.enumerated() {
      try unsafe tensor.read(bytes: Int(token) * bytes..<(Int(token) + 1) * bytes, into: row.bytes)
      unsafe tensor.dtype.decode(row.bytes.baseAddress!, count: columns, into: result.row(index))
    }
    return result
  }

  /// A tensor, and the scales that its numbers are multiplied by, where it is FP8.
  package func stored(_ name: String) -> [StoredTensor] {
    let tensor = tensor(name)
    guard let fp8, let module = tensor.fp8Module else { return [tensor] }
    return [tensor, self.tensor(fp8.scales(of: module))]
  }

  /// Lets the memory of a Linear go that was read to its end, unless these weights are held.
  package func letGo(_ linear: LinearSpec) { if !isHeld { release([linear]) } }

  /// Lets the memory of some Linears go; they are read again when they are needed again.
  package func release(_ linears: [LinearSpec]) {
    for tensor in linears.flatMap(storedTensors) { tensor.release() }
  }

  /// Lets the memory of a stored weight go, and that of the scales beside it.
  package func release(weight tensor: StoredTensor) {
    tensor.release()
    if let fp8, let module = tensor.fp8Module { model[fp8.scales(of: module)]?.release() }
  }

  /// Lets memory and page cache go of Linears that will not be needed again.
  package func discard(_ linears: [LinearSpec]) {
    for tensor in linears.flatMap(storedTensors) { tensor.discard() }
  }

  /// Lets go of every page that is mapped of the model: also those of norms and biases, and their neighbours.
  package func releaseAll() {
    for file in model.files {
      if let mapped = file.tensors.first?.file { mapped.release(0..<mapped.byteCount) }
    }
  }

  private func storedTensors(_ linear: LinearSpec) -> [StoredTensor] {
    CompressionFormats.weightParts.compactMap { model[linear.name + $0.suffix] }
  }
}
