// The stored tensors of a quantized Linear: what all formats have in common. A format says which there are.

internal import LinearAlgebra
internal import Quantization
internal import Safetensors
internal import Tensors
internal import Transformer

/// Codes and scales of a Linear, and what some formats have beside them.
///
/// - codes `[out, elements that hold a row's codes]`.
/// - scales `[out, in / group]`, one for each block of rows and columns, or `[1]`.
/// - zero points, where there are: `[elements that hold a column's codes, in / group]`, packed along rows.
/// - the global scale F32 `[1]`, where scales have two levels: what they are divided by.
/// - the weight's shape I64 `[2]`, where that cannot be told from the codes.
/// - the scale of static activations `[1]`, or what divides theirs where scales have two levels.
struct CodedLinear: WeightCodec {
  /// The ends of the tensors' names.
  struct Names {
    let codes: String
    let scales: String
    var zeroPoints: String?
    var globalScale: String?
    var shape: String?
    var inputScale: String?
  }

  private let module: String
  private let quantizer: WeightQuantizer
  private let layout: CodeLayout
  private let outputs: Int
  private let inputs: Int
  private let groups: Int
  private let codes: TensorSpec
  private let scales: TensorSpec
  private let zeroPoints: TensorSpec?
  private let globalScale: TensorSpec?
  private let shape: TensorSpec?
  private let activations: QuantizationArguments?
  private let inputScale: TensorSpec?

  /// - Parameters:
  ///   - scheme: one with weights.
  ///   - dtype: of the weight.
  ///   - areWhole: whether `names` are whole names.
  init(
    _ linear: LinearSpec, _ scheme: QuantizationScheme, dtype: DType, layout: CodeLayout,
    names: Names, areWhole: Bool = false
  ) {
    guard let arguments = scheme.weights else { preconditionFailure("\(linear.name) has no codes") }
    activations = scheme.inputActivations
    module = linear.name
    outputs = linear.outputs
    inputs = linear.inputs
    self.layout = layout
    let quantizer = WeightQuantizer(
      arguments, columns: inputs, dtype: dtype, signsScales: scheme.signsScales)
    self.quantizer = quantizer
    let groups = quantizer.groups(of: inputs)
    self.groups = groups
    func tensor(_ end: String, _ dtype: DType, _ shape: [Int]) -> TensorSpec {
      TensorSpec(name: areWhole ? end : linear.parameter(end), dtype: dtype, shape: shape)
    }
    codes = tensor(names.codes, layout.dtype, [linear.outputs, layout.elements(inputs)])
    let blocks = quantizer.sharesScales ? (outputs - 1) / quantizer.rowsTogether + 1 : outputs
    scales = tensor(
      names.scales, ScaleLayout(quantizer.scales).dtype,
      arguments.strategy == .tensor ? [1] : [blocks, groups])
    zeroPoints =
      quantizer.numbers.hasZeroPoints
      ? names.zeroPoints.map {
        tensor($0, layout.dtype, [layout.elements(linear.outputs), groups])
      }
      : nil
    globalScale = names.globalScale.map { tensor($0, .f32, [1]) }
    // What loads the parts of a fused Linear takes no shape.
    shape = linear.isFused ? nil : names.shape.map { tensor($0, .i64, [2]) }
    let inputType = globalScale == nil ? dtype : .f32
    let isStored = activations.map { $0.dynamic != .always } ?? false
    inputScale = isStored ? names.inputScale.map { tensor($0, inputType, [1]) } : nil
  }

  var tensors: [TensorSpec] {
    [codes, scales] + [zeroPoints, shape, globalScale, inputScale].compactMap { $0 }
  }

  var outputsTogether: (count: Int, what: String)? {
    if quantizer.sharesScales, quantizer.rowsTogether < outputs {
      return (quantizer.rowsTogether, "blocks")
    }
    if zeroPoints == nil { return nil }
    // The least number of codes that fill whole elements.
    let count = (1...32).first { layout.byteCount($0) * 8 == layout.bits * $0 } ?? 1
    return count > 1 ? (count, "packed zero points") : nil
  }

  var pages: (bytes: Int, rowBytes: Int) {
    let all = [codes, scales] + (zeroPoints.map { [$0] } ?? [])
    return (all.reduce(0) { $0 + $1.byteCount }, layout.byteCount(inputs))
  }

  var codeWidth: Int { layout.bits }

  private var scaleLayout: ScaleLayout { ScaleLayout(quantizer.scales) }

  // MARK: Writing

  func encode(_ rounded: QuantizedRows, rows: Range<Int>, write: TensorWrite) throws {
    let rowBytes = layout.byteCount(inputs)
    try unsafe encodedCodes(rounded).withUnsafeBytes {
      try unsafe write($0, codes.name, rows.lowerBound * rowBytes)
    }
    if !quantizer.sharesScales {
      let bytes = scaleLayout.encoded(rounded.scales, globalScale: rounded.globalScale)
      try unsafe bytes.withUnsafeBytes {
        try unsafe write($0, scales.name, rows.lowerBound * groups * scales.dtype.byteWidth)
      }
    }
    if let zeroPoints {
      try unsafe encodedZeroPoints(rounded).withUnsafeBytes {
        try unsafe write($0, zeroPoints.name, layout.byteCount(rows.lowerBound) * groups)
      }
    }
  }

