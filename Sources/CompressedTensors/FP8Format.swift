// The `quantization_config` of checkpoints whose weights are FP8: how their scales lie beside them.

package import JSON

/// How the FP8 weights of a checkpoint are scaled.
///
/// Which weights are FP8 is not said here: those whose tensors are `F8_E4M3`.
/// Source: transformers 5.17 `FineGrainedFP8Config`; compressed-tensors 0.19 `QuantizationArgs`.
package struct FP8Format: Sendable, Equatable {
  /// The numbers of a weight that share a scale.
  package enum Scaling: Sendable, Equatable {
    /// All: `[1]` or `[]`.
    case tensor
    /// A row: `[out, 1]`.
    case channel
    /// A block: `[ceil(out / rows), ceil(in / columns)]`.
    case blocks(rows: Int, columns: Int)
  }

  package let scaling: Scaling
  /// The last part of the name of a Linear's scales: what its weight is multiplied by, whatever it is called.
  package let scalePart: String
  /// Whether there may be scales of activations, which are no part of the weights.
  package let scalesActivations: Bool
  /// Modules that are not FP8: names, and expressions behind `re:`.
  package let ignore: [String]

  /// - Returns: nil for the `pack-quantized` format.
  /// - Throws: at the first key that says what Sluice does not understand.
  package init?(_ block: JSONValue, file: String) throws(QuantizationConfigError) {
    var keys = QuantizationKeys(block, file: file)
    switch keys["quant_method"] {
    case "fp8": try self.init(fineGrained: &keys)
    case "compressed-tensors":
      let format = keys["format"]
      if format == "pack-quantized" { return nil }
      guard format == "float-quantized" || format == "naive-quantized" else {
        throw keys.refusal(
          "format", "\"pack-quantized\", \"float-quantized\" or \"naive-quantized\"")
      }
      try self.init(compressedTensors: &keys, format: format)
    default:
      var refusal = keys.refusal("quant_method", "\"compressed-tensors\" or \"fp8\"")
      refusal.format = keys.otherFormat
      throw refusal
    }
    try keys.finish()
  }

  /// Blocks, as DeepSeek-V3 introduced them.
  private init(fineGrained keys: inout QuantizationKeys) throws(QuantizationConfigError) {
    try keys.require("fmt", oneOf: [nil, "e4m3", "e4m3fn", "float8_e4m3fn"])
    try keys.require("activation_scheme", oneOf: [nil, "dynamic"])
    // Powers of two or not: scales are what their tensors hold.
    try keys.require("scale_fmt", oneOf: [nil, "float", "ue8m0"])
    try keys.require("modules_to_convert", oneOf: [nil, []])
    // Parts of names, which every reader matches in its own way; the types of the tensors say it better.
    keys.pass("modules_to_not_convert", "ignored_layers", "dequantize")
    scaling = try keys.blocks("weight_block_size")
    scalePart = "weight_scale_inv"
    scalesActivations = false
    ignore = []
  }

  private init(
    compressedTensors keys: inout QuantizationKeys, format: JSONValue
  ) throws(QuantizationConfigError) {
    let empty = JSONValue.object(JSONObject())
    try keys.require("quantization_status", oneOf: ["compressed"])
    try keys.require("kv_cache_scheme", oneOf: [nil])
    try keys.require("transform_config", oneOf: [nil, empty])
    if keys["sparsity_config"].object?["format"] != "dense" {
      try keys.require("sparsity_config", oneOf: [nil, empty])
    }
    keys.pass("version", "global_compression_ratio")
    ignore = try keys.names("ignore")

    guard let groups = keys["config_groups"].object, groups.count == 1 else {
      throw keys.refusal("config_groups", "one group")
    }
    var group = QuantizationKeys(
      groups.entries[0].value, file: keys.file, prefix: "config_groups.")
    try group.require("targets", oneOf: [["Linear"]])
    try group.require("format", oneOf: [nil, format])
    try group.require("output_activations", oneOf: [nil])
    group.pass("input_activations")
    var weights = QuantizationKeys(group["weights"], file: keys.file, prefix: "weights.")
    try weights.require("num_bits", oneOf: [8])
    try weights.require("type", oneOf: ["float"])
    try weights.require("symmetric", oneOf: [nil, true])
    try weights.require("dynamic", oneOf: [nil, false])
    try weights.require("actorder", oneOf: [nil])
    try weights.require("group_size", oneOf: [nil])
    weights.pass("observer", "observer_kwargs", "scale_dtype", "zp_dtype")
    switch weights["strategy"] {
    case "tensor": scaling = .tensor
    case "channel": scaling = .channel
    case "block": scaling = try weights.blocks("block_structure")
    default: throw weights.refusal("strategy", "\"tensor\", \"channel\" or \"block\"")
    }
    if case .blocks = scaling {} else { try weights.require("block_structure", oneOf: [nil]) }
    try weights.finish()
    try group.finish()
    scalePart = "weight_scale"
    scalesActivations = true
  }

  /// The numbers that share a scale, of a weight `[out, in]`.
  func block(of shape: [Int]) -> (rows: Int, columns: Int) {
    switch scaling {
    case .tensor: (max(1, shape[0]), max(1, shape[1]))
    case .channel: (1, max(1, shape[1]))
    case .blocks(let rows, let columns): (rows, columns)
    }
  }

  /// Shapes that the scales of a weight `[out, in]` may have.
  func scaleShapes(of shape: [Int]) -> [[Int]] {
    switch scaling {
    case .tensor: [[1], []]
    case .channel: [[shape[0], 1]]
    case .blocks(let rows, let columns):
      [[(shape[0] + rows - 1) / rows, (shape[1] + columns - 1) / columns]]
    }
  }

  package func scales(of module: String) -> String { "\(module).\(scalePart)" }

  /// The module of a tensor that belongs to a quantized weight and is none of the output.
  package func module(scaledBy tensor: String) -> String? {
    let parts = [scalePart] + (scalesActivations ? [Self.activationPart] : [])
    return parts.first { tensor.hasSuffix("." + $0) }.map {
      String(tensor.dropLast($0.utf8.count + 1))
    }
  }

  /// The scale of static activations; what is calibrated here are weights alone.
  static let activationPart = "input_scale"

  package func isActivationScale(_ tensor: String) -> Bool {
    scalesActivations && tensor.hasSuffix("." + Self.activationPart)
  }

  /// For people.
  package var text: String {
    switch scaling {
    case .tensor: "FP8, a scale for each weight"
    case .channel: "FP8, a scale for each row"
    case .blocks(let rows, let columns): "FP8, a scale for each block of \(rows) x \(columns)"
    }
  }
}

