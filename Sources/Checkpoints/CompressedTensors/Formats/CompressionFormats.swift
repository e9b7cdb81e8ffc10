// The formats that there are, and which of them a scheme is stored in. A new one is a file in this folder and a line in
// `CompressionFormats.all`.

package import Quantization
internal import Tensors
package import Transformer

package enum CompressionFormats {
  /// Every format that is read or written.
  package static let all: [any CompressionFormat] =
    [PackQuantized(), IntQuantized(), FloatQuantized(), TwoLevelQuantized()] + Microscaled.all

  /// The formats that are written.
  package static let written: [any WrittenFormat] = all.compactMap { $0 as? any WrittenFormat }

  /// The sizes of groups that a user may choose among.
  package static let groupSizes = PackQuantized.groupSizes
  /// Those that are chosen among where the user names none.
  package static let usualGroupSizes = PackQuantized.usualGroupSizes

  /// Every tensor that a product with a weight may read, by the end of its name.
  package static let weightParts: [WeightPart] = {
    var parts = [WeightPart(suffix: ".weight", isStreamed: true)]
    for part in all.flatMap(\.parts) where !parts.contains(part) { parts.append(part) }
    return parts
  }()

  /// Bytes of a Linear's weight, stored in any format.
  ///
  /// - Parameter byteCount: of a tensor that is there.
  package static func storedBytes(
    of linear: LinearSpec, _ byteCount: (_ tensor: String) -> Int?
  ) -> Int {
    weightParts.reduce(0) { $0 + (byteCount(linear.parameter($1.suffix)) ?? 0) }
  }

  /// Scales of activations that are made before a model is saved: no part of any weight.
  static let activationParts = ["input_scale", "input_zero_point", "input_global_scale"].map {
    "." + $0
  }

  /// Whether a tensor is the scale of activations that a quantized Linear reads, or of keys and values.
  ///
  /// - Parameter isCoded: whether a weight is stored as codes.
  static func isActivationScale(
    _ name: String, _ schemes: LinearSchemes?, isCoded: (_ weight: String) -> Bool
  ) -> Bool {
    if schemes?.cache != nil, CacheScheme.isScale(name) { return true }
    return activationParts.contains { part in
      name.hasSuffix(part)
        && isCoded(ParameterName.weight(of: String(name.dropLast(part.count))))
    }
  }

  /// What `format` says of an output whose Linears are stored in more than one.
  static let mixed = "mixed-precision"

  package static func name(of scheme: QuantizationScheme) -> String {
    scheme.format ?? inferredName(for: scheme)
  }

  /// The first version of compressed-tensors, of the two that were compared, that knows a scheme: 0.19 has no floats of 6
  /// bits, and stores all else alike.
  static func version(of scheme: QuantizationScheme) -> String {
    guard let weights = scheme.weights, weights.type == .float, weights.bits == 6 else {
      return "0.19.0"
    }
    return "0.20.1"
  }

  /// Whether a scheme is stored in the format that it has where none is named.
  package static func isUsual(_ scheme: QuantizationScheme) -> Bool {
    var plain = scheme
    plain.format = nil
    return name(of: scheme) == name(of: asEnginesLoad(plain))
  }

  /// The format that compressed-tensors stores a scheme in.
  ///
  /// Source: compressed-tensors 0.19 `compressors/format.py`, and 0.20 for 6 bits.
  static func inferredName(for scheme: QuantizationScheme) -> String {
    guard let weights = scheme.weights else { return "dense" }
    if weights.type == .int {
      return scheme.inputActivations != nil
        ? "int-quantized" : weights.bits <= 8 ? "pack-quantized" : "naive-quantized"
    }
    return switch (weights.bits, weights.groupSize) {
    case (4, 32): "mxfp4-pack-quantized"
    case (6, 32): "mxfp6-pack-quantized"
    case (8, 32): "mxfp8-quantized"
    case (4, 16): "nvfp4-pack-quantized"
    default: scheme.inputActivations != nil ? "float-quantized" : "naive-quantized"
    }
  }

  /// A scheme is the same whether its file names the format that follows from it or not.
  package static func withoutInferredFormat(_ scheme: QuantizationScheme) -> QuantizationScheme {
    var result = scheme
    result.format = nil
    // A format that would not be chosen here was named on purpose.
    return scheme.format == inferredName(for: result) && asEnginesLoad(result) == result
      ? result : scheme
  }

  private static func written(by name: String) -> (any WrittenFormat)? {
    written.first { $0.names.contains(name) }
  }

  /// Why no format writes a scheme; nil where one does.
  package static func problem(writing scheme: QuantizationScheme) -> ArgumentProblem? {
    if let weights = scheme.weights, weights.type == .int, weights.bits > 8 {
      return PackQuantized().problem(writing: scheme)
    }
    if let format = written(by: name(of: scheme)) { return format.problem(writing: scheme) }
    if scheme.format != nil {
      return ArgumentProblem(["format"], expected: oneOf(written.flatMap(\.names)))
    }
    // What keeps it from the formats that there are; there is always one of these.
    let problems = written.compactMap { $0.problem(writing: scheme) }
    return problems.first ?? ArgumentProblem(["format"], expected: oneOf(written.flatMap(\.names)))
  }

  /// The presets that are written.
  package static let presets: [SchemePreset] = SchemePreset.all.filter {
    problem(writing: asEnginesLoad($0.scheme)) == nil
  }

  /// A scheme that names no format, in the one that engines load: integers of few bits are packed, also beside
  /// activations, where compressed-tensors would give each a byte.
  package static func asEnginesLoad(_ scheme: QuantizationScheme) -> QuantizationScheme {
    guard scheme.format == nil, scheme.inputActivations != nil, let weights = scheme.weights,
      weights.type == .int, weights.bits < 8
    else { return scheme }
    var result = scheme
    result.format = PackQuantized.formatName
    return result
  }

  /// - Parameter scheme: one that is written.
  static func codec(
    _ linear: LinearSpec, _ scheme: QuantizationScheme, dtype: DType
  ) -> any WeightCodec {
    guard let format = written(by: name(of: scheme)) else {
      preconditionFailure("nothing writes \(scheme.words)")
    }
    return format.codec(linear, scheme, dtype: dtype)
  }

  /// Names for a message: `"a", "b" or "c"`.
  static func oneOf(_ names: [String]) -> String { alternatives(names.map { "\"\($0)\"" }) }

  /// Values for a message: `32, 64 or 128`.
  package static func alternatives(_ values: [String]) -> String {
    guard let last = values.last, values.count > 1 else { return values.first ?? "" }
    return values.dropLast().joined(separator: ", ") + " or " + last
  }
}
