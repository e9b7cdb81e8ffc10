// The groups of Linears that a size is made of: what inference engines load as one has one scheme.

internal import CompressedTensors
internal import Models
internal import Transformer

/// Linears that get one scheme.
struct SizeGroup: Sendable {
  let layer: Int
  let linears: [LinearSpec]
  /// For people, and the same in every run: `model.layers.3.self_attn q_proj k_proj v_proj`.
  let name: String
  /// Names, or expressions, that match these Linears and no others.
  let targets: [String]

  private init(_ linears: [LinearSpec], of layer: LayerSpec) {
    self.layer = layer.index
    self.linears = linears
    let prefix = ModelSpec.layerPrefix(layer.index)
    /// Names without numbers of experts, which one name then stands for.
    let forms = linears.map { Self.parts($0, behind: prefix) }
    let numbered = forms.contains { $0.contains(Self.number) }
    var seen: Set<[String]> = []
    let distinct = forms.filter { seen.insert($0).inserted }
    let parents = Set(distinct.map { $0.dropLast().filter { $0 != Self.number } })
    let last = distinct.compactMap(\.last).joined(separator: " ")
    let parent = parents.count == 1 ? parents.first.map { $0.joined(separator: ".") } ?? "" : ""
    name = prefix + parent + (parent.isEmpty ? "" : " ") + last
    // Others of the layer that the same expressions would match.
    let own = Set(linears.map(\.name))
    let others = layer.linears.filter { !own.contains($0.name) }.map {
      Self.parts($0, behind: prefix)
    }
    targets =
      numbered && Set(others).isDisjoint(with: seen)
      ? distinct.map { Self.expression($0, behind: prefix) } : linears.map(\.name)
  }

  private static let number = "[0-9]+"

  /// What stands behind the layer's number, with numbers left open.
  private static func parts(_ linear: LinearSpec, behind prefix: String) -> [String] {
    linear.name.dropFirst(prefix.count).split(separator: ".", omittingEmptySubsequences: false)
      .map { part in part.allSatisfy { $0.isASCII && $0.isNumber } ? number : String(part) }
  }

  private static func expression(_ parts: [String], behind prefix: String) -> String {
    "re:" + prefix.replacing(".", with: "\\.") + parts.joined(separator: "\\.") + "$"
  }

  /// All groups of a model, in the order of the forward pass.
  ///
  /// - Parameter isAsked: whether a Linear is to be quantized.
  static func all(of spec: ModelSpec, where isAsked: (LinearSpec) -> Bool) -> [SizeGroup] {
    spec.layers.flatMap { layer in
      var places: [String: Int] = [:]
      for (place, group) in layer.fusedGroups.enumerated() {
        for linear in group { places[linear.name] = place }
      }
      var groups: [[LinearSpec]] = []
      var known: [Int: Int] = [:]
      for linear in layer.linears where isAsked(linear) {
        if let place = places[linear.name], let group = known[place] {
          groups[group].append(linear)
        } else {
          if let place = places[linear.name] { known[place] = groups.count }
          groups.append([linear])
        }
      }
      return groups.map { SizeGroup($0, of: layer) }
    }
  }
}