/// A `quantization_config` of which every key is asked for, or refused by `finish`. Null is as good as missing.
private struct QuantizationKeys {
  let file: String
  private let object: JSONObject
  private let prefix: String
  private var asked: Set<String> = []

  init(_ value: JSONValue, file: String, prefix: String = "") {
    object = value.object ?? JSONObject()
    self.file = file
    self.prefix = prefix
  }

  subscript(key: String) -> JSONValue {
    mutating get {
      asked.insert(key)
      return object[key] ?? .null
    }
  }

  /// The format of another tool, for people; nil where the tool is unknown.
  var otherFormat: String? {
    let tools = [
      "modelopt": "ModelOpt's", "modelopt_fp4": "ModelOpt's", "awq": "AutoAWQ's", "gptq": "GPTQ's",
      "bitsandbytes": "bitsandbytes'", "mxfp4": "MXFP4", "quark": "Quark's", "hqq": "HQQ's",
      "torchao": "torchao's", "auto-round": "AutoRound's", "fbgemm_fp8": "FBGEMM's FP8",
      "exl2": "EXL2", "exl3": "EXL3",
    ]
    // ModelOpt alone has an algorithm, and names itself elsewhere.
    let method = object["quant_method"]?.string ?? (object["quant_algo"] == nil ? "" : "modelopt")
    guard let tool = tools[method] else { return nil }
    return [tool, object["quant_algo"]?.string].compactMap(\.self).joined(separator: " ")
  }

  mutating func pass(_ keys: String...) { asked.formUnion(keys) }

  func refusal(_ key: String, _ expected: String) -> QuantizationConfigError {
    QuantizationConfigError(
      file: file, key: prefix + key, expected: expected,
      found: object[key]?.serialized() ?? "missing")
  }

  mutating func require(
    _ key: String, oneOf values: [JSONValue]
  ) throws(QuantizationConfigError) {
    if !values.contains(self[key]) {
      throw refusal(key, values.map { $0.serialized() }.joined(separator: " or "))
    }
  }

  /// Rows and columns of a block, both above zero.
  mutating func blocks(_ key: String) throws(QuantizationConfigError) -> FP8Format.Scaling {
    let sizes = self[key].array?.compactMap(\.size) ?? []
    guard sizes.count == 2, self[key].array?.count == 2,
      sizes.allSatisfy({ 1...(1 << 40) ~= $0 })
    else { throw refusal(key, "two sizes such as [128,128]") }
    return .blocks(rows: sizes[0], columns: sizes[1])
  }

  mutating func names(_ key: String) throws(QuantizationConfigError) -> [String] {
    let value = self[key]
    if value == .null { return [] }
    guard let names = value.array, names.allSatisfy({ $0.string != nil }) else {
      throw refusal(key, "a list of module names")
    }
    return names.compactMap(\.string)
  }

  func finish() throws(QuantizationConfigError) {
    for (key, value) in object.entries where !asked.contains(key) && value != .null {
      throw refusal(key, "null")
    }
  }
}
