// What a matrix product asks of a weight: some rows, as float32, when it needs them.

package import Tensors

/// The weight of a Linear, `[rows, columns]` = `[out, in]`, decoded on demand.
///
/// A stored tensor, a packed quantized one and one with a smoothing scale folded in all look the same to a product,
/// and none of them is ever held whole in float32.
package protocol WeightRows: Sendable {
  var rows: Int { get }
  var columns: Int { get }
  /// Writes `range.count * columns` floats.
  func decode(_ range: Range<Int>, into result: UnsafeMutablePointer<Float>)
}

extension WeightRows {
  package func matrix(_ range: Range<Int>, from budget: MemoryBudget = Matrix.unlimited) -> Matrix {
    let result = Matrix("weight tiles", rows: range.count, columns: columns, from: budget)
    unsafe decode(range, into: result.base)
    return result
  }
}

extension Matrix: WeightRows {
  package func decode(_ range: Range<Int>, into result: UnsafeMutablePointer<Float>) {
    unsafe result.update(from: base + range.lowerBound * columns, count: range.count * columns)
  }
}
