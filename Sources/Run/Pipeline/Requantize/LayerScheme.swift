// A scheme for some layers of a model, among those that the others keep.

package import Quantization
internal import Transformer

/// A scheme for some layers.
package struct LayerScheme: Sendable, Equatable {
  package let layers: [ClosedRange<Int>]
  /// As they were typed.
  package let text: String
  package let scheme: QuantizationScheme

  package init(layers: [ClosedRange<Int>], text: String, scheme: QuantizationScheme) {
    self.layers = layers
    self.text = text
    self.scheme = scheme
  }

  /// Schemes in which these layers have this one, and all others what they had.
  func apply(
    to groups: [QuantizationScheme], of spec: [LayerSpec]
  ) throws(RequantizeError) -> [QuantizationScheme] {
    let known = spec.indices
    guard layers.allSatisfy({ known.contains($0.lowerBound) && known.contains($0.upperBound) })
    else { throw .noSuchLayers(asked: text, last: spec.count - 1) }
    let numbers = spec.indices.filter { index in layers.contains { $0.contains(index) } }
    var prefixes: [String: [Int]] = [:]
    for number in numbers {
      guard let name = spec[number].linears.first?.name else { continue }
      prefixes[Self.prefix(of: name, layer: number), default: []].append(number)
    }
    let patterns = prefixes.sorted { $0.key < $1.key }.map { prefix, numbers in
      prefix.replacing(".", with: "\\.")
        + "(" + numbers.map(String.init).joined(separator: "|") + ")\\..*"
    }
    let outside = patterns.map { "(?!\($0))" }.joined()
    let own = Set(numbers.flatMap { spec[$0].linears.map(\.name) })
    let others = groups.compactMap { group -> QuantizationScheme? in
      let targets = group.targets.compactMap { target -> String? in
        if target.hasPrefix("re:") { return "re:\(outside)\(target.dropFirst(3))" }
        return own.contains(target) ? nil : target
      }
      return targets.isEmpty ? nil : group.targeting(targets)
    }
    return others + [scheme.targeting(patterns.map { "re:\($0)" })]
  }

  /// `model.layers.` of `model.layers.3.mlp.down_proj`.
  private static func prefix(of name: String, layer: Int) -> String {
    let parts = name.split(separator: ".")
    let place = parts.firstIndex(of: "\(layer)") ?? 0
    return parts[..<place].map { "\($0)." }.joined()
  }
}
