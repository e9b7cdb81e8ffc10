// The `pack-quantized` format: integer codes of few bits in 32-bit words.

internal import CKernels
internal import LinearAlgebra
package import Quantization
internal import Safetensors
package import Tensors
package import Transformer

/// Weights as integers with a scale for each group of a row, symmetric or with zero points; activations as they are.
///
/// Source: compressed-tensors 0.19 `PackedQuantizationCompressor`.
package struct PackQuantized: WrittenFormat {
  package init() {}

  package let names = ["pack-quantized"]
  package let parts = [
    WeightPart(suffix: packedPart, isStreamed: true),
    WeightPart(suffix: scalePart, isStreamed: false),
    WeightPart(suffix: zeroPointPart, isStreamed: false),
  ]

  fileprivate static let packedPart = ".weight_packed"
  fileprivate static let scalePart = ".weight_scale"
  fileprivate static let zeroPointPart = ".weight_zero_point"
  fileprivate static let shapePart = ".weight_shape"

  private static let bits = [4, 8]
  /// The columns of a group, which compensated rounding takes whole.
  static let groupSizes = [32, 64, 128]

  package func problem(reading scheme: QuantizationScheme) -> ArgumentProblem? {
    problem(writing: scheme)
  }

  package func problem(writing scheme: QuantizationScheme) -> ArgumentProblem? {
    func problem(_ key: String, _ expected: String) -> ArgumentProblem {
      ArgumentProblem(["weights", key], expected: expected)
    }
    guard let weights = scheme.weights else {
      return ArgumentProblem(["weights"], expected: "a mapping")
    }
    if weights.type != .int { return problem("type", "int") }
    if !Self.bits.contains(weights.bits) { return problem("num_bits", "4 or 8") }
    if weights.dynamic != .never { return problem("dynamic", "false") }
    if weights.block != nil { return problem("block_structure", "null") }
    if weights.scaleType != nil { return problem("scale_dtype", "null") }
    if weights.zeroPointType != nil { return problem("zp_dtype", "torch.int8") }
    if weights.strategy != .group { return problem("strategy", "group") }
    guard let size = weights.groupSize, Self.groupSizes.contains(size) else {
      return problem("group_size", "32, 64 or 128")
    }
    for (key, arguments) in [
      ("input_activations", scheme.inputActivations),
      ("output_activations", scheme.outputActivations),
    ] where arguments != nil {
      return ArgumentProblem([key], expected: "null")
    }
    return nil
  }

  package func codec(
    _ linear: LinearSpec, _ scheme: QuantizationScheme, dtype: DType
  ) -> any WeightCodec {
    guard let weights = scheme.weights else { preconditionFailure("\(linear.name) is not packed") }
    return PackedLinear(linear, weights, dtype: dtype)
  }
}

/// - `weight_packed` I32 `[out, in * bits / 32]`: code j of a row in bits `bits * (j % n)` of word `j / n`, plus 2^(bits-1).
/// - `weight_scale` in the weight's type, `[out, in / group]`.
/// - `weight_zero_point` I32 `[ceil(out / n), in / group]`, asymmetric schemes only: packed along rows.
/// - `weight_shape` I64 `[2]`.
private struct PackedLinear: WeightCodec {
  private let layout: PackedCodes
  private let outputs: Int
  private let inputs: Int
  private let packed: TensorSpec
  let scales: TensorSpec
  private let zeroPoint: TensorSpec?
  private let shape: TensorSpec

