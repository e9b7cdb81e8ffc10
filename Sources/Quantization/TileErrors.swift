// The rounding errors of a tile, as its products with R and G read them.

internal import LinearAlgebra
internal import Tensors

/// Errors d `[n, width]` of a tile that is held by columns, in the engine of its factor.
///
/// While columns are rounded block by block they lie in the order of the factor; once they are taken over, in the order
/// of the channels.
final class TileErrors {
  private enum Kept {
    /// Only what was made last, `[block, width]`, and all of them in bf16.
    case packed(latest: Matrix, PackedColumns)
    case floats(Matrix)
  }

  private let width: Int
  private var kept: Kept

  init(_ n: Int, width: Int, block: Int, _ engine: Engine, from memory: MemoryBudget) {
    self.width = width
    let name = "rows being rounded"
    switch engine {
    case .bf16:
      kept = .packed(
        latest: Matrix(name, rows: block, columns: width, from: memory),
        PackedColumns(name, depth: n, columns: width, from: memory))
    case .f32: kept = .floats(Matrix(name, rows: n, columns: width, from: memory))
    }
  }

  /// Where the errors of a block are to be written, before they are kept.
  func place(of block: Range<Int>) -> UnsafeMutablePointer<Float> {
    switch kept {
    case .packed(let latest, _): unsafe latest.base
    case .floats(let errors): unsafe errors.row(block.lowerBound)
    }
  }

  func keep(_ block: Range<Int>) {
    if case .packed(let latest, let all) = kept { unsafe all.fill(block, from: latest.base) }
  }

  /// All errors, `[n, width]`, which may change from now on.
  func takeOver(_ errors: Matrix) {
    switch kept {
    case .packed(_, let all): unsafe all.fill(0..<errors.rows, from: errors.base)
    case .floats: kept = .floats(errors)
    }
  }

  func change(_ columns: Range<Int>, to errors: UnsafePointer<Float>) {
    if case .packed(_, let all) = kept { unsafe all.fill(columns, from: errors) }
  }

  /// c `[rows, width]` = the sum over k in `inner` of a[row, k] d[k], added to what is there where `adds`.
  ///
  /// - Parameter transposed: whether a[row, k] lies at k * aStride + row, counted from the first of `inner`.
  func product(
    rows: Int, over inner: Range<Int>, a: UnsafePointer<Float>, aStride: Int, transposed: Bool,
    adds: Bool, into c: UnsafeMutablePointer<Float>
  ) {
    switch kept {
    case .packed(_, let all):
      unsafe all.multiply(
        rows: rows, over: inner, a: a, aStride: aStride, transposed: transposed, adds: adds, into: c
      )
    case .floats(let errors):
      unsafe Gemm.product(
        transposeA: transposed, rows: rows, columns: width, inner: inner.count, a: a,
        aStride: aStride, b: errors.row(inner.lowerBound), bStride: width, add: adds, c: c,
        cStride: width)
    }
  }
}
