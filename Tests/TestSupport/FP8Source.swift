// A fixture whose Linears became FP8, and a twin that holds the same numbers without scales.

package import JSON
internal import Safetensors
internal import SystemIO
package import Tensors

/// The nearest float8_e4m3fn, ties to even, by its definition: 3 fraction bits, exponents from -6 to 8, at most 448.
package func nearestE4M3(_ value: Float) -> UInt8 {
  let sign: UInt8 = value.sign == .minus ? 0x80 : 0
  let magnitude = min(Double(value.magnitude), 448)
  let exponent = magnitude < 0x1p-6 ? -6 : Int(magnitude.exponent)
  let steps = (magnitude * pow2(3 - exponent)).rounded(.toNearestOrEven)
  // From exponent -6 on, eight codes an octave; the first octave below it has no leading one.
  return sign | UInt8(Int(steps) + 8 * (exponent + 6))
}

/// What a float8_e4m3fn stands for, by the same definition.
package func valueOfE4M3(_ code: UInt8) -> Float {
  let (exponent, fraction) = (Int(code >> 3 & 15), Double(code & 7))
  if code & 0x7f == 0x7f { return .nan }
  let magnitude =
    exponent == 0 ? fraction * 0x1p-9 : (1 + fraction / 8) * pow2(exponent - 7)
  return Float(code & 0x80 == 0 ? magnitude : -magnitude)
}

private func pow2(_ exponent: Int) -> Double {
  Double(sign: .plus, exponent: exponent, significand: 1)
}

