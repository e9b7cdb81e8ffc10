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
  package static func factor(_ a: Matrix, workers: Workers) -> Bool {
    precondition(a.rows == a.columns, "a factor of \(a.rows) x \(a.columns)")
    let n = a.rows
    let work = Matrix(rows: 2 * (block + 1), columns: block)
    let negative = Matrix(rows: block, columns: block)
    let panel = workers.matrix("panel of a factor", rows: n, columns: min(block, n))
    workers.ledger.note(
      Operation(.factor, [n], arithmetic: Double(n) * Double(n) * Double(n) / 3))
    // What is left of the last block's rows: the most.
    let most = max(0, (n - 1) / block * block)
    let product = TaskBuffer("tile of a factor", floats: min(tile, most) * min(tile, most))
    if !workers.computes {
      let strips = (most + tile - 1) / tile
      workers.forEach(strips * (strips + 1) / 2, each: [product]) { _ in }
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
      workers.forEach(strips.count) { index in
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
      workers.forEach(tiles.count, each: [product]) { index in
        let (rows, columns) = tiles[index]
        unsafe subtract(
          panel.base + rows.lowerBound * count, panel.base + columns.lowerBound * count, count,
          rows, columns, from: a, memory: workers.memory)
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

  // MARK: Solving

  /// Rows that one task solves for.
  private static let solvedRows = 64

  /// x = x (R Rᵀ)⁻¹ for every row of x `[m, n]`.
  ///
  /// - Parameters:
  ///   - r: as `factor` left it.
  ///   - order: the column of x that stands at each place of R.
  package static func solve(_ r: Matrix, for x: Matrix, by order: [UInt32], workers: Workers) {
    let n = r.rows
    precondition(x.columns == n, "\(x.columns) columns solved with a factor of \(n)")
    let inverses = workers.matrix("panel of a factor", rows: n, columns: min(block, n))
    let strips = ranges(of: x.rows, by: solvedRows)
    let rows = min(solvedRows, x.rows)
    let each = [n, block].map { TaskBuffer("rows being solved for", floats: rows * $0) }
    workers.ledger.note(.product(x.rows, n, n, isExact: true))
    let blocks = ranges(of: n, by: block)
    workers.forEach(blocks.count) { index in
      let (start, count) = (blocks[index].lowerBound, blocks[index].count)
      let work = Matrix(rows: 2 * block, columns: block)
      unsafe sluice_invert_upper(
        r.row(start) + start, count, n, inverses.row(start),
        UnsafeMutableRawPointer(work.base).assumingMemoryBound(to: Double.self))
    }
    workers.forEach(strips.count, each: each) { index in
      let strip = strips[index]
      let solved = Matrix(
        "rows being solved for", rows: strip.count, columns: n, from: workers.memory)
      let part = Matrix(
        "rows being solved for", rows: strip.count, columns: block, from: workers.memory)
      for (row, from) in strip.enumerated() {
        for (place, column) in order.enumerated() {
          unsafe solved.row(row)[place] = x.row(from)[Int(column)]
        }
      }
      // y Rᵀ = x from the last block to the first, then x R = y from the first to the last.
      for rows in blocks.reversed() {
        unsafe step(
          rows, beside: rows.upperBound..<n, r.row(rows.lowerBound) + rows.upperBound, r, inverses,
          transposed: true, solved, part)
      }
      for rows in blocks {
        unsafe step(
          rows, beside: 0..<rows.lowerBound, r.base + rows.lowerBound, r, inverses,
          transposed: false, solved, part)
      }
      for (row, to) in strip.enumerated() {
        for (place, column) in order.enumerated() {
          unsafe x.row(to)[Int(column)] = solved.row(row)[place]
        }
      }
    }
  }

  /// Takes what is known already from some columns, and divides them by their block of R, or of its transpose.
  ///
  /// - Parameters:
  ///   - known: columns that are solved.
  ///   - coupling: the block of R between both.
  private static func step(
    _ columns: Range<Int>, beside known: Range<Int>, _ coupling: UnsafePointer<Float>, _ r: Matrix,
    _ inverses: Matrix, transposed: Bool, _ solved: Matrix, _ part: Matrix
  ) {
    let (n, count) = (r.columns, columns.count)
    let own = unsafe solved.base + columns.lowerBound
    if known.isEmpty {
      part.fill(0)
    } else {
      unsafe Gemm.product(
        transposeB: transposed, rows: solved.rows, columns: count, inner: known.count,
        a: solved.base + known.lowerBound, aStride: n, b: coupling, bStride: n, c: part.base,
        cStride: block)
    }
    for row in 0..<solved.rows {
      unsafe sluice_scale(part.row(row), -1, part.row(row), count)
      unsafe sluice_add_scaled(own + row * n, 1, part.row(row), count)
    }
    unsafe Gemm.product(
      transposeB: transposed, rows: solved.rows, columns: count, inner: count, a: part.base,
      aStride: block, b: inverses.row(columns.lowerBound), bStride: count, c: own, cStride: n)
  }
}
