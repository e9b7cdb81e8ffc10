// The `ignore` list of config.json, as compressed-tensors reads it.

/// The `ignore` list of compressed-tensors: names, of which there may be thousands, and expressions.
struct IgnoredModules {
  private let names: Set<String>
  private let expressions: [IgnorePattern]

  init(_ patterns: [String], file: String) throws(IgnorePatternError) {
    var (names, expressions): (Set<String>, [IgnorePattern]) = ([], [])
    for pattern in patterns {
      if pattern.hasPrefix("re:") {
        expressions.append(
          try IgnorePattern(pattern, origin: file + ": `quantization_config.ignore`"))
      } else {
        names.insert(pattern)
      }
    }
    self.names = names
    self.expressions = expressions
  }

  func pattern(matching module: String) throws(IgnorePatternError) -> String? {
    if names.contains(module) { return module }
    for expression in expressions where try expression.matches(module) { return expression.text }
    return nil
  }
}
