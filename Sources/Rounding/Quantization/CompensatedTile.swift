// Error-compensated rounding of some rows of a weight, under the Gram matrix of its input.

internal import CKernels
internal import LinearAlgebra
internal import Tensors

/// Rows that are rounded together, held by columns: element [c][r] is column c of row r.
///
/// For every row: clipped group ranges; codes one after the other, each making up for the errors so far (GPTQ); then, a
/// few times over all groups, the scale that fits the codes best and each code where it fits best. Every step makes
/// d G dᵀ smaller, and a row that is not better than rounded to nearest in the end is rounded to nearest.
struct CompensatedTile {
  /// In bf16 as many more as what is packed of the factor at a time is then worth.
  static func largestRows(_ engine: Engine) -> Int { engine == .bf16 ? 384 : 128 }
  /// Times that scales and codes are fitted.
  static let refinements = 2

  private let values: Matrix
  private let kernel: sluice_rounding
  private let quantizer: WeightQuantizer
  private let memory: MemoryBudget
  /// Rows, filled up to whole strips.
  private let width: Int

  init(
    _ values: Matrix, by kernel: sluice_rounding, refining quantizer: WeightQuantizer,
    from memory: MemoryBudget
  ) {
    self.values = values
    self.kernel = kernel
    self.quantizer = quantizer
    self.memory = memory
    width = Self.width(values.rows)
  }

  private static func width(_ rows: Int) -> Int {
    let strip = Int(SLUICE_TILE_STRIP)
    return (rows + strip - 1) / strip * strip
  }

  /// Bytes by buffer of a tile of a Linear with `rows` outputs, under the factor of `channels` channels.
  ///
  /// - Parameter refined: columns that are refined together.
  static func buffers(rows: Int, channels: Int, refined: Int, _ engine: Engine) -> [Int] {
    let width = width(min(rows, largestRows(engine)))
    let block = 4 * GramFactor.block * width
    let sums = 4 * max(GramFactor.block, refined) * width
    let both = [4 * channels * width, channels * width, sums]
    switch engine {
    case .bf16:
      return both + [block, PackedColumns.byteCount(depth: channels, columns: width)]
    case .f32: return both + [4 * channels * width]
    }
  }

  /// - Parameters:
  ///   - source: the row whose ranges a row is rounded within, where that is another than itself.
  ///   - shared: the scales of a row that it shares with others; nil where it finds its own.
  ///   - counts: what the errors of each row count; nil for 1.
  ///   - measuring: whether what the rows themselves put out is measured, too.
  func round(
    under factors: GramFactors, within source: ((_ row: Int) -> UnsafePointer<Float>)? = nil,
    sharing shared: (_ row: Int) -> [Float]?, counting counts: [Double]? = nil,
    measuring: Bool, into result: inout QuantizedRows
  ) {
    let moments = factors.moments
    var whole = ColumnRanges(groups: result.groups, width: width)
    var clipped = whole
    var ranges = GroupRanges(groups: result.groups)
    for row in 0..<values.rows {
      if let scales = shared(row) {
        whole.set(row, to: GroupRanges(scales: scales))
        clipped.set(row, to: GroupRanges(scales: scales))
        continue
      }
      let weights = unsafe source?(row) ?? UnsafePointer(values.row(row))
      unsafe ranges.takeWhole(weights, columns: values.columns, by: kernel)
      whole.set(row, to: ranges)
      unsafe ranges.takeClipped(
        weights, weighted: moments, columns: values.columns, by: kernel)
      clipped.set(row, to: ranges)
    }
    var plain = [Double](repeating: 0, count: width)
    var (error, signal) = (plain, plain)
    for factor in factors.parts {
      let part = TilePart(values, factor, kernel, quantizer, width: width, from: memory)
      if measuring { part.measure(addingTo: &signal) }
      part.roundToNearest(within: whole, addingTo: &plain)
      part.compensate(within: &clipped, addingTo: &error)
      part.copyCodes(into: &result)
    }
    for row in 0..<values.rows {
      result.errors.signal += signal[row]
      let count = counts?[row] ?? 1
      if result.errors.choose(count * error[row], nearest: count * plain[row]) {
        clipped.copy(row, into: &result)
      } else if let scales = shared(row) {
        unsafe result.round(
          row, values.row(row), within: GroupRanges(scales: scales), by: kernel)
      } else {
        let weights = unsafe source?(row) ?? UnsafePointer(values.row(row))
        unsafe ranges.takeWhole(weights, columns: values.columns, by: kernel)
        unsafe result.round(row, values.row(row), within: ranges, by: kernel)
      }
    }
  }
}

