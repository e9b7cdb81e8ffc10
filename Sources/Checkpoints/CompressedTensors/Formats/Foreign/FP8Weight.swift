// The rows of a mapped FP8 weight and its scales, as a source holds them.

internal import CKernels
package import LinearAlgebra
package import Safetensors
internal import Tensors

/// A mapped FP8 weight: W[r, c] = e4m3(code[r, c]) * scale[r / block rows, c / block columns], in float32.
///
/// Rounding, searches and `evaluate` take W as it is. Products in bf16 take it rounded to bf16, as the weights' makers do
/// for readers without FP8: at most 2^-9 of a number whose FP8 code is off by up to 2^-4, and exactly nothing where
/// scales are powers of two.
/// Source: DeepSeek-V3 (arXiv:2412.19437, section 3.3); `fp8_cast_bf16.py` of deepseek-ai/DeepSeek-V3.
package struct FP8Weight: WeightRows {
  private let weight: StoredTensor
  private let scales: StoredTensor
  private let block: (rows: Int, columns: Int)
  /// Whether what was decoded stays mapped, for the next time.
  private let isHeld: Bool

  /// - Parameter scales: of one of `format.scaleShapes`.
  package init(
    _ weight: StoredTensor, scales: StoredTensor, format: FP8Format, isHeld: Bool = false
  ) {
    precondition(
      weight.dtype == .f8E4M3 && weight.shape.count == 2, "\(weight.name) is no FP8 weight")
    precondition(
      scales.dtype.isScale && format.scaleShapes(of: weight.shape).contains(scales.shape),
      "\(scales.name) was not checked when the checkpoint was opened")
    self.weight = weight
    self.scales = scales
    block = format.block(of: weight.shape)
    self.isHeld = isHeld
  }

  package var rows: Int { weight.shape[0] }
  package var columns: Int { weight.shape[1] }

  package func decode(_ range: Range<Int>, into result: UnsafeMutablePointer<Float>) {
    unsafe forEachRow(of: range) { index, codes, scales in
      unsafe sluice_e4m3_to_f32(
        codes, scales, 0, block.columns, columns, result + index * columns)
    }
    weight.letGo(rows: range, isHeld: isHeld)
  }

  package func noteReading(_ count: Int, tileRows: Int, backend: Backend) {
    WeightPages(
      key: WeightPages.key(ofTensor: weight.name),
      bytes: weight.byteCount + scales.byteCount, rows: rows,
      tileBytes: { $0 * columns }, isHeld: isHeld
    ).noteReading(count, tileRows: tileRows, backend: backend)
  }

  package var isBF16: Bool { true }

  package func withBF16(
    _ range: Range<Int>, columns part: Range<Int>,
    _ body: (UnsafePointer<UInt16>, _ stride: Int) -> Void
  ) {
    unsafe withUnsafeTemporaryAllocation(
      of: UInt16.self, capacity: range.count * part.count
    ) { tile in
      guard let base = tile.baseAddress else { return }
      unsafe forEachRow(of: range) { index, codes, scales in
        unsafe sluice_e4m3_to_bf16(
          codes + part.lowerBound, scales, part.lowerBound, block.columns, part.count,
          base + index * part.count)
      }
      unsafe body(base, part.count)
    }
    if part.upperBound == columns { weight.letGo(rows: range, isHeld: isHeld) }
  }

  /// Calls `body` with the codes of each row and the scales of its blocks.
  private func forEachRow(
    of range: Range<Int>,
    _ body: (_ index: Int, UnsafePointer<UInt8>, UnsafePointer<Float>) -> Void
  ) {
    let blocks = (columns + block.columns - 1) / block.columns
    unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: blocks) { row in
      unsafe weight.withBytes { codes in
        guard let base = codes.baseAddress, let decoded = row.baseAddress else { return }
        var strip = -1
        for (index, number) in range.enumerated() {
          if number / block.rows != strip {
            strip = number / block.rows
            unsafe decodeScales(of: strip, count: blocks, into: decoded)
          }
          unsafe body(
            index, (base + number * columns).assumingMemoryBound(to: UInt8.self), decoded)
        }
      }
    }
  }

  private func decodeScales(
    of strip: Int, count: Int, into result: UnsafeMutablePointer<Float>
  ) {
    unsafe scales.withBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      unsafe scales.dtype.decode(
        base + strip * count * scales.dtype.byteWidth, count: count, into: result)
    }
  }
}
