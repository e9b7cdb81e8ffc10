// Parts of a model by short names, as targets of schemes.

package import Models
internal import Transformer

/// The Linears of a model that do the same work.
package enum ModelPart: String, Sendable, CaseIterable {
  case attention
  /// MLPs without routed experts.
  case dense
  /// Shared experts.
  case shared
  /// Routed experts.
  case experts

  private func linears(of layer: LayerSpec) -> [LinearSpec] {
    layer.branches.flatMap { branch in
      switch branch.mixer {
      case .sequence(let mixer): self == .attention ? mixer.linears : []
      case .tokens(let mlp): linears(of: mlp)
      }
    }
  }

  private func linears(of mlp: MLPSpec) -> [LinearSpec] {
    switch self {
    case .attention: []
    case .dense: mlp.router == nil ? mlp.alwaysOn.flatMap(\.linears) : []
    case .shared: mlp.router == nil ? [] : mlp.alwaysOn.flatMap(\.linears)
    case .experts: mlp.routed.flatMap(\.linears)
    }
  }

  /// Expressions that match the Linears of this part and no others; names where there are no such. Numbers of layers and
  /// experts are left open in them.
  package func targets(of spec: ModelSpec) throws -> [String] {
    let names = spec.layers.flatMap(linears).flatMap(\.modules)
    let meant = Set(names)
    var seen: Set<String> = []
    let expressions = names.map { Self.expression($0) }.filter { seen.insert($0).inserted }
    let others = spec.layers.flatMap(\.linears).flatMap(\.modules).filter { !meant.contains($0) }
    // Names of one form match the same expressions.
    let forms = Set(others.map { Self.expression($0) })
    return forms.isDisjoint(with: seen) ? expressions : names
  }

  /// `re:model\.layers\.[0-9]+\.mlp\.experts\.[0-9]+\.up_proj$`.
  ///
  /// - Parameter prefix: what it begins with, to the letter.
  static func expression(_ name: String, behind prefix: String = "") -> String {
    let parts = name.dropFirst(prefix.count)
      .split(separator: ".", omittingEmptySubsequences: false).map { part in
        part.allSatisfy { $0.isASCII && $0.isNumber } ? "[0-9]+" : String(part)
      }
    return "re:" + prefix.replacing(".", with: "\\.") + parts.joined(separator: "\\.") + "$"
  }
}

extension IgnorePattern {
  /// What a user means by a target: a part of the model, or a pattern as of `--ignore`, in the words of
  /// compressed-tensors.
  package static func targets(
    _ text: String, of spec: ModelSpec, origin: String
  ) throws -> [String] {
    if let part = ModelPart(rawValue: text) {
      let targets = try part.targets(of: spec)
      if targets.isEmpty { throw SchemeTargetError.matchesNothing(origin: origin, target: text) }
      return targets
    }
    // As `lm_head`, by the last part of its name.
    if let end = spec.ends.first(where: { $0.name.split(separator: ".").last == text[...] }) {
      return [end.name]
    }
    return [try IgnorePattern(text, origin: origin).recipeText]
  }
}