package struct FP8Source {
  /// How its weights are scaled, and by which format of config.json.
  package enum Scaling: String, Sendable, CaseIterable {
    /// `quant_method` fp8, blocks that do not divide the weights.
    case blocks
    /// compressed-tensors.
    case compressedBlocks, channel, tensor

    fileprivate func block(_ shape: [Int]) -> (rows: Int, columns: Int) {
      switch self {
      case .blocks, .compressedBlocks: (24, 40)
      case .channel: (1, shape[1])
      case .tensor: (shape[0], shape[1])
      }
    }

    package var scalePart: String { self == .blocks ? "weight_scale_inv" : "weight_scale" }
  }

  package var config: JSONObject
  package var tensors: [LooseTensor]
  /// Every tensor but the scales; those that are FP8 in `tensors` as numbers.
  private let numbers: [(tensor: LooseTensor, values: [Float]?)]
  private let plainConfig: JSONObject
  private let scaling: Scaling

  /// - Parameters:
  ///   - isExact: whether scales are powers of two, so that every number is one of bfloat16.
  ///   - choosing: which weights become FP8; without, those of all projections.
  package init(
    _ fixture: String, _ scaling: Scaling, isExact: Bool = true, scaleType: DType = .f32,
    hasInputScales: Bool = false, choosing: (String) -> Bool = { $0.hasSuffix("_proj.weight") }
  ) throws {
    let folder = fixturePath(fixture)
    let parsed = try JSONValue.parse(FileSystem.readFile(folder + "/config.json"))
    plainConfig = parsed.object ?? JSONObject()
    self.scaling = scaling
    var tensors: [LooseTensor] = []
    var numbers: [(LooseTensor, [Float]?)] = []
    for stored in try ShardedModel(folder: folder).tensors {
      let plain = LooseTensor(
        name: stored.name, dtype: stored.dtype, shape: stored.shape, bytes: stored.bytes)
      guard choosing(stored.name) else {
        tensors.append(plain)
        numbers.append((plain, nil))
        continue
      }
      let weight = Encoded(
        stored.floats, stored.shape, block: scaling.block(stored.shape), isExact: isExact,
        scaleType)
      let module = String(stored.name.dropLast(".weight".count))
      tensors.append(
        LooseTensor(
          name: stored.name, dtype: .f8E4M3, shape: stored.shape, bytes: weight.codes))
      tensors.append(
        LooseTensor(
          "\(module).\(scaling.scalePart)", scaling == .tensor ? [1] : weight.scaleShape,
          weight.scales, as: scaleType))
      if hasInputScales {
        tensors.append(LooseTensor(module + ".input_scale", [1], [0.5], as: .bf16))
      }
      numbers.append((plain, weight.values))
    }
    self.tensors = tensors
    self.numbers = numbers
    config = plainConfig
    config["quantization_config"] = Self.block(scaling, hasInputScales: hasInputScales)
  }

  /// The numbers of a weight that is FP8 here.
  package func values(_ name: String) -> [Float]? {
    numbers.first { $0.tensor.name == name }?.values
  }

  package subscript(name: String) -> LooseTensor? {
    get { tensors.first { $0.name == name } }
    set {
      let place = tensors.firstIndex { $0.name == name }
      if let place { tensors.remove(at: place) }
      if let newValue { tensors.insert(newValue, at: place ?? tensors.count) }
    }
  }

  /// Writes the checkpoint with FP8 weights.
  package func write(to folder: String) throws { try write(config, tensors, to: folder) }

  /// Writes the checkpoint that has its numbers as `dtype`.
  package func writeTwin(to folder: String, as dtype: DType) throws {
    let plain = numbers.map { tensor, values in
      values.map { LooseTensor(tensor.name, tensor.shape, $0, as: dtype) } ?? tensor
    }
    try write(plainConfig, plain, to: folder)
  }

  private func write(_ config: JSONObject, _ tensors: [LooseTensor], to folder: String) throws {
    try FileSystem.createFolder(folder)
    try replaceFile(
      folder + "/config.json", with: Array(JSONValue.object(config).serialized(indent: 2).utf8))
    try LooseTensor.write(tensors, to: folder + "/model.safetensors")
  }

  private static func block(_ scaling: Scaling, hasInputScales: Bool) -> JSONValue {
    if scaling == .blocks {
      return .object(
        JSONObject([
          ("activation_scheme", "dynamic"), ("fmt", "e4m3"),
          ("modules_to_not_convert", ["lm_head"]), ("quant_method", "fp8"),
          ("weight_block_size", [24, 40]),
        ]))
    }
    let strategy = scaling == .compressedBlocks ? "block" : scaling.rawValue
    let weights = JSONObject([
      ("actorder", nil), ("block_structure", strategy == "block" ? [24, 40] : nil),
      ("dynamic", false), ("group_size", nil), ("num_bits", 8), ("observer", "memoryless_minmax"),
      ("observer_kwargs", .object(JSONObject())), ("scale_dtype", nil),
      ("strategy", .string(strategy)), ("symmetric", true), ("type", "float"), ("zp_dtype", nil),
    ])
    let activations = JSONObject([
      ("dynamic", .bool(!hasInputScales)), ("num_bits", 8), ("type", "float"),
      ("strategy", .string(hasInputScales ? "tensor" : "token")),
    ])
    let group = JSONObject([
      ("format", "float-quantized"), ("input_activations", .object(activations)),
      ("output_activations", nil), ("targets", ["Linear"]), ("weights", .object(weights)),
    ])
    return .object(
      JSONObject([
        ("config_groups", .object(JSONObject([("group_0", .object(group))]))),
        ("format", "float-quantized"), ("global_compression_ratio", nil),
        ("ignore", ["lm_head", "re:.*mlp.gate$"]), ("kv_cache_scheme", nil),
        ("quant_method", "compressed-tensors"), ("quantization_status", "compressed"),
        ("sparsity_config", .object(JSONObject())), ("transform_config", .object(JSONObject())),
        ("version", "0.19.0"),
      ]))
  }
}

/// A weight in FP8.
private struct Encoded {
  let codes: [UInt8]
  let scales: [Float]
  let scaleShape: [Int]
  /// What codes and scales stand for.
  let values: [Float]

  init(
    _ weight: [Float], _ shape: [Int], block: (rows: Int, columns: Int), isExact: Bool,
    _ scaleType: DType
  ) {
    let strips = (shape[0] + block.rows - 1) / block.rows
    let blocks = (shape[1] + block.columns - 1) / block.columns
    func place(_ index: Int) -> Int {
      index / shape[1] / block.rows * blocks + index % shape[1] / block.columns
    }
    var largest = [Float](repeating: 0, count: strips * blocks)
    for (index, value) in weight.enumerated() {
      largest[place(index)] = max(largest[place(index)], value.magnitude)
    }
    let scales = scaleType.rounded(
      largest.map { largest in
        let scale = max(largest, 1e-6) / 448
        return isExact ? Float(sign: .plus, exponent: scale.exponent + 1, significand: 1) : scale
      })
    let codes = weight.enumerated().map { nearestE4M3($1 / scales[place($0)]) }
    self.scales = scales
    self.codes = codes
    scaleShape = [strips, blocks]
    values = codes.enumerated().map { valueOfE4M3($1) * scales[place($0)] }
  }
}