/// The columns of a tile that one factor covers.
private final class TilePart {
  private let factor: GramFactor
  private var kernel: sluice_rounding
  private let rows: Int
  private let width: Int
  private let count: Int
  private let group: Int
  /// Columns of the first group that lie in the part before.
  private let before: Int
  /// Whether no part follows.
  private let isLast: Bool
  /// Columns that are refined together, and whether their scale may change.
  private let refined: Int
  private let fitsScales: Bool
  /// `[n, width]`: the weights; once they are rounded, the errors in the order of the channels.
  private let columns: Matrix
  /// Errors, as products read them.
  private let errors: TileErrors
  /// `[block, width]`: what other columns leave for those of a block or a group.
  private let sums: Matrix
  private let work: Matrix
  private let codes: Buffer

  init(
    _ values: Matrix, _ factor: GramFactor, _ kernel: sluice_rounding,
    _ quantizer: WeightQuantizer, width: Int, from memory: MemoryBudget
  ) {
    self.factor = factor
    self.kernel = kernel
    self.width = width
    rows = values.rows
    count = factor.channels.count
    group = Int(kernel.group)
    before = factor.channels.lowerBound % group
    self.kernel.before = Int32(before)
    isLast = factor.channels.upperBound == values.columns
    refined = quantizer.refinedColumns
    fitsScales = quantizer.fitsScales
    columns = Matrix("rows being rounded", rows: count, columns: width, from: memory)
    errors = TileErrors(
      count, width: width, block: GramFactor.block, factor.engine, from: memory)
    sums = Matrix(
      "rows being rounded", rows: max(GramFactor.block, refined), columns: width, from: memory)
    work = Matrix(rows: 2 * refined, columns: Int(SLUICE_TILE_STRIP))
    codes = Buffer("codes being chosen", byteCount: count * width, from: memory)
    if rows < width { columns.fill(0) }
    unsafe sluice_transpose(
      values.base + factor.channels.lowerBound, rows, count, values.columns, columns.base, width)
  }

  /// Adds w G wᵀ of each row to `total`.
  func measure(addingTo total: inout [Double]) {
    unsafe addLosses(to: &total) { block, weights, sum in
      for (place, channel) in factor.order[block].enumerated() {
        unsafe (weights + place * width)
          .update(from: columns.base + Int(channel) * width, count: width)
      }
      unsafe addSquares(of: block, weights, to: &sum)
    }
  }

  /// What a block of errors, or of weights, adds to the squares of d R, without what the damping has in them.
  private func addSquares(
    of block: Range<Int>, _ errors: UnsafeMutablePointer<Float>, to sum: inout [Float]
  ) {
    unsafe sluice_triangular_block(
      width, block.count, factor.pivots.row(block.lowerBound), GramFactor.block, errors,
      sums.base, &sum)
    let damping = unsafe damping(of: errors, block.count)
    for row in 0..<width { sum[row] -= damping[row] }
  }

  /// Adds d G dᵀ of each row to `total`.
  func roundToNearest(within ranges: ColumnRanges, addingTo total: inout [Double]) {
    var ranges = ranges
    unsafe ranges.withGroups(of: factor.channels, by: group) { scales, zeroPoints in
      unsafe addLosses(to: &total) { block, errors, loss in
        unsafe factor.order.withUnsafeBufferPointer { order in
          unsafe sluice_column_errors(
            width, block.count, order.baseAddress! + block.lowerBound, columns.base, scales,
            zeroPoints, kernel, errors)
        }
        unsafe addSquares(of: block, errors, to: &loss)
      }
    }
  }

  /// Rounds, refines scales and codes, and adds what is left of d G dᵀ of each row to `total`.
  func compensate(within ranges: inout ColumnRanges, addingTo total: inout [Double]) {
    unsafe ranges.withGroups(of: factor.channels, by: group) { scales, zeroPoints in
      unsafe addLosses(to: &total) { block, errors, loss in
        unsafe factor.order.withUnsafeBufferPointer { order in
          unsafe sluice_compensate_block(
            width, block.count, factor.pivots.row(block.lowerBound), GramFactor.block,
            order.baseAddress! + block.lowerBound, columns.base, scales, zeroPoints, kernel,
            sums.base, errors, codesBase, &loss)
        }
        for (place, channel) in factor.order[block].enumerated() {
          unsafe (columns.base + Int(channel) * width)
            .update(from: errors + place * width, count: width)
        }
      }
      errors.takeOver(columns)
      for _ in 0..<CompensatedTile.refinements {
        for columns in LinearAlgebra.ranges(of: count, by: refined) {
          let first = (before + columns.lowerBound) / group
          // Codes of two groups stay as they are.
          guard first == (before + columns.upperBound - 1) / group else { continue }
          unsafe refine(
            columns, scales + first * width, zeroPoints + first * width, &total)
        }
      }
    }
    for (row, damping) in unsafe damping(of: columns.base, count).enumerated() {
      total[row] -= Double(damping)
    }
  }

