// A rounded Linear as the tensors of the `pack-quantized` format.

internal import CKernels
package import LinearAlgebra
package import Quantization
package import Safetensors
package import Tensors
package import Transformer

/// The stored tensors of one quantized Linear: names, types, shapes and contents.
///
/// - `weight_packed` I32 `[out, in * bits / 32]`: code j of a row in bits `bits * (j % n)` of word `j / n`, plus 2^(bits-1).
/// - `weight_scale` in the weight's type, `[out, in / group]`.
/// - `weight_zero_point` I32 `[ceil(out / n), in / group]`, asymmetric schemes only: packed along rows.
/// - `weight_shape` I64 `[2]`.
///
/// Source: compressed-tensors 0.19 `PackedQuantizationCompressor`.
package struct PackedLinear: Sendable {
  private let scheme: QuantScheme
  private let outputs: Int
  private let inputs: Int
  private let packed: TensorSpec
  private let scale: TensorSpec
  private let zeroPoint: TensorSpec?
  private let shape: TensorSpec

  package init(_ linear: LinearSpec, scheme: QuantScheme, scaleType: DType) {
    self.scheme = scheme
    outputs = linear.outputs
    inputs = linear.inputs
    let perWord = scheme.codesPerWord
    let groups = inputs / scheme.groupSize
    packed = TensorSpec(
      name: linear.name + ".weight_packed", dtype: .i32,
      shape: [outputs, (inputs + perWord - 1) / perWord])
    scale = TensorSpec(
      name: linear.name + ".weight_scale", dtype: scaleType, shape: [outputs, groups])
    zeroPoint =
      scheme.isSymmetric
      ? nil
      : TensorSpec(
        name: linear.name + ".weight_zero_point", dtype: .i32,
        shape: [(outputs + perWord - 1) / perWord, groups])
    shape = TensorSpec(name: linear.name + ".weight_shape", dtype: .i64, shape: [2])
  }

  package var tensors: [TensorSpec] {
    [packed, scale] + (zeroPoint.map { [$0] } ?? []) + [shape]
  }

  /// Rounds `weight` and hands out the bytes of every tensor, in pieces and from several threads.
  ///
  /// - Parameter write: tensor name, byte offset in the tensor, bytes.
  /// - Throws: `NonFiniteWeight`, or what `write` throws.
  @discardableResult
  package func round(
    _ weight: any WeightRows, by rounding: Rounding = .nearest, workers: Workers,
    write: @escaping @Sendable (UnsafeRawBufferPointer, String, Int) throws -> Void
  ) throws -> RoundingErrors {
    let tiles = ranges(of: outputs, by: rounding.tileRows)
    weight.noteReading(weight.rows, tileRows: rounding.tileRows, workers: workers)
    workers.ledger.note(rounding.operation(rows: outputs, channels: inputs))
    for tensor in tensors { workers.ledger.note(.output, bytes: tensor.byteCount) }
    let results = workers.map(
      tiles.count, each: rounding.buffers(rows: outputs, channels: inputs)
    ) { index -> Result<RoundingErrors, any Error> in
      Result {
        let rows = tiles[index]
        let rounded = try scheme.round(
          weight, rows: rows, dtype: scale.dtype, by: rounding, from: workers.memory)
        try unsafe packedWords(rounded).withUnsafeBytes {
          try unsafe write($0, packed.name, rows.lowerBound * packed.shape[1] * 4)
        }
        try unsafe scale.dtype.encoded(rounded.scales).withUnsafeBytes {
          try unsafe write(
            $0, scale.name, rows.lowerBound * scale.shape[1] * scale.dtype.byteWidth)
        }
        if let zeroPoint {
          try unsafe packedZeroPoints(rounded).withUnsafeBytes {
            try unsafe write(
              $0, zeroPoint.name, rows.lowerBound / scheme.codesPerWord * zeroPoint.shape[1] * 4)
          }
        }
        return rounded.errors
      }
    }
    var errors = RoundingErrors()
    for result in results { errors.add(try result.get()) }
    if !workers.computes { return errors }
    try unsafe [Int64(outputs), Int64(inputs)].withUnsafeBytes {
      try unsafe write($0, shape.name, 0)
    }
    return errors
  }

  private func packedWords(_ rounded: QuantizedRows) -> [Int32] {
    let words = packed.shape[1]
    return unsafe [Int32](unsafeUninitializedCapacity: rounded.rows * words) { buffer, count in
      unsafe rounded.codes.withUnsafeBufferPointer { codes in
        guard let from = codes.baseAddress, let to = buffer.baseAddress else { return }
        for row in 0..<rounded.rows {
          unsafe sluice_pack_row(
            from + row * rounded.columns, rounded.columns, Int32(scheme.bits), to + row * words)
        }
      }
      count = rounded.rows * words
    }
  }

  private func packedZeroPoints(_ rounded: QuantizedRows) -> [UInt32] {
    let perWord = scheme.codesPerWord
    let groups = inputs / scheme.groupSize
    var words = [UInt32](repeating: 0, count: (rounded.rows + perWord - 1) / perWord * groups)
    for row in 0..<rounded.rows {
      for group in 0..<groups {
        let code = UInt32(Int(rounded.zeroPoints[row * groups + group]) + 1 << (scheme.bits - 1))
        words[row / perWord * groups + group] |= code << UInt32(row % perWord * scheme.bits)
      }
    }
    return words
  }
}