  init(_ linear: LinearSpec, _ arguments: QuantizationArguments, dtype: DType) {
    outputs = linear.outputs
    inputs = linear.inputs
    layout = PackedCodes(
      bits: arguments.bits, groupSize: arguments.columnsPerScale(linear.inputs))
    let groups = inputs / layout.groupSize
    packed = TensorSpec(
      name: linear.name + PackQuantized.packedPart, dtype: .i32,
      shape: [outputs, layout.words(inputs)])
    scales = TensorSpec(
      name: linear.name + PackQuantized.scalePart, dtype: dtype, shape: [outputs, groups])
    zeroPoint =
      arguments.isSymmetric
      ? nil
      : TensorSpec(
        name: linear.name + PackQuantized.zeroPointPart, dtype: .i32,
        shape: [layout.words(outputs), groups])
    shape = TensorSpec(name: linear.name + PackQuantized.shapePart, dtype: .i64, shape: [2])
  }

  var tensors: [TensorSpec] { [packed, scales] + (zeroPoint.map { [$0] } ?? []) + [shape] }

  var outputsTogether: (count: Int, what: String)? {
    zeroPoint.map { _ in (layout.perWord, "packed zero points") }
  }

  // MARK: Writing

  func encode(_ rounded: QuantizedRows, rows: Range<Int>, write: TensorWrite) throws {
    try unsafe packedWords(rounded).withUnsafeBytes {
      try unsafe write($0, packed.name, rows.lowerBound * packed.shape[1] * 4)
    }
    try unsafe scales.dtype.encoded(rounded.scales).withUnsafeBytes {
      try unsafe write(
        $0, scales.name, rows.lowerBound * scales.shape[1] * scales.dtype.byteWidth)
    }
    if let zeroPoint {
      try unsafe packedZeroPoints(rounded).withUnsafeBytes {
        try unsafe write(
          $0, zeroPoint.name, rows.lowerBound / layout.perWord * zeroPoint.shape[1] * 4)
      }
    }
  }

  func encodeRest(write: TensorWrite) throws {
    try unsafe [Int64(outputs), Int64(inputs)].withUnsafeBytes {
      try unsafe write($0, shape.name, 0)
    }
  }

  private func packedWords(_ rounded: QuantizedRows) -> [Int32] {
    let words = packed.shape[1]
    return unsafe [Int32](unsafeUninitializedCapacity: rounded.rows * words) { buffer, count in
      unsafe rounded.codes.withUnsafeBufferPointer { codes in
        guard let from = codes.baseAddress, let to = buffer.baseAddress else { return }
        for row in 0..<rounded.rows {
          unsafe sluice_pack_row(
            from + row * rounded.columns, rounded.columns, Int32(layout.bits), to + row * words)
        }
      }
      count = rounded.rows * words
    }
  }

  private func packedZeroPoints(_ rounded: QuantizedRows) -> [UInt32] {
    let groups = rounded.groups
    var words = [UInt32](repeating: 0, count: layout.words(rounded.rows) * groups)
    for row in 0..<rounded.rows {
      for group in 0..<groups {
        let code = UInt32(Int(rounded.zeroPoints[row * groups + group]) + layout.offset)
        words[row / layout.perWord * groups + group] |= code << layout.shift(row)
      }
    }
    return words
  }

  // MARK: Reading

  func decode(_ tensor: (String) -> StoredTensor?) -> (any CodedWeight)? {
    guard let packed = tensor(packed.name), let scales = tensor(scales.name) else { return nil }
    if let zeroPoint, tensor(zeroPoint.name) == nil { return nil }
    return PackedWeight(
      packed: packed, scales: StoredWeight(scales),
      zeroPoints: zeroPoint.flatMap { tensor($0.name) }, layout: layout, columns: inputs)
  }

  func faults(_ tensor: (String) -> StoredTensor?, windowBytes: Int) -> [StoredFault] {
    [
      tensor(scales.name).flatMap { scaleFault($0, windowBytes: windowBytes) },
      tensor(shape.name).flatMap(shapeFault),
    ].compactMap { $0 }
  }

