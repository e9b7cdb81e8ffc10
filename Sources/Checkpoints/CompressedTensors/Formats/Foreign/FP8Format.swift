// The `quantization_config` of checkpoints whose weights are FP8: how their scales lie beside them.

package import JSON
internal import Quantization
internal import Safetensors

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
  /// What an engine makes of a Linear's input; nil where it takes it as it is.
  let inputs: QuantizationArguments?
  /// Of keys and values; nil where they are kept as they are.
  let cache: CacheScheme?
  /// Modules that are not FP8: names, and expressions behind `re:`.
  package let ignore: [String]

  /// - Returns: nil for a format whose Linears are told by the schemes of config.json.
  /// - Throws: at the first key that says what Sluice does not understand.
  package init?(_ block: JSONValue, file: String) throws(QuantizationConfigError) {
    var keys = QuantizationKeys(block, file: file)
    switch keys["quant_method"] {
    case "fp8": try self.init(fineGrained: &keys)
    case "compressed-tensors":
      let format = keys["format"].string ?? ""
      guard FloatQuantized().names.contains(format) else {
        let known = CompressionFormats.all.flatMap(\.names)
        if known.contains(format) || format == CompressionFormats.mixed { return nil }
        throw keys.refusal("format", CompressionFormats.oneOf(known))
      }
      try self.init(compressedTensors: block, keys)
    default:
      var refusal = keys.refusal("quant_method", "\"compressed-tensors\" or \"fp8\"")
      refusal.format = ForeignFormats.name(of: block)
      throw refusal
    }
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
    scalePart = FloatQuantized.inversePart
    scalesActivations = false
    // How activations are rounded is up to the reader: transformers decodes such weights where it has no kernel for them.
    inputs = nil
    cache = nil
    ignore = []
    try keys.finish()
  }

  private init(
    compressedTensors block: JSONValue, _ keys: QuantizationKeys
  ) throws(QuantizationConfigError) {
    let config = try QuantizationConfig(block, file: keys.file, formats: [FloatQuantized()])
    guard config.groups.count == 1, let weights = config.groups[0].weights else {
      throw keys.refusal("config_groups", "one group")
    }
    if !config.groups[0].targets.contains(QuantizationScheme.linear) {
      throw QuantizationConfigError(
        file: keys.file, key: "config_groups.targets", expected: "\"Linear\" among them",
        found: "\(config.groups[0].targets)")
    }
    scaling =
      switch weights.strategy {
      case .channel: .channel
      case .block: .blocks(rows: weights.block?.rows ?? 1, columns: weights.block?.columns ?? 1)
      default: .tensor
      }
    scalePart = FloatQuantized.scalePart
    scalesActivations = true
    inputs = config.groups[0].inputActivations
    cache = config.cache
    ignore = config.ignore
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
    let parts = [scalePart] + (scalesActivations ? [FloatQuantized.inputPart] : [])
    return parts.first { tensor.hasSuffix("." + $0) }.map {
      String(tensor.dropLast($0.utf8.count + 1))
    }
  }

  /// Whether a tensor scales what Linears read, or keys and values.
  package func isActivationScale(_ tensor: String) -> Bool {
    scalesActivations && tensor.hasSuffix("." + FloatQuantized.inputPart)
      || cache != nil && CacheScheme.isScale(tensor)
  }

  /// Whether a tensor says how a weight, what a Linear reads, or keys and values are scaled, and is none of the output.
  func isAbout(_ tensor: String) -> Bool {
    module(scaledBy: tensor) != nil || isActivationScale(tensor)
  }

  /// What an engine makes of the input of a module `[T, columns]`; nil where it takes it as it is.
  ///
  /// - Parameter tensor: finds a stored number; without, the file has another.
  func activations(
    of module: String, columns: Int, _ tensor: (String) -> StoredTensor?
  ) -> ActivationQuantizer? {
    guard let inputs, ActivationQuantizer.isServed(inputs) else { return nil }
    return ActivationQuantizer(
      inputs, columns: columns,
      stored: tensor("\(module).\(FloatQuantized.inputPart)")?.firstNumber ?? 1)
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

extension QuantizationKeys {
  /// Rows and columns of a block, both above zero.
  fileprivate mutating func blocks(
    _ key: String
  ) throws(QuantizationConfigError) -> FP8Format.Scaling {
    let sizes = self[key].array?.compactMap(\.size) ?? []
    guard sizes.count == 2, self[key].array?.count == 2,
      sizes.allSatisfy({ 1...(1 << 40) ~= $0 })
    else { throw refusal(key, "two sizes such as [128,128]") }
    return .blocks(rows: sizes[0], columns: sizes[1])
  }
}
