// An operand of many products in bf16: packed once, changed a few rows at a time.

internal import CKernels
package import Tensors

/// A matrix X `[D, C]` in bf16, as the kernel of products.c reads it in vectors: blocks of the depth D, in each of them
/// panels of columns.
///
/// What it is multiplied with comes as float32 and is packed for each product, so that nothing of its size is held.
package struct PackedColumns: Sendable {
  /// Rows are filled and summed in multiples of this.
  package static let unit = 32
  /// Rows of a product, at most.
  package static let rows = 128

  private let depth: Int
  private let columns: Int
  private let buffer: Buffer
  private let work: Buffer

  /// Contents are undefined until filled.
  ///
  /// - Parameter columns: whole panels.
  package init(_ name: String, depth: Int, columns: Int, from memory: MemoryBudget) {
    precondition(
      depth % Self.unit == 0 && columns % Int(SLUICE_PANEL) == 0, "[\(depth), \(columns)] packed")
    self.depth = depth
    self.columns = columns
    let bytes = Self.byteCounts(depth: depth, columns: columns)
    buffer = Buffer(name, byteCount: bytes[0], from: memory)
    work = Buffer("packed factor", byteCount: bytes[1], from: memory)
  }

  /// Bytes by buffer.
  package static func byteCounts(depth: Int, columns: Int) -> [Int] {
    let block = Int(SLUICE_DEPTH)
    return [
      (depth + block - 1) / block * block * columns * 2, rows * Int(SLUICE_ROW_STRIDE) * 2,
    ]
  }

  /// Takes in `rows` of X from `x` `[rows, C]`.
  package func fill(_ rows: Range<Int>, from x: UnsafePointer<Float>) {
    for part in parts(of: rows) {
      unsafe sluice_pack_column_panels(
        x + (part.lowerBound - rows.lowerBound) * columns, columns, part.count, columns,
        at(part.lowerBound))
    }
  }

  /// c `[rows, C]` = the sum over k in `inner` of a[row, k] X[k], added to what is there where `adds`.
  ///
  /// - Parameters:
  ///   - a: row 0, and the first of `inner`.
  ///   - transposed: whether rows of `a` are those of the sum: a[row, k] lies at k * aStride + row.
  package func multiply(
    rows: Int, over inner: Range<Int>, a: UnsafePointer<Float>, aStride: Int, transposed: Bool,
    adds: Bool, into c: UnsafeMutablePointer<Float>
  ) {
    precondition(rows <= Self.rows, "\(rows) rows at a time")
    let packed = unsafe elements(work)
    for (index, part) in parts(of: inner).enumerated() {
      let offset = part.lowerBound - inner.lowerBound
      if transposed {
        unsafe sluice_pack_columns(a + offset * aStride, rows, part.count, aStride, packed)
      } else {
        unsafe sluice_pack_rows(a + offset, rows, part.count, aStride, packed)
      }
      unsafe sluice_multiply_packed(
        packed, at(part.lowerBound), rows, columns, part.count, adds || index > 0 ? 1 : 0, c,
        columns)
    }
  }

  /// Cut where blocks of the depth meet.
  private func parts(of rows: Range<Int>) -> [Range<Int>] {
    precondition(
      rows.lowerBound % Self.unit == 0 && rows.count % Self.unit == 0 && rows.upperBound <= depth,
      "rows \(rows) of \(depth)")
    let block = Int(SLUICE_DEPTH)
    var result: [Range<Int>] = []
    var start = rows.lowerBound
    while start < rows.upperBound {
      let end = min(rows.upperBound, (start / block + 1) * block)
      result.append(start..<end)
      start = end
    }
    return result
  }

  /// The first panel of a block, from a row of it on.
  private func at(_ row: Int) -> UnsafeMutablePointer<UInt16> {
    let block = Int(SLUICE_DEPTH)
    return unsafe elements(buffer) + row / block * block * columns
      + row % block * Int(SLUICE_PANEL)
  }

  private func elements(_ buffer: Buffer) -> UnsafeMutablePointer<UInt16> {
    unsafe buffer.bytes.baseAddress!.assumingMemoryBound(to: UInt16.self)
  }
}
