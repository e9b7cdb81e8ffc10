// What the rest of the program asks of a format, and the formats that there are. A new one is a file in this folder and a
// line in `CompressionFormats.all`.

package import LinearAlgebra
package import Quantization
package import Safetensors
package import Tensors
package import Transformer

/// One way of storing quantized Linears, by the names that compressed-tensors gives it.
package protocol CompressionFormat: Sendable {
  /// Values of `format` in config.json.
  var names: [String] { get }
  /// Tensors that a product with such a weight reads beside `weight`.
  var parts: [WeightPart] { get }
  /// Why weights of a scheme cannot be read; nil where they can.
  func problem(reading scheme: QuantizationScheme) -> ArgumentProblem?
}

/// A format that is written: its Linears are told by the schemes of config.json, and their tensors follow from them.
package protocol WrittenFormat: CompressionFormat {
  /// Why a scheme cannot be written; nil where it can.
  func problem(writing scheme: QuantizationScheme) -> ArgumentProblem?
  /// - Parameters:
  ///   - scheme: one that is written.
  ///   - dtype: of the weight that is quantized.
  func codec(_ linear: LinearSpec, _ scheme: QuantizationScheme, dtype: DType) -> any WeightCodec
}

/// The stored tensors of one quantized Linear: names, types, shapes and contents.
///
/// Rounding asks it to store what it made; a codec never rounds.
package protocol WeightCodec: Sendable {
  /// In the order in which the output lists them.
  var tensors: [TensorSpec] { get }
  /// Outputs that share a stored number, and what that holds; nil where each has its own.
  var outputsTogether: (count: Int, what: String)? { get }
  /// Writes rounded rows to their places.
  ///
  /// - Parameter rows: they begin where stored numbers do.
  func encode(_ rounded: QuantizedRows, rows: Range<Int>, write: TensorWrite) throws
  /// The pages of the stored weight: bytes of all that a product reads, and of the codes of a row.
  var pages: (bytes: Int, rowBytes: Int) { get }
  /// Bits from one code of a row to the next.
  var codeWidth: Int { get }
  /// Writes what belongs to no row.
  ///
  /// - Parameter whole: what was known of the whole weight when its rows were rounded.
  func encodeRest(_ whole: WholeWeight, write: TensorWrite) throws
  /// The numbers of the stored weight; nil where its tensors are not there.
  func decode(_ tensor: (String) -> StoredTensor?) -> (any CodedWeight)?
  /// What an engine makes of the Linear's input; nil where it takes it as it is.
  ///
  /// - Parameter tensor: finds a stored number; without, the file has another.
  func activations(_ tensor: (String) -> StoredTensor?) -> ActivationQuantizer?
  /// What is wrong with the stored numbers by themselves.
  ///
  /// - Parameter windowBytes: how much of a tensor may be mapped at a time.
  func faults(_ tensor: (String) -> StoredTensor?, windowBytes: Int) -> [StoredFault]
  /// What is wrong with a tensor that says what shape the weight has; nil for any other tensor.
  func shapeFault(_ tensor: StoredTensor) -> StoredFault?
}

/// Bytes for a tensor by name, from an offset in it on.
package typealias TensorWrite = (
  _ bytes: UnsafeRawBufferPointer, _ tensor: String, _ offset: Int
) throws -> Void

/// A stored quantized weight that shows what its numbers are made of.
package protocol CodedWeight: WeightRows {
  /// `[rows, columns / group size]`.
  func scales(of rows: Range<Int>) -> [Float]
  /// `[rows, columns / group size]`; nil in a scheme without zero points.
  func zeroPoints(of rows: Range<Int>) -> [Int8]?
  /// What scales of two levels are divided by; 1 for others.
  var globalScale: Float { get }
}

/// Something wrong with a tensor.
package struct StoredFault: Sendable, Equatable {
  package let tensor: String
  package let problem: String

  package init(_ tensor: String, _ problem: String) {
    self.tensor = tensor
    self.problem = problem
  }
}

/// A tensor of a weight by the end of its name.
package struct WeightPart: Sendable, Hashable {
  package let suffix: String
  /// Whether it is as large as the weight, and mapped a tile at a time; else it is small, and stays mapped.
  package let isStreamed: Bool
}

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

/// A preset that no format writes, or none at all.
package struct PresetProblem: Error, CustomStringConvertible, Equatable {
  /// As it was asked for.
  package let name: String
  /// The field because of which it is not written; nil for a name that is no preset.
  package let field: String?
  package let written: [String]

  package init(name: String, field: String?) {
    self.name = name
    self.field = field
    written = CompressionFormats.presets.map(\.name)
  }

  /// Why it is not written, to stand behind its name.
  package var reason: String {
    guard let field else { return "no scheme of compressed-tensors" }
    return "not written yet, because of its `\(field)`"
  }

  package var description: String {
    "'\(name)' is \(reason); choose one of \(written.joined(separator: ", "))"
  }
}

extension SchemePreset {
  /// The scheme of a preset that is written.
  package static func written(_ name: String) throws(PresetProblem) -> QuantizationScheme {
    guard let preset = named(name) else { throw PresetProblem(name: name, field: nil) }
    let scheme = CompressionFormats.asEnginesLoad(preset.scheme)
    if let problem = CompressionFormats.problem(writing: scheme) {
      throw PresetProblem(name: name, field: problem.path.joined(separator: "."))
    }
    return scheme
  }
}

extension StoredTensor {
  /// The elements of a weight or of scales in float32, a window at a time.
  package func forEachPart(windowBytes: Int, _ body: (_ start: Int, _ values: [Float]) -> Void) {
    let width = dtype.byteWidth
    for part in ranges(of: byteCount / width, by: max(1, windowBytes / width)) {
      let values = unsafe withBytes { bytes in
        unsafe [Float](unsafeUninitializedCapacity: part.count) { result, count in
          if let from = bytes.baseAddress, let to = result.baseAddress {
            unsafe dtype.decode(from + part.lowerBound * width, count: part.count, into: to)
          }
          count = part.count
        }
      }
      release(bytes: part.lowerBound * width..<part.upperBound * width)
      body(part.lowerBound, values)
    }
  }
}
