// A square matrix that many products in bf16 begin with: packed once, read row by row.

internal import CKernels
internal import Tensors

/// A matrix A `[n, n]` in bf16, as the kernel of products.c reads it in rows: blocks of the depth, in each of them rows.
package struct PackedSquare: Sendable {
  package enum Shape: Sendable {
    case whole
    /// Nothing is kept above the diagonal's blocks of depth.
    case lower
  }

  private let n: Int
  private let shape: Shape
  private let buffer: Buffer
  private static let depth = Int(SLUICE_DEPTH)

  /// Contents are undefined until filled.
  package init(_ name: String, n: Int, _ shape: Shape, _ backend: Backend) {
    self.n = n
    self.shape = shape
    buffer = backend.buffer(name, byteCount: Self.byteCount(n: n, shape))
  }

  package static func byteCount(n: Int, _ shape: Shape) -> Int {
    offset(block: (n + depth - 1) / depth, n: n, shape) * 2
  }

  /// Elements before a block of the depth.
  private static func offset(block: Int, n: Int, _ shape: Shape) -> Int {
    let rows =
      switch shape {
      case .whole: block * n
      case .lower: block * n - depth * (block * (block - 1) / 2)
      }
    return rows * Int(SLUICE_ROW_STRIDE)
  }

  /// The first of the depth's terms of a row, in the block that `term` lies in.
  func row(_ row: Int, at term: Int) -> UnsafeMutablePointer<UInt16> {
    let block = term / Self.depth
    let first = shape == .lower ? block * Self.depth : 0
    precondition(row >= first && row < n, "row \(row) is not kept in block \(block)")
    let elements = unsafe buffer.bytes.baseAddress!.assumingMemoryBound(to: UInt16.self)
    return unsafe elements + Self.offset(block: block, n: n, shape)
      + (row - first) * Int(SLUICE_ROW_STRIDE) + term % Self.depth
  }

  /// Takes in A[rows, terms] from `a`, where its first element lies.
  ///
  /// - Parameters:
  ///   - terms: whole units of `PackedColumns`.
  ///   - transposed: whether rows of `a` are terms: A[row, term] lies at term * stride + row.
  package func fill(
    _ rows: Range<Int>, _ terms: Range<Int>, from a: UnsafePointer<Float>, stride: Int,
    transposed: Bool
  ) {
    for part in PackedColumns.parts(of: terms) {
      let offset = part.lowerBound - terms.lowerBound
      let to = unsafe row(rows.lowerBound, at: part.lowerBound)
      if transposed {
        unsafe sluice_pack_columns(a + offset * stride, rows.count, part.count, stride, to)
      } else {
        unsafe sluice_pack_rows(a + offset, rows.count, part.count, stride, to)
      }
    }
  }
}
