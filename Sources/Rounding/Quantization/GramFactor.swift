// The Gram matrix of a Linear's input, factored for error-compensated rounding.

internal import CKernels
package import LinearAlgebra
package import Tensors

/// Why a Gram matrix could not be factored, however much its diagonal was raised.
package struct NotPositiveDefinite: Error, Equatable {}

/// G + λI = R Rᵀ of some channels, in the order in which they are rounded: falling E[x²], so that those that matter most
/// have most others left to make up for them.
///
/// d (G + λI) dᵀ = |d R|² for the rounding errors d of a row. R takes the place that the inverse's factor has in the
/// paper: entry j of d R holds what is left of the error when column j has made up for the ones before.
/// Source: Frantar et al., GPTQ (arXiv:2210.17323); its order of columns and damping as in the authors' code.
package final class GramFactor: @unchecked Sendable {
  /// The channels of the activation that this factor is about.
  package let channels: Range<Int>
  /// The channel, from the first of `channels`, that is rounded at each place.
  let order: [UInt32]
  /// What errors are multiplied with.
  let operands: Operands
  /// The diagonal of G.
  let diagonal: [Float]
  /// For each number of columns that are refined together: the blocks of G + λI on its diagonal, one after the other; the
  /// last one may be smaller.
  private let corners: [Int: Matrix]
  /// `[n, block]`: the blocks of R on its diagonal.
  let pivots: Matrix
  /// λ, which is added to the diagonal of G.
  let lambda: Float
  /// What errors are multiplied with R and G in: bf16 rounds both by less than a code's step can tell.
  package let engine: Engine
  /// λ over the mean of the diagonal: what was asked for, or what it took.
  package let damping: Double

  enum Operands: Sendable {
    /// Rᵀ below its diagonal's blocks, and G + λI.
    case packed(factor: PackedSquare, gram: PackedSquare)
    /// `[n, n]`: above the diagonal and on it R, in `order`; below it G, in the order of the channels.
    case tiled(TiledSquare)
  }

  /// Columns that are rounded between two products.
  static let block = 128

  /// The most that is added, in means of the diagonal.
  private static let mostDamping = 1.0

  /// - Parameters:
  ///   - gram: xᵀ x / T, symmetric; it becomes part of this object.
  ///   - refining: columns that are refined together, of the weights that are rounded under it.
  ///   - damping: λ over the mean of the diagonal; ten times as much where that is too little.
  package convenience init(
    _ gram: consuming Matrix, channels: Range<Int>, refining sizes: Set<Int>, damping: Double,
    backend: Backend
  ) throws(NotPositiveDefinite) {
    let n = gram.rows
    precondition(
      gram.columns == n && channels.count == n && !sizes.isEmpty && sizes.allSatisfy { $0 > 0 },
      "another Gram")
    if !backend.computes {
      self.init(ofShape: gram, channels: channels, refining: sizes, damping, backend)
      return
    }
    let diagonal = (0..<n).map { unsafe gram.base[$0 * n + $0] }
    let mean = diagonal.reduce(0.0) { $0 + Double($1) } / Double(n)
    guard mean > 0, mean.isFinite else { throw NotPositiveDefinite() }
    let order = diagonal.indices.sorted {
      diagonal[$0] != diagonal[$1] ? diagonal[$0] > diagonal[$1] : $0 < $1
    }.map { UInt32($0) }
    var share = damping
    while true {
      Self.arrange(gram, by: order, diagonal: diagonal, lambda: Float(share * mean), backend)
      if UpperFactor.factor(gram, backend: backend) { break }
      share *= 10
      if share > Self.mostDamping { throw NotPositiveDefinite() }
    }
    let lambda = Float(share * mean)
    self.init(
      factored: gram, channels: channels, order: order, diagonal: diagonal,
      corners: Self.corners(gram, diagonal, sizes, lambda: lambda, backend),
      lambda: lambda, damping: share, backend)
  }

  /// What a factor takes, where there are no numbers.
  private convenience init(
    ofShape gram: consuming Matrix, channels: Range<Int>, refining sizes: Set<Int>,
    _ damping: Double, _ backend: Backend
  ) {
    _ = UpperFactor.factor(gram, backend: backend)
    self.init(
      factored: gram, channels: channels, order: [], diagonal: [],
      corners: Self.corners(gram, [], sizes, lambda: 0, backend), lambda: 0,
      damping: damping, backend)
  }

  private static func corners(
    _ gram: Matrix, _ diagonal: [Float], _ asked: Set<Int>, lambda: Float, _ backend: Backend
  ) -> [Int: Matrix] {
    // A Gram matrix is packed by units; groups may be smaller.
    let unit = PackedColumns.unit
    let sizes = (asked.contains { $0 % unit == 0 } ? asked : asked.union([unit])).sorted()
    let matrices = sizes.map {
      corners(gram, diagonal, refining: $0, lambda: lambda, backend)
    }
    return Dictionary(uniqueKeysWithValues: zip(sizes, matrices))
  }

  private init(
    factored gram: consuming Matrix, channels: Range<Int>, order: [UInt32], diagonal: [Float],
    corners: [Int: Matrix], lambda: Float, damping: Double, _ backend: Backend
  ) {
    self.corners = corners
    pivots = Self.pivots(gram, backend)
    operands =
      switch backend.engine {
      case .bf16:
        Self.packed(
          gram,
          corners.filter { $0.key % PackedColumns.unit == 0 }.sorted { $0.key < $1.key }[0].value,
          backend)
      case .f32: .tiled(TiledSquare(gram, backend: backend))
      }
    self.channels = channels
    self.order = order
    self.diagonal = diagonal
    self.lambda = lambda
    engine = backend.engine
    self.damping = damping
  }

  /// Writes G + λI in `order` on and above the diagonal, from what stands below it.
  private static func arrange(
    _ gram: Matrix, by order: [UInt32], diagonal: [Float], lambda: Float, _ backend: Backend
  ) {
    let n = gram.rows
    let parts = ranges(of: n, by: 64)
    backend.forEach(parts.count) { index in
      for row in parts[index] {
        let first = Int(order[row])
        let to = unsafe gram.row(row)
        unsafe to[row] = diagonal[first] + lambda
        for column in row + 1..<max(n, row + 1) {
          let second = Int(order[column])
          unsafe to[column] = gram.base[max(first, second) * n + min(first, second)]
        }
      }
    }
  }

  /// The most columns that are refined together.
  var refinedColumns: Int { corners.keys.max() ?? 0 }

  /// `[part, part]`: the block of G + λI of some columns.
  ///
  /// - Parameters:
  ///   - part: what `ranges` cuts the channels into.
  ///   - size: columns that are refined together, of which the factor was made with.
  func corner(of part: Range<Int>, refining size: Int) -> UnsafeMutablePointer<Float> {
    guard let matrix = corners[size] else {
      preconditionFailure("a factor that refines no \(size) columns")
    }
    return unsafe matrix.row(part.lowerBound)
  }

  private static func corners(
    _ gram: Matrix, _ diagonal: [Float], refining size: Int, lambda: Float, _ backend: Backend
  ) -> Matrix {
    let result = backend.matrix("corners of a factor", rows: gram.rows, columns: size)
    if !backend.computes { return result }
    for part in ranges(of: gram.rows, by: size) {
      for row in part {
        let to = unsafe result.row(part.lowerBound) + (row - part.lowerBound) * part.count
        for (column, other) in part.enumerated() {
          unsafe to[column] =
            other == row
            ? diagonal[row] + lambda : gram.row(max(row, other))[min(row, other)]
        }
      }
    }
    return result
  }
}

