// What becomes of some Linears: how their weights and activations are quantized, and how that is stored.

/// The `QuantizationScheme` of compressed-tensors: one entry of `config_groups`.
///
/// Source: compressed-tensors 0.19 `quantization/quant_scheme.py`.
package struct QuantizationScheme: Sendable, Hashable {
  /// Names of modules, `re:EXPRESSION`, or the class `Linear`.
  package var targets: [String]
  package var weights: QuantizationArguments?
  package var inputActivations: QuantizationArguments?
  package var outputActivations: QuantizationArguments?
  /// nil for the one that compressed-tensors infers.
  package var format: String?

  /// The class that stands for every Linear that nothing else targets.
  package static let linear = "Linear"

  package init(
    targets: [String] = [QuantizationScheme.linear], weights: QuantizationArguments?,
    inputActivations: QuantizationArguments? = nil, outputActivations: QuantizationArguments? = nil,
    format: String? = nil
  ) {
    self.targets = targets
    self.weights = weights
    self.inputActivations = inputActivations
    self.outputActivations = outputActivations
    self.format = format
  }

  /// With other targets.
  package func targeting(_ targets: [String]) -> QuantizationScheme {
    var result = self
    result.targets = targets
    return result
  }

  /// With groups of another size, where there are groups whose size is free.
  package func grouped(by groupSize: Int) -> QuantizationScheme {
    var result = self
    result.weights = weights?.grouped(by: groupSize)
    return result
  }

  /// Whether scales of weights may be negative: where activations stay as they are, a weight is its code times the scale.
  ///
  /// Source: compressed-tensors 0.20 `dequantize`; vLLM 0.33 `compressed_tensors_wNa16.py` and the loaders in
  /// `kernels/linear/mixed_precision`, none of which looks at the sign. Its compiled kernels were not run.
  package var signsScales: Bool { inputActivations == nil }

  /// What rounding leaves of a weight's energy where nothing was measured: a quarter for each bit.
  package var assumedLoss: Double {
    Double(sign: .plus, exponent: -2 * (weights?.bits ?? 0), significand: 1)
  }

  /// Whether two schemes make the same of a Linear, whatever they target.
  package func isSame(as other: QuantizationScheme) -> Bool {
    targeting([]) == other.targeting([])
  }

  // MARK: For people

  /// The preset that this is with any group size, in whatever format.
  package var preset: SchemePreset? {
    var plain = self
    plain.format = nil
    return SchemePreset.all.first { preset in
      plain.isSame(as: preset.scheme.grouped(by: weights?.groupSize ?? 0))
    }
  }

  /// As `--scheme` names it, where it can.
  package var name: String {
    if let preset { return preset.name }
    guard let weights else { return "unquantized" }
    let arguments = [inputActivations, outputActivations].compactMap { $0 }
    if arguments.isEmpty, weights.strategy == .group, weights.type == .int {
      return "\(weights.bits) bits\(weights.isSymmetric ? "" : " asymmetric")"
    }
    return ([weights] + arguments).map(\.words).joined(separator: ", ")
  }

  /// Name, and group size where that is free: `W4A16 in groups of 32`.
  package var words: String {
    guard let preset, let weights else { return weights?.words ?? name }
    if grouped(by: 1) == self { return preset.name }
    return "\(preset.name) in groups of \(weights.groupSize ?? 0)"
  }

  // MARK: Reading

  package static let keys = [
    "targets", "weights", "input_activations", "output_activations", "format",
  ]

  /// Reads an entry of `config_groups`. Without `targets` it is for every Linear.
  package init(_ node: some ArgumentNode) throws(ArgumentProblem) {
    guard let fields = node.fields else { throw ArgumentProblem([], expected: "a mapping") }
    if let unknown = fields.first(where: { !Self.keys.contains($0.key) }) {
      throw ArgumentProblem(unknown: [unknown.key], known: Self.keys)
    }
    func arguments(_ key: String) throws(ArgumentProblem) -> QuantizationArguments? {
      guard let node = node.node(at: [key]), !node.isNull else { return nil }
      do {
        return try QuantizationArguments(node, ofActivations: key == "input_activations")
      } catch {
        throw error.within(key)
      }
    }
    var targets = [Self.linear]
    if let node = node.node(at: ["targets"]), !node.isNull { targets = try Self.targets(node) }
    var format: String?
    if let node = node.node(at: ["format"]), !node.isNull {
      guard case .text(let text) = node.argument else {
        throw ArgumentProblem(["format"], expected: "the name of a format")
      }
      format = text
    }
    self.init(
      targets: targets, weights: try arguments("weights"),
      inputActivations: try arguments("input_activations"),
      outputActivations: try arguments("output_activations"), format: format)
  }

  /// A list of targets. Of the classes that compressed-tensors knows, a checkpoint tells only Linears.
  package static func targets(_ node: some ArgumentNode) throws(ArgumentProblem) -> [String] {
    guard let texts = node.texts, !texts.isEmpty, texts.allSatisfy(isTarget) else {
      throw ArgumentProblem(["targets"], expected: "a list of Linear, names and re:EXPRESSION")
    }
    return texts
  }

  private static func isTarget(_ text: String) -> Bool {
    if text == linear || text.hasPrefix("re:") { return true }
    let isClass = !text.contains(".") && text.first?.isUppercase == true
    return !text.isEmpty && !isClass && !text.contains { "*?[".contains($0) }
  }
}
