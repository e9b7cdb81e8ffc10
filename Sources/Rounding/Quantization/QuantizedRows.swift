// Codes, scales and zero points for rows of a weight, and the ways of filling them that look at one row alone.

internal import CKernels
internal import Tensors

/// Some rows of a rounded weight, before packing.
package struct QuantizedRows: Sendable {
  package let rows: Int
  package let columns: Int
  /// Groups of a row.
  package let groups: Int
  /// `[rows, columns]`, of the quantizer's numbers.
  package internal(set) var codes: [Int8]
  /// `[rows, groups]`, already rounded to the type they are stored in.
  package internal(set) var scales: [Float]
  /// `[rows, groups]`; zero where numbers have none.
  package internal(set) var zeroPoints: [Int8]
  package internal(set) var errors = RoundingErrors()
  /// What scales of two levels are divided by.
  package let globalScale: Float

  init(rows: Int, columns: Int, groups: Int, globalScale: Float) {
    self.rows = rows
    self.columns = columns
    self.groups = groups
    self.globalScale = globalScale
    codes = [Int8](repeating: 0, count: rows * columns)
    scales = [Float](repeating: 0, count: rows * groups)
    zeroPoints = [Int8](repeating: 0, count: rows * groups)
  }

  /// To nearest, within the whole range of each group.
  mutating func round(
    _ row: Int, _ weights: UnsafePointer<Float>, by rounding: sluice_rounding
  ) {
    let (columns, groups) = (columns, groups)
    unsafe codes.withUnsafeMutableBufferPointer { codes in
      unsafe scales.withUnsafeMutableBufferPointer { scales in
        unsafe zeroPoints.withUnsafeMutableBufferPointer { zeroPoints in
          _ = unsafe sluice_quantize_row(
            weights, columns, rounding, codes.baseAddress! + row * columns,
            scales.baseAddress! + row * groups, zeroPoints.baseAddress! + row * groups)
        }
      }
    }
  }

  /// To nearest, within given ranges.
  ///
  /// - Parameter moments: E[x²], `[columns]`, where the error is measured.
  mutating func round(
    _ row: Int, _ weights: UnsafePointer<Float>, within ranges: GroupRanges,
    weighted moments: [Float]? = nil, by rounding: sluice_rounding
  ) {
    var codes = [Int8](repeating: 0, count: columns)
    var change = [Float](repeating: 0, count: columns)
    unsafe sluice_round_within(
      weights, columns, rounding, ranges.scales, ranges.zeroPoints, &codes, &change)
    if let moments {
      let error = unsafe sluice_weighted_squares(change, moments, columns)
      _ = errors.choose(error, nearest: error)
    }
    set(row, codes: codes, ranges: ranges)
  }

  /// To nearest, within the ranges that make the sum of `moments` times squared errors least.
  ///
  /// - Parameter moments: E[x²], `[columns]`.
  mutating func clip(
    _ row: Int, _ weights: UnsafePointer<Float>, weighted moments: [Float],
    by rounding: sluice_rounding
  ) {
    var ranges = GroupRanges(groups: groups)
    func error(_ codes: inout [Int8]) -> Double {
      var change = [Float](repeating: 0, count: columns)
      unsafe sluice_round_within(
        weights, columns, rounding, ranges.scales, ranges.zeroPoints, &codes, &change)
      return unsafe sluice_weighted_squares(change, moments, columns)
    }
    var codes = [Int8](repeating: 0, count: columns)
    unsafe ranges.takeWhole(weights, columns: columns, by: rounding)
    let plain = error(&codes)
    unsafe ranges.takeClipped(weights, weighted: moments, columns: columns, by: rounding)
    if errors.choose(error(&codes), nearest: plain) {
      set(row, codes: codes, ranges: ranges)
    } else {
      unsafe round(row, weights, by: rounding)
    }
  }

  /// - Parameters:
  ///   - weights: the rows of the weight, each `[columns]`.
  ///   - numbers: to which they were rounded, without zero points.
  mutating func countLostRows(of weights: [UnsafeMutablePointer<Float>], _ numbers: NumberFormat) {
    for row in 0..<rows
    where codes[row * columns..<(row + 1) * columns].allSatisfy(numbers.isZero) {
      let isZero = (0..<columns).allSatisfy { unsafe weights[row][$0] == 0 }
      if !isZero { errors.lostRows += 1 }
    }
  }

  /// What the codes of a row stand for, `[columns]`.
  func decode(
    _ row: Int, by quantizer: WeightQuantizer, into result: UnsafeMutablePointer<Float>
  ) {
    let own = row * groups..<(row + 1) * groups
    unsafe codes.withUnsafeBufferPointer {
      unsafe quantizer.decode(
        $0.baseAddress! + row * columns, scales: Array(scales[own]),
        zeroPoints: quantizer.numbers.hasZeroPoints ? Array(zeroPoints[own]) : nil,
        columns: columns, into: result)
    }
  }

  /// Takes over row `other` of `rows`.
  mutating func set(_ row: Int, to other: Int, of rows: QuantizedRows) {
    func copy<Element>(_ from: [Element], _ to: inout [Element], _ count: Int) {
      to.replaceSubrange(
        row * count..<(row + 1) * count, with: from[other * count..<(other + 1) * count])
    }
    copy(rows.codes, &codes, columns)
    copy(rows.scales, &scales, groups)
    copy(rows.zeroPoints, &zeroPoints, groups)
  }

  private mutating func set(_ row: Int, codes: [Int8], ranges: GroupRanges) {
    self.codes.replaceSubrange(row * columns..<(row + 1) * columns, with: codes)
    for group in 0..<groups {
      scales[row * groups + group] = ranges.scales[group]
      zeroPoints[row * groups + group] = Int8(ranges.zeroPoints[group])
    }
  }
}

/// Scales and zero points of the groups of one row.
struct GroupRanges {
  private(set) var scales: [Float]
  private(set) var zeroPoints: [Float]

  init(groups: Int) {
    scales = [Float](repeating: 0, count: groups)
    zeroPoints = scales
  }

  /// Given ones, without zero points.
  init(scales: [Float]) {
    self.scales = scales
    zeroPoints = [Float](repeating: 0, count: scales.count)
  }

  mutating func takeWhole(
    _ weights: UnsafePointer<Float>, columns: Int, by rounding: sluice_rounding
  ) {
    unsafe sluice_group_ranges(weights, columns, rounding, &scales, &zeroPoints)
  }

  mutating func takeClipped(
    _ weights: UnsafePointer<Float>, weighted moments: [Float], columns: Int,
    by rounding: sluice_rounding
  ) {
    unsafe sluice_clipped_ranges(weights, moments, columns, rounding, &scales, &zeroPoints)
  }
}