  private func scaleFault(_ tensor: StoredTensor, windowBytes: Int) -> StoredFault? {
    var bad: (count: Int, first: (Int, Float)?) = (0, nil)
    tensor.forEachPart(windowBytes: windowBytes) { start, values in
      for (index, value) in values.enumerated() where !(value > 0 && value.isFinite) {
        bad.count += 1
        bad.first = bad.first ?? (start + index, value)
      }
    }
    return bad.first.map { place, value in
      StoredFault(
        tensor.name, "element \(place) is \(value)\(bad.count > 1 ? ", \(bad.count) in all" : "")")
    }
  }

  private func shapeFault(_ tensor: StoredTensor) -> StoredFault? {
    let recorded = unsafe tensor.withBytes { bytes in
      (0..<2).map { unsafe bytes.loadUnaligned(fromByteOffset: 8 * $0, as: Int64.self) }
    }
    tensor.release()
    if recorded == [Int64(outputs), Int64(inputs)] { return nil }
    return StoredFault(tensor.name, "says \(recorded), expected \([outputs, inputs])")
  }
}

/// How codes lie in words: code j in bits `bits * (j % n)` of word `j / n`, plus 2^(bits-1).
private struct PackedCodes: Sendable {
  let bits: Int
  let groupSize: Int

  /// Codes of a word.
  var perWord: Int { 32 / bits }

  /// What is added to a code before it is stored.
  var offset: Int { 1 << (bits - 1) }

  func words(_ codes: Int) -> Int { (codes + perWord - 1) / perWord }

  func shift(_ code: Int) -> UInt32 { UInt32(code % perWord * bits) }
}

/// A mapped `pack-quantized` weight.
private struct PackedWeight: CodedWeight {
  let packed: StoredTensor
  let scales: StoredWeight
  let zeroPoints: StoredTensor?
  let layout: PackedCodes
  let columns: Int

  var rows: Int { packed.shape[0] }

  func noteReading(_ count: Int, tileRows: Int, workers: Workers) {
    let all = [packed, scales.tensor] + (zeroPoints.map { [$0] } ?? [])
    WeightPages(
      key: String(packed.name.dropLast(PackQuantized.packedPart.count)),
      bytes: all.reduce(0) { $0 + $1.byteCount }, rows: rows,
      tileBytes: { $0 * packed.byteCount / max(1, rows) }, isHeld: false
    ).noteReading(count, tileRows: tileRows, workers: workers)
  }

  func decode(_ range: Range<Int>, into result: UnsafeMutablePointer<Float>) {
    let words = packed.shape[1]
    for (offset, row) in range.enumerated() {
      let rowScales = scales.matrix(row..<row + 1)
      let zeros = zeroPoints(of: row..<row + 1)
      unsafe packed.withBytes { bytes in
        // Our own and the peer's shards align int32 tensors; a foreign one may not.
        let rowWords = unsafe [Int32](unsafeUninitializedCapacity: words) { buffer, count in
          unsafe UnsafeMutableRawBufferPointer(buffer).copyMemory(
            from: UnsafeRawBufferPointer(rebasing: bytes[row * words * 4..<(row + 1) * words * 4]))
          count = words
        }
        unsafe sluice_dequantize_row(
          rowWords, rowScales.base, zeros, columns, Int32(layout.bits), layout.groupSize,
          result + offset * columns)
      }
    }
    packed.releaseTile(bytes: range.lowerBound * words * 4..<range.upperBound * words * 4)
  }

  func scales(of rows: Range<Int>) -> [Float] { scales.matrix(rows).values }

  /// They are packed along rows: row r is code r % n of word r / n.
  func zeroPoints(of rows: Range<Int>) -> [Int8]? {
    guard let zeroPoints else { return nil }
    let groups = columns / layout.groupSize
    let mask = UInt32(1) << layout.bits - 1
    return unsafe zeroPoints.withBytes { bytes in
      rows.flatMap { row in
        (0..<groups).map { group in
          let word = unsafe bytes.loadUnaligned(
            fromByteOffset: (row / layout.perWord * groups + group) * 4, as: UInt32.self)
          return Int8(Int(word >> layout.shift(row) & mask) - layout.offset)
        }
      }
    }
  }
}
