// What must be known of a whole weight before its first rows are rounded: scales that rows share, and the largest weight.

internal import CKernels
package import LinearAlgebra
internal import Tensors

/// What one pass over a weight finds. It depends on no tile, thread or memory: magnitudes have one maximum.
package struct WholeWeight: Sendable, Equatable {
  /// What scales of two levels are divided by; 1 for others.
  package var globalScale: Float = 1
  /// `[blocks of rows, groups]`; empty where each row has its own.
  package var scales: [Float] = []
  /// The largest magnitude of what the Linear reads, where that is quantized with a stored scale.
  package private(set) var largestInput: Float = 0

  /// Of a weight whose rows can be rounded one by one.
  package static let unneeded = WholeWeight()

  /// This weight, of a Linear that reads numbers up to `largest`.
  package func reading(_ largest: Float) -> WholeWeight {
    var result = self
    result.largestInput = largest
    return result
  }

  /// The global scale with which the largest weight gets the largest scale and the largest number.
  ///
  /// Source: compressed-tensors 0.20 `generate_gparam`.
  package static func globalScale(largest: Float) -> Float {
    // PyTorch divides a number by a tensor so, with two roundings.
    let scale = 1 / max(largest, .leastNormalMagnitude) * (448 * 6)
    return scale.isFinite ? scale : 1
  }
}

extension WeightQuantizer {
  /// Rows that one task looks at; a function of the shape alone.
  private static let rowsAtATime = 64

  /// What rounding must know of `weight`.
  ///
  /// - Parameter largest: the largest weight of this and of all that are loaded as one with it; nil for this alone.
  /// - Throws: `NonFiniteWeight` at the first NaN or infinity.
  package func whole(
    _ weight: any WeightRows, largest: Float? = nil, backend: Backend
  ) throws(NonFiniteWeight) -> WholeWeight {
    var result = WholeWeight()
    if needsLargest {
      var found = largest
      if found == nil { found = try magnitudes(weight, backend).max() }
      result.globalScale = WholeWeight.globalScale(largest: found ?? 0)
    } else if sharesScales {
      let largest = try magnitudes(weight, backend)
      var scales = [Float](repeating: 0, count: largest.count)
      var zeroPoints = scales
      var each = kernel()
      each.group = 1
      unsafe sluice_group_ranges(largest, largest.count, each, &scales, &zeroPoints)
      result.scales = scales
    }
    return result
  }

  /// The largest magnitude in a weight.
  package func largest(
    of weight: any WeightRows, backend: Backend
  ) throws(NonFiniteWeight) -> Float {
    try magnitudes(weight, backend).max() ?? 0
  }

  /// The largest magnitudes, `[blocks of rows, groups]`.
  private func magnitudes(
    _ weight: any WeightRows, _ backend: Backend
  ) throws(NonFiniteWeight) -> [Float] {
    let groups = groups(of: weight.columns)
    let blocks = rowsTogether == 1 ? 1 : (weight.rows - 1) / rowsTogether + 1
    let parts = try backend.mapTiles(of: weight, by: Self.rowsAtATime) { rows, first in
      var largest: [Int: [Float]] = [:]
      for row in 0..<rows.rows {
        let block = blocks == 1 ? 0 : (first + row) / rowsTogether
        unsafe sluice_group_magnitudes(
          rows.row(row), rows.columns, groupSize,
          &largest[block, default: [Float](repeating: 0, count: groups)])
      }
      return largest
    }
    var result = [Float](repeating: 0, count: blocks * groups)
    for part in parts {
      for (block, largest) in part {
        for group in 0..<groups {
          result[block * groups + group] = max(result[block * groups + group], largest[group])
        }
      }
    }
    return result
  }
}

extension WholeWeight {
  /// The scales of one row; nil where it finds its own.
  func scales(ofRow row: Int, _ quantizer: WeightQuantizer, columns: Int) -> [Float]? {
    if scales.isEmpty { return nil }
    let groups = quantizer.groups(of: columns)
    let first = row / quantizer.rowsTogether * groups
    return Array(scales[first..<first + groups])
  }
}
