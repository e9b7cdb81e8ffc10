// What a recipe asks for, and the recipe that says it again.

package import Quantization

/// A smoothing as llm-compressor writes it: patterns of names, `re:EXPRESSION` or exact.
package struct RecipeMapping: Sendable, Equatable {
  package let smoothLayer: String
  package let balanceLayers: [String]
  /// Part of a name, relative to the readers' common parent, whose input is the activation; nil for the readers' own.
  package let activationHookTarget: String?

  package init(smoothLayer: String, balanceLayers: [String], activationHookTarget: String? = nil) {
    self.smoothLayer = smoothLayer
    self.balanceLayers = balanceLayers
    self.activationHookTarget = activationHookTarget
  }
}

/// What a SmoothQuantModifier says beside its mappings.
package struct SmoothQuant: Sendable, Equatable {
  /// Kept for the recipe that is written: the search finds an exponent for each smoothing.
  package var strength: Double
  /// A smoothing is left out where its producer and all its readers are among these.
  package var ignore: [String]

  package init(strength: Double = 0.5, ignore: [String] = []) {
    self.strength = strength
    self.ignore = ignore
  }
}

/// The part of llm-compressor's recipes that Sluice does: AWQ, and schemes that a format writes, by nearest rounding or
/// GPTQ.
///
/// Source: llm-compressor 0.14 `recipe.py`, `AWQModifier`, `SmoothQuantModifier`, `GPTQModifier`, `QuantizationMixin`; compressed-tensors 0.19
/// `QuantizationArgs`.
package struct Recipe: Sendable, Equatable {
  /// Each with its targets: `config_groups`, in the order of the file.
  package var schemes: [QuantizationScheme]
  /// Exact names and `re:EXPRESSION`, never globs.
  package var ignore: [String]
  /// Whether there is an AWQModifier or a SmoothQuantModifier.
  package var smooths: Bool
  /// Set for a SmoothQuantModifier.
  package var smoothQuant: SmoothQuant?
  /// Compensated with a GPTQModifier, to nearest with a QuantizationModifier.
  package var rounding: RoundingMethod
  /// A GPTQModifier's share of the diagonal; nil without one.
  package var damping: Double?
  package var duoScaling: DuoScaling
  package var gridPoints: Int
  /// What to smooth; nil for all that is known of the architecture.
  package var mappings: [RecipeMapping]?
  /// Of keys and values; nil where they are kept as they are.
  package var cache: CacheScheme?

  package init(
    schemes: [QuantizationScheme], ignore: [String] = [], smooths: Bool = true,
    rounding: RoundingMethod = .nearest, damping: Double? = nil,
    duoScaling: DuoScaling = .on, gridPoints: Int = 20, mappings: [RecipeMapping]? = nil,
    cache: CacheScheme? = nil
  ) {
    self.schemes = schemes
    self.ignore = ignore
    self.smooths = smooths
    self.rounding = rounding
    self.damping = damping
    self.duoScaling = duoScaling
    self.gridPoints = gridPoints
    self.mappings = mappings
    self.cache = cache
  }

  /// Parts of a recipe that a flag may stand in for.
  package enum Part: Sendable { case scheme, ignore, cache }

  /// Reads a recipe, YAML or JSON. What it asks for is here, or refused by name; nothing is passed over.
  ///
  /// - Parameter replaced: parts that will not be used, and so need not be understood.
  package init(path: String, replaced: Set<Part> = []) throws(RecipeError) {
    self = try Self.read(try RecipeNode.read(path), file: path, replaced)
  }

  /// Reads a recipe from text; `file` stands in errors.
  package init(text: String, file: String, replaced: Set<Part> = []) throws(RecipeError) {
    self = try Self.read(try RecipeNode.parse(text, file: file), file: file, replaced)
  }

  private static func read(
    _ root: RecipeNode?, file: String, _ replaced: Set<Part>
  ) throws(RecipeError) -> Recipe {
    guard let root else { throw .noModifiers(file: file) }
    var reader = RecipeReader(file: file, replaced: replaced)
    try reader.read(root)
    return try reader.recipe()
  }

  // MARK: Writing

  /// The staged form, which llm-compressor and `init(path:)` read.
  package func yaml() -> String {
    var lines = ["default_stage:", "  default_modifiers:"]
    if smooths, let smoothQuant {
      lines += [
        "    SmoothQuantModifier:", "      smoothing_strength: \(smoothQuant.strength)",
      ]
      if let mappings {
        lines.append("      mappings:")
        for mapping in mappings {
          lines.append("      - [\(quoted(mapping.balanceLayers)), \(quoted(mapping.smoothLayer))]")
        }
      }
      if !smoothQuant.ignore.isEmpty {
        lines.append("      ignore: \(quoted(smoothQuant.ignore))")
      }
    } else if smooths {
      lines += [
        "    AWQModifier:", "      duo_scaling: \(duoScaling.rawValue)",
        "      n_grid: \(gridPoints)",
      ]
      if let mappings {
        lines.append("      mappings:")
        for mapping in mappings {
          lines.append("      - smooth_layer: \(quoted(mapping.smoothLayer))")
          lines.append("        balance_layers: \(quoted(mapping.balanceLayers))")
          if let target = mapping.activationHookTarget {
            lines.append("        activation_hook_target: \(quoted(target))")
          }
        }
      }
    }
    if rounding.needsGram {
      lines.append("    GPTQModifier:")
      if let damping { lines.append("      dampening_frac: \(damping)") }
    } else {
      lines.append("    QuantizationModifier:")
    }
    let isForAll = schemes.map(\.targets) == [[QuantizationScheme.linear]]
    if isForAll { lines.append("      targets: [\(QuantizationScheme.linear)]") }
    if !ignore.isEmpty { lines.append("      ignore: \(quoted(ignore))") }
    if isForAll, let preset = SchemePreset.all.first(where: { $0.scheme.isSame(as: schemes[0]) }) {
      lines.append("      scheme: \(preset.name)")
    } else {
      lines.append("      config_groups:")
      for (index, scheme) in schemes.enumerated() {
        lines += ["        group_\(index):"] + yaml(scheme).map { "          " + $0 }
      }
    }
    if let cache {
      lines +=
        ["      kv_cache_scheme:"]
        + yaml(cache.arguments, ofActivations: true).map { "        " + $0 }
    }
    return lines.joined(separator: "\n") + "\n"
  }

  private func yaml(_ scheme: QuantizationScheme) -> [String] {
    let isForAll = scheme.targets == [QuantizationScheme.linear]
    var lines = [
      "targets: " + (isForAll ? "[\(QuantizationScheme.linear)]" : quoted(scheme.targets))
    ]
    for (key, arguments) in [
      ("weights", scheme.weights), ("input_activations", scheme.inputActivations),
      ("output_activations", scheme.outputActivations),
    ] {
      guard let arguments else { continue }
      lines +=
        ["\(key):"] + yaml(arguments, ofActivations: key != "weights").map { "  " + $0 }
    }
    if let format = scheme.format { lines.append("format: \(format)") }
    return lines
  }

  private func yaml(_ arguments: QuantizationArguments, ofActivations: Bool) -> [String] {
    arguments.askedFields(ofActivations: ofActivations).map { "\($0.key): \(yaml($0.value))" }
  }

  private func yaml(_ value: ArgumentValue) -> String {
    switch value {
    case .null: "null"
    case .bool(let flag): "\(flag)"
    case .int(let number): "\(number)"
    case .text(let text): text
    case .list(let values): "[\(values.map(yaml).joined(separator: ", "))]"
    case .empty, .other: "{}"
    }
  }

  private func quoted(_ text: String) -> String { "'\(text.replacing("'", with: "''"))'" }

  private func quoted(_ texts: [String]) -> String {
    "[\(texts.map { quoted($0) }.joined(separator: ", "))]"
  }
}
