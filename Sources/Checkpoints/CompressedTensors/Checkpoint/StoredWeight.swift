// The rows of a mapped bf16, f16 or f32 weight, and what is let go of behind a reader of rows.

package import LinearAlgebra
package import Safetensors
internal import Tensors

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

  package func noteReading(_ count: Int, tileRows: Int, backend: Backend) {
    WeightPages(
      key: WeightPages.key(ofTensor: tensor.name), bytes: tensor.byteCount, rows: rows,
      tileBytes: { $0 * columns * tensor.dtype.byteWidth }, isHeld: isHeld
    ).noteReading(count, tileRows: tileRows, backend: backend)
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
