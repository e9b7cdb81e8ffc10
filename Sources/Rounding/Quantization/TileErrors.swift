// The rounding errors of a tile, as its products with R and G read them.

internal import CKernels
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

  /// c `[block, width]` = what the errors before a block of columns leave for it: the sum over k of R[k, column] d[k].
  func sums(before block: Range<Int>, under factor: GramFactor, into c: UnsafeMutablePointer<Float>)
  {
    switch (kept, factor.operands) {
    case (.packed(_, let all), .packed(let packed, _)):
      unsafe all.multiply(block, of: packed, terms: block.lowerBound, into: c)
    case (.floats(let errors), .tiled(let matrix)):
      unsafe matrix.multiply(
        block, terms: 0..<block.lowerBound, transposed: true, by: errors.base, columns: width,
        add: false, into: c)
    default: preconditionFailure("errors and factor in two engines")
    }
  }

  /// c `[group, width]` = d (G + λI) on the channels of a group.
  ///
  /// - Parameter refined: columns of the groups that the factor was made for.
  func correlations(
    of group: Range<Int>, refining refined: Int, under factor: GramFactor,
    into c: UnsafeMutablePointer<Float>
  ) {
    switch (kept, factor.operands) {
    case (.packed(_, let all), .packed(_, let gram)):
      unsafe all.multiply(group, of: gram, terms: factor.channels.count, into: c)
    case (.floats(let errors), .tiled(let matrix)):
      // G's rows left of the corner, the corner, G's columns below it.
      unsafe matrix.multiply(
        group, terms: 0..<group.lowerBound, transposed: false, by: errors.base, columns: width,
        add: false, into: c)
      unsafe sluice_multiply_tile(
        factor.corner(of: group, refining: refined), group.count, 1, nil, group.count, group.count,
        errors.row(group.lowerBound), width, group.lowerBound > 0 ? 1 : 0, c)
      unsafe matrix.multiply(
        group, terms: group.upperBound..<factor.channels.count, transposed: true, by: errors.base,
        columns: width, add: true, into: c)
    default: preconditionFailure("errors and factor in two engines")
    }
  }
}
