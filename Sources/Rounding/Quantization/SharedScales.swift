// What smoothing does where rows of a weight share a scale, or one above their own: what is small beside the largest weight
// is lost there, and the search must see it.

internal import CKernels
package import LinearAlgebra
internal import Tensors

/// The columns of weights that read one activation and share what stands above their scales.
package struct SharedColumns: Sendable, Equatable {
  /// The largest magnitude of each.
  package private(set) var largest: [Float]
  /// The sum of the squares of each.
  package private(set) var squares: [Double]

  /// Rows that one task adds up; a function of the shape alone.
  private static let taskRows = 512

  package init(columns: Int) {
    largest = [Float](repeating: 0, count: columns)
    squares = [Double](repeating: 0, count: columns)
  }

  package mutating func add(_ weight: any WeightRows, backend: Backend) {
    let tasks = ranges(of: weight.rows, by: Self.taskRows)
    let tileRows = SmoothingSearch.tileRows
    weight.noteReading(weight.rows, tileRows: tileRows, backend: backend)
    backend.ledger.note(Operation(.elements, [weight.rows * weight.columns]))
    let parts = backend.map(tasks.count, each: [SmoothingSearch.tile(of: weight)]) { index in
      var part = SharedColumns(columns: weight.columns)
      var absolute = part.squares
      for rows in ranges(of: tasks[index].count, by: tileRows) {
        let first = tasks[index].lowerBound
        let tile = weight.matrix(
          first + rows.lowerBound..<first + rows.upperBound, from: backend.memory)
        unsafe sluice_add_moments(
          tile.base, nil, tile.rows, tile.columns, tile.columns, &absolute, &part.squares)
        for row in 0..<tile.rows {
          unsafe sluice_group_magnitudes(tile.row(row), tile.columns, 1, &part.largest)
        }
      }
      return part
    }
    for part in parts { add(part) }
  }

  private mutating func add(_ other: SharedColumns) {
    for column in largest.indices {
      largest[column] = max(largest[column], other.largest[column])
      squares[column] += other.squares[column]
    }
  }

  /// The largest weight once the columns are multiplied.
  func largest(under scale: [Float]) -> Float { zip(largest, scale).map { $0 * $1 }.max() ?? 0 }
}

extension WholeWeight {
  /// A global scale without its fraction: where every scale is within reach of E4M3, it decides nothing.
  static func coarseGlobalScale(largest: Float) -> Float {
    Float(sign: .plus, exponent: globalScale(largest: largest).exponent, significand: 1)
  }
}

extension WeightQuantizer {
  /// Whether a row that is small beside others is lost: scales of two levels, and those that rows share.
  package var losesSmallRows: Bool { needsLargest || sharesScales }
}

/// The sizes of a row of a weight.
private struct RowSizes: Sendable {
  /// The largest magnitude.
  var largest: Float = 0
  /// That of the smallest group that is not zero.
  var leastGroup = Float.infinity
}

extension SmoothingSearch {
  /// The least scale that E4M3 holds with all its bits.
  private static let leastWholeScale: Float = 0x1p-6

