// What a matrix product asks of a weight: some rows, as float32, when it needs them.

package import Tensors

/// The weight of a Linear, `[rows, columns]` = `[out, in]`, decoded on demand.
///
/// A stored tensor, a packed quantized one and one with a smoothing scale folded in all look the same to a product,
/// and none of them is ever held whole in float32.
package protocol WeightRows: Sendable {
  var rows: Int { get }
  var columns: Int { get }
  /// Writes `range.count * columns` floats.
  func decode(_ range: Range<Int>, into result: UnsafeMutablePointer<Float>)
  /// Whether products in bfloat16 take the rows as such: they lie so in memory, or lost more before than that rounding
  /// takes (FP8).
  var isBF16: Bool { get }
  /// Calls `body` with the first of some columns of the range as bfloat16, any alignment, and the elements from row to
  /// row. Only where `isBF16`. Who reads a range reads its last columns last.
  func withBF16(
    _ range: Range<Int>, columns: Range<Int>, _ body: (UnsafePointer<UInt16>, _ stride: Int) -> Void
  )
  /// Writes down the pages that reading `count` rows maps, where they lie in a file: in tiles of `tileRows` rows, one for
  /// each thread at a time.
  func noteReading(_ count: Int, tileRows: Int, backend: Backend)
}

extension WeightRows {
  package var isBF16: Bool { false }

  package func noteReading(_ count: Int, tileRows: Int, backend: Backend) {}

  package func withBF16(
    _ range: Range<Int>, columns: Range<Int>, _ body: (UnsafePointer<UInt16>, _ stride: Int) -> Void
  ) {
    preconditionFailure("these rows are not for products in bf16")
  }

  package func matrix(_ range: Range<Int>, from budget: MemoryBudget = Matrix.unlimited) -> Matrix {
    let result = Matrix("weight tiles", rows: range.count, columns: columns, from: budget)
    unsafe decode(range, into: result.base)
    return result
  }
}

extension Matrix: WeightRows {
  package func decode(_ range: Range<Int>, into result: UnsafeMutablePointer<Float>) {
    unsafe result.update(from: base + range.lowerBound * columns, count: range.count * columns)
  }
}

/// Rows in memory, rounded to bfloat16.
package struct BF16Rows: WeightRows {
  package let rows: Int
  package let columns: Int
  private let buffer: Buffer

  package init(rounding matrix: Matrix) {
    (rows, columns) = (matrix.rows, matrix.columns)
    buffer = Buffer("weights", byteCount: 2 * matrix.count, from: Matrix.unlimited)
    unsafe DType.bf16.encode(matrix.base, count: matrix.count, into: buffer.bytes.baseAddress!)
  }

  package var isBF16: Bool { true }

  package func withBF16(
    _ range: Range<Int>, columns part: Range<Int>,
    _ body: (UnsafePointer<UInt16>, _ stride: Int) -> Void
  ) {
    let base = unsafe buffer.bytes.baseAddress!.assumingMemoryBound(to: UInt16.self)
    unsafe body(base + range.lowerBound * columns + part.lowerBound, columns)
  }

  package func decode(_ range: Range<Int>, into result: UnsafeMutablePointer<Float>) {
    unsafe withBF16(range, columns: 0..<columns) { stored, _ in
      unsafe DType.bf16.decode(stored, count: range.count * columns, into: result)
    }
  }
}
