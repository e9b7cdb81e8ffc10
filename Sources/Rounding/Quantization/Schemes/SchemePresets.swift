// The schemes that have names, as one table.

/// A named scheme of compressed-tensors.
///
/// Which of them can be written follows from the formats, not from this table.
/// Source: compressed-tensors 0.20 `PRESET_SCHEMES`; all but the MXFP6 ones are in 0.19, too, with the same values.
package struct SchemePreset: Sendable {
  package let name: String
  /// For every Linear.
  package let scheme: QuantizationScheme

  private init(
    _ name: String, _ weights: QuantizationArguments?, inputs: QuantizationArguments? = nil
  ) {
    self.name = name
    scheme = QuantizationScheme(weights: weights, inputActivations: inputs)
  }

  /// Case does not matter, as in compressed-tensors.
  package static func named(_ name: String) -> SchemePreset? {
    all.first { $0.name == name.uppercased() }
  }

  /// What is written where nothing is asked for.
  package static let usual = "W4A16"

  /// Columns that share a scale in the presets of integers in groups.
  package static let groupSize = 128

  // MARK: The table

  private static func integers(_ bits: Int, isSymmetric: Bool = true) -> QuantizationArguments {
    .integers(bits: bits, groupSize: groupSize, isSymmetric: isSymmetric)
  }

  private static func integersByToken(_ bits: Int) -> QuantizationArguments {
    QuantizationArguments(bits: bits, strategy: .token, dynamic: .always)
  }

  private static func floats(
    _ strategy: QuantizationArguments.Strategy, groupSize: Int? = nil,
    block: QuantizationArguments.Block? = nil, dynamic: QuantizationArguments.Dynamic = .never
  ) -> QuantizationArguments {
    QuantizationArguments(
      bits: 8, type: .float, strategy: strategy, groupSize: groupSize, block: block,
      dynamic: dynamic)
  }

  private static func twoLevel(
    _ dynamic: QuantizationArguments.Dynamic = .never
  ) -> QuantizationArguments {
    QuantizationArguments(
      bits: 4, type: .float, strategy: .tensorGroup, groupSize: 16, dynamic: dynamic,
      scaleType: .e4m3)
  }

  private static func microscaled(
    _ bits: Int, _ dynamic: QuantizationArguments.Dynamic = .never
  ) -> QuantizationArguments {
    QuantizationArguments(
      bits: bits, type: .float, strategy: .group, groupSize: 32, dynamic: dynamic,
      scaleType: .uint8)
  }

  package static let all: [SchemePreset] = [
    SchemePreset("UNQUANTIZED", nil),
    SchemePreset("W2A16", integers(2)),
    SchemePreset("W3A16", integers(3)),
    SchemePreset("W4A16", integers(4)),
    SchemePreset("W4A16_ASYM", integers(4, isSymmetric: false)),
    SchemePreset("W5A16", integers(5)),
    SchemePreset("W6A16", integers(6)),
    SchemePreset("W7A16", integers(7)),
    SchemePreset("W8A16", integers(8)),
    SchemePreset("W2A8", integers(2), inputs: integersByToken(8)),
    SchemePreset("W3A8", integers(3), inputs: integersByToken(8)),
    SchemePreset("W4A8", integers(4), inputs: integersByToken(8)),
    SchemePreset("W5A8", integers(5), inputs: integersByToken(8)),
    SchemePreset("W6A8", integers(6), inputs: integersByToken(8)),
    SchemePreset("W7A8", integers(7), inputs: integersByToken(8)),
    SchemePreset("W2A4", integers(2), inputs: integersByToken(4)),
    SchemePreset("W3A4", integers(3), inputs: integersByToken(4)),
    SchemePreset("W4A4", integers(4), inputs: integersByToken(4)),
    SchemePreset(
      "W8A8", QuantizationArguments(bits: 8, strategy: .channel), inputs: integersByToken(8)),
    SchemePreset(
      "INT8", QuantizationArguments(bits: 8, strategy: .channel), inputs: integersByToken(8)),
    SchemePreset("W4AFP8", integers(4), inputs: floats(.token, dynamic: .always)),
    SchemePreset("FP8", floats(.tensor), inputs: floats(.tensor)),
    SchemePreset("FP8_DYNAMIC", floats(.channel), inputs: floats(.token, dynamic: .always)),
    SchemePreset(
      "FP8_BLOCK", floats(.block, block: QuantizationArguments.Block(rows: 128, columns: 128)),
      inputs: floats(.group, groupSize: 128, dynamic: .always)),
    SchemePreset("NVFP4A16", twoLevel()),
    SchemePreset("NVFP4", twoLevel(), inputs: twoLevel(.local)),
    SchemePreset("MXFP4A16", microscaled(4)),
    SchemePreset("MXFP4", microscaled(4), inputs: microscaled(4, .always)),
    SchemePreset(
      "MXFP4XFP8", microscaled(4), inputs: floats(.group, groupSize: 128, dynamic: .always)),
    SchemePreset("MXFP6A16", microscaled(6)),
    SchemePreset("MXFP6A8", microscaled(6), inputs: microscaled(8, .always)),
    SchemePreset("MXFP8A16", microscaled(8)),
    SchemePreset("MXFP8", microscaled(8), inputs: microscaled(8, .always)),
  ]
}