  /// Adds what the scales do to the weight that makes the activation, and whose rows they divide: nothing, but where a row
  /// becomes too small for what it shares with others. Its relative error is then that of a channel of the activation.
  ///
  /// - Parameters:
  ///   - weight: as other smoothings leave it.
  ///   - largest: of all other weights that share what stands above its scales.
  ///   - readers: all weights that read the activation.
  package mutating func addLosses(
    ofProducer weight: any WeightRows, in quantizer: WeightQuantizer, beside largest: Float,
    readers: SharedColumns, backend: Backend
  ) throws(NonFiniteWeight) {
    let sizes = try sizes(of: weight, in: quantizer, backend)
    if sizes.isEmpty { return }
    let lossy = candidates.map { scale in
      LossyRows(sizes, under: scale, beside: largest, quantizer)
    }
    let affected = Set(lossy.flatMap(\.rows))
    if affected.isEmpty { return }
    let tiles = ranges(of: weight.rows, by: Self.tileRows).filter { tile in
      tile.contains(where: affected.contains)
    }
    let free = quantizer.kernel()
    let candidates = candidates
    let parts = backend.map(tiles.count, each: [Self.tile(of: weight)]) { index in
      let rows = weight.matrix(tiles[index], from: backend.memory)
      let ones = [Float](repeating: 1, count: rows.columns)
      var error = ones
      func square(_ values: UnsafePointer<Float>) -> Double {
        unsafe sluice_weighted_squares(values, ones, rows.columns)
      }
      /// For each candidate, the relative error that a row has for being small.
      return tiles[index].filter(affected.contains).map { row -> (row: Int, excess: [Double]) in
        let values = unsafe rows.row(row - tiles[index].lowerBound)
        let size = unsafe square(values)
        unsafe sluice_rounding_error(values, ones, ones, rows.columns, free, &error)
        let plain = unsafe square(error)
        let excess = candidates.indices.map { candidate -> Double in
          if !lossy[candidate].rows.contains(row) { return 0 }
          unsafe lossy[candidate].error(
            of: values, row, rows.columns, divisor: candidates[candidate][row], into: &error)
          // Squares of numbers that are as good as zero are zero.
          return unsafe size > 0 ? max(0, square(error) - plain) / size : 0
        }
        return (row, excess)
      }
    }
    for (row, excess) in parts.joined() {
      for (candidate, share) in excess.enumerated() {
        losses[candidate] += share * Double(meanSquare[row]) * readers.squares[row]
      }
    }
  }

  /// Of every row; none where only shapes are known.
  private func sizes(
    of weight: any WeightRows, in quantizer: WeightQuantizer, _ backend: Backend
  ) throws(NonFiniteWeight) -> [RowSizes] {
    let groups = quantizer.groups(of: weight.columns)
    return try backend.mapTiles(of: weight, by: Self.tileRows) { rows, _ in
      (0..<rows.rows).map { row in
        var magnitudes = [Float](repeating: 0, count: groups)
        unsafe sluice_group_magnitudes(
          rows.row(row), rows.columns, quantizer.groupSize, &magnitudes)
        return RowSizes(
          largest: magnitudes.max() ?? 0,
          leastGroup: magnitudes.filter { $0 > 0 }.min() ?? .infinity)
      }
    }.flatMap { $0 }
  }

  /// The rows of a weight that one candidate makes too small, and how they are rounded then.
  private struct LossyRows: Sendable {
    let rows: Set<Int>
    private let quantizer: WeightQuantizer
    /// For two levels; else 1.
    private let globalScale: Float
    /// Those that rows share, one for each block of rows; else empty.
    private let shared: [Float]

    init(
      _ sizes: [RowSizes], under divisors: [Float], beside largest: Float,
      _ quantizer: WeightQuantizer
    ) {
      self.quantizer = quantizer
      let highest = Float(quantizer.numbers.range.upperBound)
      let reached = zip(sizes, divisors).map { $0.largest / $1 }
      if quantizer.needsLargest {
        let globalScale = WholeWeight.coarseGlobalScale(
          largest: max(largest, reached.max() ?? 0))
        self.globalScale = globalScale
        shared = []
        rows = Set(
          sizes.indices.filter {
            sizes[$0].leastGroup / divisors[$0] / highest * globalScale < leastWholeScale
          })
        return
      }
      globalScale = 1
      let blocks = ranges(of: sizes.count, by: min(sizes.count, quantizer.rowsTogether))
      let scales = blocks.map { (reached[$0].max() ?? 0) / highest }
      shared = scales
      rows = Set(
        zip(blocks, scales).flatMap { block, scale in
          block.filter { sizes[$0].largest > 0 && reached[$0] < scale }
        })
    }

    /// The row as it is, rounded as it would be once it is divided.
    func error(
      of row: UnsafePointer<Float>, _ index: Int, _ columns: Int, divisor: Float,
      into error: inout [Float]
    ) {
      if shared.isEmpty {
        let ones = [Float](repeating: 1, count: columns)
        unsafe sluice_rounding_error(
          row, ones, ones, columns, quantizer.kernel(globalScale: globalScale / divisor), &error)
        return
      }
      let scale = shared[index / quantizer.rowsTogether] * divisor
      let groups = quantizer.groups(of: columns)
      var codes = [Int8](repeating: 0, count: columns)
      unsafe sluice_round_within(
        row, columns, quantizer.kernel(), [Float](repeating: scale, count: groups),
        [Float](repeating: 0, count: groups), &codes, &error)
    }
  }
}
