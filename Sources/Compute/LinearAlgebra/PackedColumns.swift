// An operand of many products in bf16: packed once, changed a few rows at a time.

internal import CKernels
package import Tensors

/// A matrix X `[D, C]` in bf16, as the kernel of products.c reads it in vectors: blocks of the depth D, in each of them
/// panels of columns.
package struct PackedColumns: Sendable {
  /// Rows are filled and summed in multiples of this.
  package static let unit = 32

  private let depth: Int
  private let columns: Int
  private let buffer: Buffer
  private static let block = Int(SLUICE_DEPTH)

  /// Contents are undefined until filled.
  ///
  /// - Parameter columns: whole panels.
  package init(_ name: String, depth: Int, columns: Int, from memory: MemoryBudget) {
    precondition(
      depth % Self.unit == 0 && columns % Int(SLUICE_PANEL) == 0, "[\(depth), \(columns)] packed")
    self.depth = depth
    self.columns = columns
    buffer = Buffer(
      name, byteCount: Self.byteCount(depth: depth, columns: columns), from: memory)
  }

  package static func byteCount(depth: Int, columns: Int) -> Int {
    (depth + block - 1) / block * block * columns * 2
  }

  /// Takes in `rows` of X from `x` `[rows, C]`.
  package func fill(_ rows: Range<Int>, from x: UnsafePointer<Float>) {
    precondition(rows.upperBound <= depth, "rows \(rows) of \(depth)")
    for part in Self.parts(of: rows) {
      unsafe sluice_pack_column_panels(
        x + (part.lowerBound - rows.lowerBound) * columns, columns, part.count, columns,
        at(part.lowerBound))
    }
  }

  /// c `[rows, C]` = the sum over the first `terms` of A[row, k] X[k].
  package func multiply(
    _ rows: Range<Int>, of a: PackedSquare, terms: Int, into c: UnsafeMutablePointer<Float>
  ) {
    precondition(terms <= depth, "\(terms) terms of \(depth)")
    for part in Self.parts(of: 0..<terms) {
      unsafe sluice_multiply_packed(
        a.row(rows.lowerBound, at: part.lowerBound), at(part.lowerBound), rows.count, columns,
        part.count, part.lowerBound > 0 ? 1 : 0, c, columns)
    }
  }

  /// Cut where blocks of the depth meet.
  static func parts(of rows: Range<Int>) -> [Range<Int>] {
    precondition(
      rows.lowerBound % unit == 0 && rows.count % unit == 0, "rows \(rows) in units of \(unit)")
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
    let elements = unsafe buffer.bytes.baseAddress!.assumingMemoryBound(to: UInt16.self)
    return unsafe elements + row / Self.block * Self.block * columns
      + row % Self.block * Int(SLUICE_PANEL)
  }
}
