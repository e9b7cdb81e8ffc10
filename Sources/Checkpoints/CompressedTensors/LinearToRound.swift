// A Linear on its way to codes: one of several whose tiles are rounded in one loop.

package import LinearAlgebra
package import Quantization
internal import Tensors

/// A Linear with its weight, and what is known of how to round it.
package struct LinearToRound: Sendable {
  let linear: QuantizedLinear
  let weight: any WeightRows
  private let rounding: Rounding
  private let outputs: OutputFactor?
  let largest: Float?
  let largestInput: Float

  /// - Parameters:
  ///   - outputs: what errors of its outputs do, where they are compensated, too.
  ///   - largest: the largest weight of all that are loaded as one with this, where `needsLargest`; nil for this alone.
  ///   - largestInput: the largest magnitude of what the Linear reads, where the scheme stores a scale for it.
  package init(
    _ linear: QuantizedLinear, _ weight: any WeightRows, by rounding: Rounding,
    outputs: OutputFactor? = nil, largest: Float?, largestInput: Float
  ) {
    self.linear = linear
    self.weight = weight
    self.rounding = rounding
    self.outputs = outputs
    self.largest = largest
    self.largestInput = largestInput
  }

  /// What rows in turn are rounded under. What rounding does is measured without.
  private func inTurn(_ measuring: Bool) -> (under: GramFactors, and: OutputFactor)? {
    guard case .compensated(let factors) = rounding, let outputs, !measuring,
      linear.quantizer.roundsRowsInTurn
    else { return nil }
    return (factors, outputs)
  }

  /// Rows of a task.
  func tileRows(measuring: Bool) -> Int {
    inTurn(measuring)?.and.taskRows ?? rounding.tileRows
  }

  func operation(rows: Int, measuring: Bool) -> Operation {
    rounding.operation(
      rows: rows, of: linear.rows, channels: weight.columns, outputs: inTurn(measuring)?.and,
      measuring: measuring)
  }

  func buffers(measuring: Bool) -> [TaskBuffer] {
    let (rows, channels) = (linear.rows, weight.columns)
    guard let inTurn = inTurn(measuring) else {
      return rounding.buffers(rows: rows, channels: channels)
    }
    return inTurn.and.buffers(rows: rows, channels: channels, under: inTurn.under)
  }

  func round(
    _ rows: Range<Int>, knowing whole: WholeWeight, measuring: Bool, from memory: MemoryBudget
  ) throws -> QuantizedRows {
    guard let inTurn = inTurn(measuring) else {
      return try linear.quantizer.round(
        weight, rows: rows, by: rounding, knowing: whole, measuring: measuring, from: memory)
    }
    return try linear.quantizer.round(
      weight, rows: rows, under: inTurn.under, and: inTurn.and, knowing: whole, from: memory)
  }
}
