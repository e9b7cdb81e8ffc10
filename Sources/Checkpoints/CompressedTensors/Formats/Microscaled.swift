// The formats of the MX family: floats of 4, 6 or 8 bits in groups of 32, with a power of two for a scale.

package import Quantization
package import Tensors
package import Transformer

/// Floats whose scales are powers of two.
///
/// - `weight_packed` U8: E2M1 `[out, in / 2]`, the first of two in the low half of a byte; E2M3 `[out, 3 in / 4]`, four
///   codes in three bytes. E4M3 stands as F8_E4M3 `[out, in]` in `weight`.
/// - `weight_scale` U8 `[out, in / 32]`: a scale of 2^(code - 127).
///
/// Source: OCP Microscaling Formats 1.0; compressed-tensors 0.20 `MXFP4PackedCompressor` and its brothers.
package struct Microscaled: WrittenFormat {
  private enum Kind { case e2m1, e2m3, e4m3 }

  package static let all = [Microscaled(.e2m1), Microscaled(.e2m3), Microscaled(.e4m3)]

  private let kind: Kind

  private init(_ kind: Kind) { self.kind = kind }

  package var names: [String] {
    switch kind {
    case .e2m1: ["mxfp4-pack-quantized"]
    case .e2m3: ["mxfp6-pack-quantized"]
    case .e4m3: ["mxfp8-quantized"]
    }
  }

  private var tensors: CodedLinear.Names {
    CodedLinear.Names(
      codes: kind == .e4m3 ? ".weight" : ".weight_packed", scales: ".weight_scale")
  }

  private var layout: CodeLayout {
    kind == .e4m3 ? .bytes(.f8E4M3) : .packedBytes(bits: bits)
  }

  private var bits: Int {
    switch kind {
    case .e2m1: 4
    case .e2m3: 6
    case .e4m3: 8
    }
  }

  package var parts: [WeightPart] {
    [
      WeightPart(suffix: tensors.codes, isStreamed: true),
      WeightPart(suffix: tensors.scales, isStreamed: false),
    ]
  }

  package func problem(writing scheme: QuantizationScheme) -> ArgumentProblem? {
    problem(reading: scheme) ?? SchemeChecks(scheme).scaleType(.uint8)
      ?? SchemeChecks(scheme).activations()
  }

  package func problem(reading scheme: QuantizationScheme) -> ArgumentProblem? {
    let checks = SchemeChecks(scheme)
    return checks.weights { weights in
      if weights.type != .float { return checks.expected("type", "float") }
      if weights.bits != bits { return checks.expected("num_bits", "\(bits)") }
      if !weights.isSymmetric { return checks.expected("symmetric", "true") }
      if weights.scaleType != nil, let problem = checks.scaleType(.uint8) { return problem }
      return checks.strategy([.group]) ?? checks.groupSize([32]) ?? checks.outputs()
    }
  }

  package func codec(
    _ linear: LinearSpec, _ scheme: QuantizationScheme, dtype: DType
  ) -> any WeightCodec {
    CodedLinear(linear, scheme, dtype: dtype, layout: layout, names: tensors)
  }

  private static let blocks: QuantizationScheme = {
    guard let preset = SchemePreset.named("MXFP4A16") else { preconditionFailure("no MXFP4A16") }
    return preset.scheme
  }()

  /// A weight as gpt-oss was published: blocks `[out, in / 32, 16]` and scales `[out, in / 32]`, in tensors of other names.
  ///
  /// - Parameters:
  ///   - blocks: the tensor with the codes.
  ///   - scales: the one with the scales.
  static func codec(_ linear: LinearSpec, blocks: String, scales: String) -> any WeightCodec {
    CodedLinear(
      linear, Self.blocks, dtype: .bf16, layout: .packedBytes(bits: 4),
      names: CodedLinear.Names(codes: blocks, scales: scales), areWhole: true)
  }

  /// The shapes in which gpt-oss was published: of the tensor with the codes of a weight, and of the one with its scales.
  static func shapes(ofBlocks linear: LinearSpec) -> (blocks: [Int], scales: [Int]) {
    let scales = [linear.outputs, linear.inputs / 32]
    return (scales + [16], scales)
  }
}
