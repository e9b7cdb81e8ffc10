// Rounding that also makes up for errors along a Linear's outputs: the rows of a head one after the other.

internal import CKernels
package import LinearAlgebra
package import Tensors

extension WeightQuantizer {
  /// Whether rows may be rounded one after the other: rows that share a scale are not.
  package var roundsRowsInTurn: Bool { !sharesScales }

  /// Rounds whole blocks of outputs of `weight`.
  ///
  /// - Parameters:
  ///   - rows: of one task.
  ///   - outputs: of the weight.
  ///   - whole: what `whole(_:)` found of the weight.
  /// - Returns: all rows in their order; their errors are those under both factors.
  /// - Throws: `NonFiniteWeight` at the first NaN or infinity.
  package func round(
    _ weight: any WeightRows, rows: Range<Int>, under factors: GramFactors,
    and outputs: OutputFactor, knowing whole: WholeWeight = .unneeded,
    from budget: MemoryBudget = Matrix.unlimited
  ) throws(NonFiniteWeight) -> QuantizedRows {
    let values = try weight.finite(rows, from: budget)
    let kernel = kernel(globalScale: whole.globalScale, signed: true)
    var result = QuantizedRows(
      rows: values.rows, columns: values.columns, groups: groups(of: values.columns),
      globalScale: whole.globalScale)
    let blocks = rows.lowerBound / outputs.size..<rows.upperBound / outputs.size
    for step in outputs.steps {
      let (places, counts) = outputs.rows(step, of: blocks)
      let target = Matrix(
        "weight tiles", rows: places.count, columns: values.columns, from: budget)
      outputs.target(step, of: blocks, values, into: target)
      var rounded = QuantizedRows(
        rows: places.count, columns: values.columns, groups: result.groups,
        globalScale: whole.globalScale)
      // Within the ranges of the weights themselves: what rows before leave may go far.
      unsafe CompensatedTile(target, by: kernel, refining: self, from: budget).round(
        under: factors, within: { unsafe UnsafePointer(values.row(places[$0])) },
        sharing: { _ in nil }, counting: counts, measuring: false, into: &rounded)
      if losesSmallRows {
        unsafe rounded.countLostRows(of: places.map { unsafe values.row($0) }, numbers)
      }
      result.errors.add(rounded.errors)
      for (row, place) in places.enumerated() {
        result.set(place, to: row, of: rounded)
        // From here on the row is its error.
        let error = unsafe values.row(place)
        unsafe sluice_scale(error, -1, error, values.columns)
        unsafe rounded.decode(row, by: self, into: target.row(row))
        unsafe sluice_add_scaled(target.row(row), 1, error, values.columns)
      }
    }
    return result
  }
}

extension OutputFactor {
  /// What a task holds that rounds some blocks of a weight `[rows, channels]`.
  package func buffers(rows: Int, channels: Int, under factors: GramFactors) -> [TaskBuffer] {
    let count = min(rows, taskRows)
    return [
      TaskBuffer("weight tiles", floats: count * channels),
      TaskBuffer("weight tiles", floats: stepRows(count) * channels),
      TaskBuffer("rows being packed", byteCount: count * channels * 2, pool: .heap),
    ] + factors.tileBuffers(rows: stepRows(count))
  }
}
