// A square matrix in float32 that many products with few columns begin with.

internal import CKernels
package import Tensors

/// A matrix `[n, n]` in tiles that fit the nearest cache, each in one piece of memory. Read as it is: a library packs it anew
/// for every product, which takes as long as a product with 64 columns does.
///
/// Tile (i, j) has rows 64 i and columns 64 j on. Tiles of the same rows lie one after the other.
package struct TiledSquare: Sendable {
  private let n: Int
  private let matrix: Matrix
  private static let tile = Int(SLUICE_TILE)

  /// Takes a matrix, which is put in order where it lies.
  package init(_ matrix: consuming Matrix, backend: Backend) {
    precondition(matrix.rows == matrix.columns, "\(matrix.rows) x \(matrix.columns) in tiles")
    n = matrix.rows
    self.matrix = matrix
    let (n, whole) = (n, self.matrix)
    let strips = ranges(of: n, by: Self.tile)
    let name = "rows of tiles"
    backend.ledger.note(Operation(.elements, [n * n]))
    backend.forEach(
      strips.count, each: [TaskBuffer(name, floats: min(Self.tile, n) * n)]
    ) { index in
      let rows = strips[index]
      let strip = Matrix(name, rows: rows.count, columns: n, from: backend.memory)
      let first = unsafe whole.row(rows.lowerBound)
      unsafe strip.base.update(from: first, count: strip.count)
      for columns in strips {
        let to = unsafe first + rows.count * columns.lowerBound
        for row in 0..<rows.count {
          unsafe (to + row * columns.count).update(
            from: strip.row(row) + columns.lowerBound, count: columns.count)
        }
      }
    }
  }

  /// c `[rows, columns]` = the sum over some terms of A[row, term] b[term], or c += it.
  ///
  /// - Parameters:
  ///   - transposed: whether A[term, row] is meant.
  ///   - b: `[n, columns]`, of which `terms` are read.
  ///   - columns: a multiple of 16.
  package func multiply(
    _ rows: Range<Int>, terms: Range<Int>, transposed: Bool, by b: UnsafePointer<Float>,
    columns: Int, add: Bool, into c: UnsafeMutablePointer<Float>
  ) {
    let parts = Self.parts(of: rows)
    let tiles = Self.parts(of: terms).flatMap { some in parts.map { (some, $0) } }
    for (index, (some, part)) in tiles.enumerated() {
      let (a, stride) = unsafe element(part, some, transposed)
      let next =
        index + 1 < tiles.count
        ? unsafe element(tiles[index + 1].1, tiles[index + 1].0, transposed).0 : nil
      let adds = add || some.lowerBound > terms.lowerBound
      unsafe sluice_multiply_tile(
        a, transposed ? 1 : stride, transposed ? stride : 1, next, part.count, some.count,
        b + some.lowerBound * columns, columns, adds ? 1 : 0,
        c + (part.lowerBound - rows.lowerBound) * columns)
    }
  }

  /// Where the first element of some rows and terms lies, and the numbers between it and the one below.
  private func element(
    _ rows: Range<Int>, _ terms: Range<Int>, _ transposed: Bool
  ) -> (UnsafePointer<Float>, stride: Int) {
    let row = transposed ? terms.lowerBound : rows.lowerBound
    let column = transposed ? rows.lowerBound : terms.lowerBound
    let (first, left) = (row / Self.tile * Self.tile, column / Self.tile * Self.tile)
    let (height, width) = (min(Self.tile, n - first), min(Self.tile, n - left))
    let place = first * n + height * left + (row - first) * width + column - left
    return unsafe (UnsafePointer(matrix.base + place), width)
  }

  /// Cut where tiles meet.
  private static func parts(of range: Range<Int>) -> [Range<Int>] {
    var result: [Range<Int>] = []
    var start = range.lowerBound
    while start < range.upperBound {
      let end = min(range.upperBound, (start / tile + 1) * tile)
      result.append(start..<end)
      start = end
    }
    return result
  }
}