  func encodeRest(_ whole: WholeWeight, write: TensorWrite) throws {
    if let shape {
      try unsafe [Int64(outputs), Int64(inputs)].withUnsafeBytes {
        try unsafe write($0, shape.name, 0)
      }
    }
    if quantizer.sharesScales {
      try unsafe scaleLayout.encoded(whole.scales, globalScale: 1).withUnsafeBytes {
        try unsafe write($0, scales.name, 0)
      }
    }
    if let globalScale {
      try unsafe globalScale.dtype.encoded([whole.globalScale]).withUnsafeBytes {
        try unsafe write($0, globalScale.name, 0)
      }
    }
    if let inputScale, let activations {
      let scale = ActivationQuantizer.stored(
        activations, largest: whole.largestInput, as: inputScale.dtype)
      try unsafe inputScale.dtype.encoded([scale]).withUnsafeBytes {
        try unsafe write($0, inputScale.name, 0)
      }
    }
  }

  private func encodedCodes(_ rounded: QuantizedRows) -> [UInt8] {
    let rowBytes = layout.byteCount(rounded.columns)
    return unsafe [UInt8](unsafeUninitializedCapacity: rounded.rows * rowBytes) { buffer, count in
      unsafe rounded.codes.withUnsafeBufferPointer { codes in
        guard let from = codes.baseAddress, let to = buffer.baseAddress else { return }
        for row in 0..<rounded.rows {
          unsafe layout.encode(
            from + row * rounded.columns, count: rounded.columns,
            into: UnsafeMutableRawPointer(to + row * rowBytes))
        }
      }
      count = rounded.rows * rowBytes
    }
  }

  /// Packed along rows: a column of them at a time.
  private func encodedZeroPoints(_ rounded: QuantizedRows) -> [UInt8] {
    let (elements, width) = (layout.elements(rounded.rows), layout.dtype.byteWidth)
    var result = [UInt8](repeating: 0, count: elements * groups * width)
    var packed = [UInt8](repeating: 0, count: elements * width)
    for group in 0..<groups {
      let column = (0..<rounded.rows).map { rounded.zeroPoints[$0 * groups + group] }
      unsafe packed.withUnsafeMutableBytes {
        unsafe layout.encode(column, count: rounded.rows, into: $0.baseAddress!)
      }
      for element in 0..<elements {
        let place = (element * groups + group) * width
        result.replaceSubrange(
          place..<place + width, with: packed[element * width..<(element + 1) * width])
      }
    }
    return result
  }

  // MARK: Reading

  func decode(_ tensor: (String) -> StoredTensor?) -> (any CodedWeight)? {
    guard let codes = tensor(codes.name), let scales = tensor(scales.name) else { return nil }
    for needed in [zeroPoints, globalScale].compactMap({ $0 }) where tensor(needed.name) == nil {
      return nil
    }
    return CodedRows(
      module: module, quantizer: quantizer, layout: layout, rows: outputs, columns: inputs,
      codes: codes, scales: scales, zeroPoints: zeroPoints.flatMap { tensor($0.name) },
      globalScale: globalScale.flatMap { tensor($0.name) }?.firstNumber ?? 1)
  }

  func activations(_ tensor: (String) -> StoredTensor?) -> ActivationQuantizer? {
    guard let activations, ActivationQuantizer.isServed(activations) else { return nil }
    return ActivationQuantizer(
      activations, columns: inputs,
      stored: inputScale.flatMap { tensor($0.name) }?.firstNumber ?? 1)
  }

  func faults(_ tensor: (String) -> StoredTensor?, windowBytes: Int) -> [StoredFault] {
    [
      tensor(scales.name).flatMap { scaleFault($0, windowBytes: windowBytes) },
      globalScale.flatMap { tensor($0.name) }.flatMap(globalFault),
      inputScale.flatMap { tensor($0.name) }.flatMap(globalFault),
      tensor(shape?.name ?? "").flatMap(shapeFault),
      codes.dtype == .f8E4M3
        ? tensor(codes.name).flatMap { codeFault($0, windowBytes: windowBytes) } : nil,
    ].compactMap { $0 }
  }

  private func scaleFault(_ tensor: StoredTensor, windowBytes: Int) -> StoredFault? {
    scaleLayout.bad(
      tensor, signed: quantizer.signsScales, windowBytes: windowBytes
    ).map { count, place, text in
      StoredFault(
        tensor.name, "element \(place) is \(text)\(count > 1 ? ", \(count) in all" : "")")
    }
  }

  private func globalFault(_ tensor: StoredTensor) -> StoredFault? {
    let value = tensor.firstNumber
    return value > 0 && value.isFinite ? nil : StoredFault(tensor.name, "is \(value)")
  }

  func shapeFault(_ tensor: StoredTensor) -> StoredFault? {
    if tensor.name != shape?.name { return nil }
    let recorded = unsafe tensor.withBytes { bytes in
      (0..<2).map { unsafe bytes.loadUnaligned(fromByteOffset: 8 * $0, as: Int64.self) }
    }
    tensor.release()
    if recorded == [Int64(outputs), Int64(inputs)] { return nil }
    return StoredFault(tensor.name, "says \(recorded), expected \([outputs, inputs])")
  }

  /// Floats of 8 bits have a code for what is no number.
  private func codeFault(_ tensor: StoredTensor, windowBytes: Int) -> StoredFault? {
    for part in ranges(of: tensor.byteCount, by: max(1, windowBytes)) {
      let bad = unsafe tensor.withBytes { bytes in
        unsafe tensor.dtype.firstNonFinite(UnsafeRawBufferPointer(rebasing: bytes[part]))
      }
      tensor.release(bytes: part)
      if let bad {
        return StoredFault(tensor.name, "element \(part.lowerBound + bad) is nan")
      }
    }
    return nil
  }
}