extension GramFactor {
  private static func pivots(_ gram: Matrix, _ backend: Backend) -> Matrix {
    let result = backend.matrix("pivots of a factor", rows: gram.rows, columns: block)
    if !backend.computes { return result }
    for rows in ranges(of: gram.rows, by: block) {
      for row in rows {
        unsafe result.row(row).update(from: gram.row(row) + rows.lowerBound, count: rows.count)
      }
    }
    return result
  }

  private static func packed(_ gram: Matrix, _ corners: Matrix, _ backend: Backend) -> Operands {
    let n = gram.rows
    let factor = PackedSquare("a factor, packed", n: n, .lower, backend)
    let blocks = ranges(of: n, by: block)
    backend.forEach(blocks.count) { index in
      let rows = blocks[index]
      unsafe factor.fill(
        rows, 0..<rows.lowerBound, from: gram.base + rows.lowerBound, stride: n, transposed: true)
    }
    let whole = PackedSquare("a Gram matrix, packed", n: n, .whole, backend)
    let groups = ranges(of: n, by: corners.columns)
    backend.forEach(groups.count) { index in
      let rows = groups[index]
      unsafe whole.fill(
        rows, 0..<rows.lowerBound, from: gram.row(rows.lowerBound), stride: n, transposed: false)
      unsafe whole.fill(
        rows, rows, from: corners.row(rows.lowerBound), stride: rows.count, transposed: false)
      if rows.upperBound < n {
        unsafe whole.fill(
          rows, rows.upperBound..<n, from: gram.row(rows.upperBound) + rows.lowerBound, stride: n,
          transposed: true)
      }
    }
    return .packed(factor: factor, gram: whole)
  }
}

/// The factors of all channels that a Linear reads; wide activations are cut.
package struct GramFactors: Sendable {
  package let parts: [GramFactor]

  package init(_ parts: [GramFactor]) { self.parts = parts }

  /// The mean square of each channel, `[in]`.
  var moments: [Float] { parts.flatMap(\.diagonal) }

  var engine: Engine { parts.first?.engine ?? .f32 }

  /// The largest share that had to be added to a diagonal.
  package var damping: Double { parts.map(\.damping).max() ?? 0 }
}
