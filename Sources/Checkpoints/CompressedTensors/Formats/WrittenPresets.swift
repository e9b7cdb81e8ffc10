// Named schemes as they are asked for: in the format that is written, or refused with the field that keeps them from it.

package import Quantization

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
