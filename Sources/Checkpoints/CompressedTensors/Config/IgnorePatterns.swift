// Which modules the user does not want quantized: exact names, `re:` expressions and globs.

internal import Expressions
internal import JSON
internal import SystemIO

/// A pattern that cannot be used.
package enum IgnorePatternError: Error, CustomStringConvertible, Equatable {
  /// `origin` is where the pattern stands: an option, or a file and a key.
  case invalidExpression(origin: String, pattern: String, problem: String)
  case openSet(origin: String, pattern: String)
  case endlessExpression(origin: String, pattern: String, problem: String)
  case matchesNothing(origin: String, pattern: String, nearest: [String])

  package var description: String {
    switch self {
    case .invalidExpression(let origin, let pattern, let problem):
      "\(origin) '\(pattern)': not a regular expression (\(problem)); mend it, or write a glob such as "
        + "'*.mlp.*'"
    case .openSet(let origin, let pattern):
      "\(origin) '\(pattern)': not a glob, as a `[` has no `]` behind it; close it, or write the name without `[`"
    case .endlessExpression(let origin, let pattern, let problem):
      "\(origin) '\(pattern)': \(problem); write a simpler expression, or a glob such as '*.mlp.*'"
    case .matchesNothing(let origin, let pattern, let nearest):
      "\(origin) '\(pattern)' matches no module of this model; "
        + (nearest.isEmpty
          ? "sluice inspect lists the names" : "near misses: \(nearest.joined(separator: ", "))")
    }
  }
}

/// One `--ignore` value, or a pattern of a recipe.
///
/// - `re:EXPRESSION` matches at the start of the whole module name, as Python's `re.match` does in compressed-tensors.
/// - A value with `*`, `?` or `[` is a glob over the whole name, in which `*` also crosses dots: `model.layers.0.*`
///   is layer 0 and nothing else.
/// - Anything else is an exact module name.
package struct IgnorePattern {
  private enum Kind {
    case exact
    case glob(Glob)
    /// With what all its searches share.
    case expression(Expression, Expression.Search)
  }

  package let text: String
  /// Where it stands: an option, or a file and a key.
  package let origin: String
  /// Why what it matches stays as it is, for people.
  package let reason: String
  private let kind: Kind

  /// - Parameter reason: nil for the pattern itself.
  package init(
    _ text: String, origin: String = "--ignore", reason: String? = nil
  ) throws(IgnorePatternError) {
    self.text = text
    self.origin = origin
    self.reason = reason ?? "\(origin) '\(text)'"
    if text.hasPrefix("re:") {
      do throws(Expression.Problem) {
        kind = .expression(
          try Expression(String(text.dropFirst(3)), .python), Expression.Search(.names))
      } catch {
        throw .invalidExpression(origin: origin, pattern: text, problem: error.text)
      }
    } else if FileSystem.isPattern(text) {
      guard let glob = Glob(text) else {
        throw .openSet(origin: origin, pattern: text)
      }
      kind = .glob(glob)
    } else {
      kind = .exact
    }
  }

  package func matches(_ module: String) throws(IgnorePatternError) -> Bool {
    switch kind {
    case .exact: return module == text
    case .glob(let glob): return glob.matches(module)
    case .expression(let expression, let search):
      do throws(Expression.Problem) {
        return try expression.matches(startOf: module, search)
      } catch {
        throw .endlessExpression(origin: origin, pattern: text, problem: error.text)
      }
    }
  }

  /// For what only tells of a match: one that was not found out is none.
  package func fits(_ module: String) -> Bool { (try? matches(module)) ?? false }

  /// The pattern as llm-compressor spells it, which knows no globs.
  package var recipeText: String {
    guard case .glob(let glob) = kind else { return text }
    return "re:\(glob.expression)$"
  }

  /// The modules that any of the patterns matches. A pattern that matches none is an error.
  package static func matching(
    _ patterns: [IgnorePattern], of modules: [String]
  ) throws(IgnorePatternError) -> Set<String> {
    var result: Set<String> = []
    for pattern in patterns {
      var matched: [String] = []
      for module in modules where try pattern.matches(module) { matched.append(module) }
      if matched.isEmpty {
        throw .matchesNothing(
          origin: pattern.origin, pattern: pattern.text,
          nearest: nearest(pattern.text, of: modules))
      }
      result.formUnion(matched)
    }
    return result
  }
}

/// Up to three names or globs that the user may have meant.
private func nearest(_ pattern: String, of modules: [String]) -> [String] {
  // Longer than any name: not worth the time.
  if pattern.utf8.count > 512 { return [] }
  let below = modules.filter { $0.hasPrefix(pattern + ".") }
  if !below.isEmpty { return ["\(pattern).* (\(counted(below.count, "module")))"] }
  if pattern.hasPrefix("re:") || pattern.contains("*") {
    // The longest literal beginning that some module shares.
    let literal = pattern.replacing("re:", with: "").replacing("\\", with: "").prefix {
      !"*?[](){}|+^$".contains($0)
    }
    for length in stride(from: literal.count, to: 0, by: -1) {
      let found = modules.filter { $0.hasPrefix(literal.prefix(length)) }
      if !found.isEmpty { return Array(found.prefix(3)) }
    }
  }
  return modules.map { (editDistance($0, pattern), $0) }
    .sorted { $0 < $1 }.prefix(3).map(\.1)
}
