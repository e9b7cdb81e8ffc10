// Codes, scales and zero points for rows of a weight.

internal import CKernels
package import LinearAlgebra
package import Tensors

/// Some rows of a rounded weight, before packing.
package struct QuantizedRows: Sendable {
  package let rows: Int
  package let columns: Int
  /// `[rows, columns]`, in `-2^(bits-1) ..< 2^(bits-1)`.
  package let codes: [Int8]
  /// `[rows, columns / group]`, already rounded to the type they are stored in.
  package let scales: [Float]
  /// `[rows, columns / group]`; zero in symmetric schemes.
  package let zeroPoints: [Int8]
}

extension QuantScheme {
  /// Rounds rows of `weight` to nearest, with group ranges from the smallest and largest weight.
  ///
  /// - Parameter dtype: the type of the stored weight, which its scales share.
  /// - Throws: `NonFiniteWeight` at the first NaN or infinity.
  package func roundToNearest(
    _ weight: any WeightRows, rows: Range<Int>, dtype: DType,
    from budget: MemoryBudget = Matrix.unlimited
  ) throws(NonFiniteWeight) -> QuantizedRows {
    let values = weight.matrix(rows, from: budget)
    let groups = weight.columns / groupSize
    let rounding = rounding(for: dtype)
    var codes = [Int8](repeating: 0, count: values.count)
    var scales = [Float](repeating: 0, count: rows.count * groups)
    var zeroPoints = [Int8](repeating: 0, count: rows.count * groups)
    var failure: NonFiniteWeight?
    unsafe codes.withUnsafeMutableBufferPointer { codes in
      unsafe scales.withUnsafeMutableBufferPointer { scales in
        unsafe zeroPoints.withUnsafeMutableBufferPointer { zeroPoints in
          for row in 0..<values.rows {
            let bad = unsafe sluice_quantize_row(
              values.row(row), values.columns, rounding,
              codes.baseAddress! + row * values.columns, scales.baseAddress! + row * groups,
              zeroPoints.baseAddress! + row * groups)
            if bad < values.columns {
              failure = NonFiniteWeight(row: rows.lowerBound + row, column: bad)
              return
            }
          }
        }
      }
    }
    if let failure { throw failure }
    return QuantizedRows(
      rows: values.rows, columns: values.columns, codes: codes, scales: scales,
      zeroPoints: zeroPoints)
  }
}
