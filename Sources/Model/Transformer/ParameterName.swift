// What the parameters of a module are called: the one place that knows the ends of their names.

/// Names of parameters, as transformers has them.
package enum ParameterName {
  private static let weightEnd = ".weight"

  package static func weight(of module: String) -> String { module + weightEnd }

  package static func bias(of module: String) -> String { module + ".bias" }

  /// The module whose weight a parameter is; nil for any other parameter.
  package static func module(ofWeight parameter: String) -> String? {
    parameter.hasSuffix(weightEnd) ? String(parameter.dropLast(weightEnd.count)) : nil
  }
}
