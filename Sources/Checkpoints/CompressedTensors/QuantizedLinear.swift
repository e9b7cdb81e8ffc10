// A Linear that is quantized: rounding makes its codes, its format stores them.

package import LinearAlgebra
package import Quantization
package import Safetensors
package import Tensors
package import Transformer

/// A Linear under a scheme that is written.
package struct QuantizedLinear: Sendable {
  package let quantizer: WeightQuantizer
  package let codec: any WeightCodec
  private let rows: Int

  /// - Parameter dtype: of the weight that is quantized, which its scales share.
  package init(_ linear: LinearSpec, _ scheme: QuantizationScheme, dtype: DType) {
    guard let weights = scheme.weights else {
      preconditionFailure("\(linear.name) is not quantized")
    }
    quantizer = WeightQuantizer(
      weights, columns: linear.inputs, dtype: dtype, signsScales: scheme.signsScales)
    codec = CompressionFormats.codec(linear, scheme, dtype: dtype)
    rows = linear.outputs
  }

  package var tensors: [TensorSpec] { codec.tensors }

  /// Rounds `weight` and hands out the bytes of every tensor, in pieces and from several threads.
  ///
  /// - Parameters:
  ///   - outputs: what errors of its outputs do, where they are compensated, too.
  ///   - largest: the largest weight of all that are loaded as one with this, where `needsLargest`; nil for this alone.
  ///   - largestInput: the largest magnitude of what the Linear reads, where the scheme stores a scale for it.
  ///   - write: nil to measure what rounding does, and what the weight itself puts out.
  /// - Throws: `NonFiniteWeight`, or what `write` throws.
  @discardableResult
  package func round(
    _ weight: any WeightRows, by rounding: Rounding = .nearest, outputs: OutputFactor? = nil,
    largest: Float? = nil, largestInput: Float = 0, backend: Backend,
    write: (@Sendable (UnsafeRawBufferPointer, String, Int) throws -> Void)?
  ) throws -> RoundingErrors {
    let whole = try quantizer.whole(weight, largest: largest, backend: backend)
      .reading(largestInput)
    let measuring = unsafe write == nil
    let inTurn: (under: GramFactors, and: OutputFactor)? =
      if case .compensated(let factors) = rounding, let outputs, !measuring {
        (factors, outputs)
      } else {
        nil
      }
    let tileRows = inTurn?.and.taskRows ?? rounding.tileRows
    let tiles = ranges(of: rows, by: tileRows)
    weight.noteReading(rows, tileRows: tileRows, backend: backend)
    backend.ledger.note(
      rounding.operation(
        rows: rows, channels: weight.columns, outputs: inTurn?.and, measuring: measuring))
    if !measuring {
      for tensor in tensors { backend.ledger.note(.output, bytes: tensor.byteCount) }
    }
    let each =
      if let inTurn {
        inTurn.and.buffers(rows: rows, channels: weight.columns, under: inTurn.under)
      } else {
        rounding.buffers(rows: rows, channels: weight.columns)
      }
    let results = backend.map(tiles.count, each: each) {
      index -> Result<RoundingErrors, any Error> in
      Result {
        let rounded =
          if let inTurn {
            try quantizer.round(
              weight, rows: tiles[index], under: inTurn.under, and: inTurn.and, knowing: whole,
              from: backend.memory)
          } else {
            try quantizer.round(
              weight, rows: tiles[index], by: rounding, knowing: whole, measuring: measuring,
              from: backend.memory)
          }
        if let write = unsafe write {
          try unsafe codec.encode(rounded, rows: tiles[index], write: write)
        }
        return rounded.errors
      }
    }
    var errors = RoundingErrors()
    for result in results { errors.add(try result.get()) }
    if !backend.computes { return errors }
    if let write = unsafe write { try unsafe codec.encodeRest(whole, write: write) }
    return errors
  }
}
