// The factorisation A = R Rᵀ of a symmetric positive definite matrix, R upper triangular: Cholesky from the last row up.

internal import CKernels
package import Tensors

package enum UpperFactor {
  /// Rows that are factored at a time; what is left of the matrix is brought up to date after each.
  private static let block = 128
  private static let tile = 256

  /// Replaces the upper triangle of `a` `[n, n]`, diagonal included, by R. What lies below it is neither read nor
  /// written.
  ///
  /// Right-looking, with the same operations in the same order for any number of threads.
  /// - Returns: false, with the upper triangle undefined, where the matrix is not positive definite.
  package static func factor(_ a: Matrix, backend: Backend) -> Bool {
    precondition(a.rows == a.columns, "a factor of \(a.rows) x \(a.columns)")
    let n = a.rows
    let work = Matrix(rows: 2 * (block + 1), columns: block)
    let negative = Matrix(rows: block, columns: block)
    let panel = backend.matrix("panel of a factor", rows: n, columns: min(block, n))
    backend.ledger.note(
      Operation(.factor, [n], arithmetic: Double(n) * Double(n) * Double(n) / 3))
    // What is left of the last block's rows: the most.
    let most = max(0, (n - 1) / block * block)
    let product = TaskBuffer("tile of a factor", floats: min(tile, most) * min(tile, most))
    if !backend.computes {
      let strips = (most + tile - 1) / tile
      backend.forEach(strips * (strips + 1) / 2, each: [product]) { _ in }
      return true
    }
    for rows in ranges(of: n, by: block).reversed() {
      let (start, count) = (rows.lowerBound, rows.count)
      let doubles = unsafe UnsafeMutableRawPointer(work.base).assumingMemoryBound(to: Double.self)
      let corner = unsafe a.base + start * n + start
      if unsafe sluice_factor_upper(corner, count, n, doubles) == 0 { return false }
      unsafe sluice_invert_upper(corner, count, n, negative.base, doubles)
      unsafe sluice_scale(negative.base, -1, negative.base, count * count)
      let strips = ranges(of: start, by: tile)
      // panel = -A[above, rows] R[rows, rows]⁻ᵀ, and A[above, rows] its opposite.
      backend.forEach(strips.count) { index in
        let strip = strips[index]
        let above = unsafe a.base + strip.lowerBound * n + start
        unsafe Gemm.product(
          transposeB: true, rows: strip.count, columns: count, inner: count, a: above, aStride: n,
          b: negative.base, bStride: count, c: panel.base + strip.lowerBound * count,
          cStride: count)
        for row in strip {
          unsafe sluice_scale(
            panel.base + row * count, -1, a.base + row * n + start, count)
        }
      }
      let tiles = strips.indices.flatMap { row in
        (row..<strips.count).map { (strips[row], strips[$0]) }
      }
      backend.forEach(tiles.count, each: [product]) { index in
        let (rows, columns) = tiles[index]
        unsafe subtract(
          panel.base + rows.lowerBound * count, panel.base + columns.lowerBound * count, count,
          rows, columns, from: a, memory: backend.memory)
      }
    }
    return true
  }

  /// a[rows, columns] -= p qᵀ, on and above the diagonal; p and q are both negative panels of `inner` columns.
  private static func subtract(
    _ p: UnsafePointer<Float>, _ q: UnsafePointer<Float>, _ inner: Int, _ rows: Range<Int>,
    _ columns: Range<Int>, from a: Matrix, memory: MemoryBudget
  ) {
    let product = Matrix("tile of a factor", rows: rows.count, columns: columns.count, from: memory)
    unsafe Gemm.product(
      transposeB: true, rows: rows.count, columns: columns.count, inner: inner, a: p,
      aStride: inner, b: q, bStride: inner, c: product.base, cStride: columns.count)
    for (offset, row) in rows.enumerated() {
      let first = max(row, columns.lowerBound)
      unsafe sluice_add_scaled(
        product.row(offset) + (first - columns.lowerBound), -1, a.row(row) + first,
        columns.upperBound - first)
    }
  }
}