  /// Runs `body` on every block of columns in the order of the factor, with what the columns before leave in `sums`;
  /// it makes the block's errors.
  private func addLosses(
    to total: inout [Double],
    _ body: (
      _ block: Range<Int>, _ errors: UnsafeMutablePointer<Float>, _ loss: inout [Float]
    ) -> Void
  ) {
    for block in ranges(of: count, by: GramFactor.block) {
      if block.lowerBound == 0 {
        sums.fill(0)
      } else {
        unsafe errors.sums(before: block, under: factor, into: sums.base)
      }
      var loss = [Float](repeating: 0, count: width)
      unsafe body(block, errors.place(of: block), &loss)
      errors.keep(block)
      for row in 0..<width { total[row] += Double(loss[row]) }
    }
  }

  /// One group, or a part of one, all others left as they are. `columns` holds the errors. A scale stays where codes of
  /// another part have it, too.
  private func refine(
    _ part: Range<Int>, _ scales: UnsafeMutablePointer<Float>, _ zeroPoints: UnsafePointer<Float>,
    _ total: inout [Double]
  ) {
    let first = part.lowerBound
    let isWhole = before == 0 && (part.count == group || isLast)
    unsafe errors.correlations(of: part, refining: refined, under: factor, into: sums.base)
    var change = [Float](repeating: 0, count: width)
    unsafe sluice_refine_group(
      width, part.count, factor.corner(of: part, refining: refined), kernel,
      fitsScales && isWhole ? 1 : 0, scales, zeroPoints, codesBase + first * width, sums.base,
      columns.base + first * width, &change, work.base)
    // Errors are packed in units that may be wider than a group.
    let unit = PackedColumns.unit
    let changed = first / unit * unit..<min(count, (part.upperBound + unit - 1) / unit * unit)
    unsafe errors.change(changed, to: columns.row(changed.lowerBound))
    for row in 0..<width { total[row] += Double(change[row]) }
  }

  /// What d (G + λI) dᵀ has and d G dᵀ has not, for `count` columns of errors.
  private func damping(of errors: UnsafePointer<Float>, _ count: Int) -> [Float] {
    var squares = [Float](repeating: 0, count: width)
    for column in 0..<count {
      let row = unsafe errors + column * width
      for index in 0..<width { unsafe squares[index] += row[index] * row[index] }
    }
    return squares.map { factor.lambda * $0 }
  }

  private var codesBase: UnsafeMutablePointer<Int8> {
    unsafe codes.bytes.baseAddress!.assumingMemoryBound(to: Int8.self)
  }

  func copyCodes(into result: inout QuantizedRows) {
    for row in 0..<rows {
      let start = row * result.columns + factor.channels.lowerBound
      for column in 0..<count {
        result.codes[start + column] = unsafe codesBase[column * width + row]
      }
    }
  }
}

/// Scales and zero points of a tile, `[groups, width]` each.
private struct ColumnRanges {
  private let groups: Int
  private let width: Int
  private var scales: [Float]
  private var zeroPoints: [Float]

  /// Rows that are only there to fill a strip keep these.
  init(groups: Int, width: Int) {
    self.groups = groups
    self.width = width
    scales = [Float](repeating: 1, count: groups * width)
    zeroPoints = [Float](repeating: 0, count: groups * width)
  }

  mutating func set(_ row: Int, to ranges: GroupRanges) {
    for group in 0..<groups {
      scales[group * width + row] = ranges.scales[group]
      zeroPoints[group * width + row] = ranges.zeroPoints[group]
    }
  }

  func copy(_ row: Int, into result: inout QuantizedRows) {
    for group in 0..<groups {
      result.scales[row * groups + group] = scales[group * width + row]
      result.zeroPoints[row * groups + group] = Int8(zeroPoints[group * width + row])
    }
  }

  /// From the group of the first of `channels` on.
  mutating func withGroups(
    of channels: Range<Int>, by group: Int,
    _ body: (_ scales: UnsafeMutablePointer<Float>, _ zeroPoints: UnsafePointer<Float>) -> Void
  ) {
    let offset = channels.lowerBound / group * width
    unsafe scales.withUnsafeMutableBufferPointer { scales in
      unsafe zeroPoints.withUnsafeBufferPointer { zeroPoints in
        unsafe body(scales.baseAddress! + offset, zeroPoints.baseAddress! + offset)
      }
    }
  }
}
