// Weights with smoothing scales folded in: what is proven to keep the function is also what is rounded.

internal import CKernels
package import LinearAlgebra

/// A Linear's weight whose columns are multiplied and whose rows are divided by smoothing scales, in float32.
package struct SmoothedRows: WeightRows {
  private let base: any WeightRows
  /// `[columns]`, of the smoothing that this Linear consumes.
  private let columnScale: [Float]?
  /// `[rows]`, of the smoothing that this Linear produces for.
  private let rowDivisor: [Float]?

  package init(_ base: any WeightRows, columnScale: [Float]?, rowDivisor: [Float]?) {
    self.base = base
    self.columnScale = columnScale
    self.rowDivisor = rowDivisor
  }

  package var rows: Int { base.rows }
  package var columns: Int { base.columns }

  package func noteReading(_ count: Int, tileRows: Int, backend: Backend) {
    base.noteReading(count, tileRows: tileRows, backend: backend)
  }

  package func decode(_ range: Range<Int>, into result: UnsafeMutablePointer<Float>) {
    unsafe base.decode(range, into: result)
    for (offset, index) in range.enumerated() {
      let row = unsafe result + offset * columns
      if let columnScale { unsafe sluice_multiply(row, columnScale, row, columns) }
      if let rowDivisor { unsafe sluice_scale(row, 1 / rowDivisor[index], row, columns) }
    }
  }
}

/// A smoothing and the scale it was given, `[channels]`.
package struct AppliedSmoothing: Sendable {
  package let smoothing: Smoothing
  package let scale: [Float]

  package init(_ smoothing: Smoothing, scale: [Float]) {
    precondition(scale.count == smoothing.channels, "\(scale.count) scales")
    self.smoothing = smoothing
    self.scale = scale
  }
}

/// A view of weights under a set of smoothings.
package struct SmoothedWeights: LayerWeights {
  private let base: any LayerWeights
  private var columnScales: [String: [Float]] = [:]
  private var rowDivisors: [String: [Float]] = [:]
  private var vectorDivisors: [String: [Float]] = [:]
  /// What is added to a vector before it is divided, and taken away again.
  private var vectorOffsets: [String: Float] = [:]

  package init(_ base: any LayerWeights, _ applied: [AppliedSmoothing]) {
    self.base = base
    for each in applied {
      switch each.smoothing.producer {
      case .norm(let norm):
        vectorDivisors[norm.weight] = each.scale
        if norm.offset != 0 { vectorOffsets[norm.weight] = norm.offset }
        if let bias = norm.bias { vectorDivisors[bias] = each.scale }
      case .linear(let linear):
        let others = [Float](repeating: 1, count: linear.outputs - each.scale.count)
        rowDivisors[linear.name] = others + each.scale
        vectorDivisors[linear.bias] = others + each.scale
      }
      for consumer in each.smoothing.consumers { columnScales[consumer.name] = each.scale }
    }
  }

  package func vector(_ tensor: String) -> [Float] {
    let values = base.vector(tensor)
    // Empty where only shapes are known.
    guard let divisor = vectorDivisors[tensor] else { return values }
    guard let offset = vectorOffsets[tensor] else { return zip(values, divisor).map { $0 / $1 } }
    return zip(values, divisor).map { (offset + $0) / $1 - offset }
  }

  package func weight(_ linear: LinearSpec) -> any WeightRows {
    let (scale, divisor) = (columnScales[linear.name], rowDivisors[linear.name])
    if scale == nil && divisor == nil { return base.weight(linear) }
    return SmoothedRows(base.weight(linear), columnScale: scale, rowDivisor: divisor)
  }
}
