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
  /// Whether the rows lie in memory as bfloat16, exactly.
  var isBF16: Bool { get }
  /// Calls `body` with the start of the range, `range.count * columns` elements, any alignment. Only where `isBF16`.
  func withBF16(_ range: Range<Int>, _ body: (UnsafePointer<UInt16>) -> Void)
}

extension WeightRows {
  package var isBF16: Bool { false }

  package func withBF16(_ range: Range<Int>, _ body: (UnsafePointer<UInt16>) -> Void) {
    preconditionFailure("these rows are not stored as bf16")
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

  package func withBF16(_ range: Range<Int>, _ body: (UnsafePointer<UInt16>) -> Void) {
    let base = unsafe buffer.bytes.baseAddress!.assumingMemoryBound(to: UInt16.self)
    unsafe body(base + range.lowerBound * columns)
  }

  package func decode(_ range: Range<Int>, into result: UnsafeMutablePointer<Float>) {
    unsafe withBF16(range) { stored in
      unsafe DType.bf16.decode(stored, count: range.count * columns, into: result)
    }
  }
}
