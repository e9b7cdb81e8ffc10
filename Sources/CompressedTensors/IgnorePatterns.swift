// Which modules the user does not want quantized: exact names, `re:` expressions and globs.

/// A pattern that cannot be used.
package enum IgnorePatternError: Error, CustomStringConvertible, Equatable {
  /// `origin` is where the pattern stands: an option, or a file and a key.
  case invalidExpression(origin: String, pattern: String, problem: String)
  case matchesNothing(origin: String, pattern: String, nearest: [String])

  package var description: String {
    switch self {
    case .invalidExpression(let origin, let pattern, let problem):
      "\(origin) '\(pattern)': not a regular expression (\(problem))"
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
    case glob([GlobPart])
    case expression(Regex<AnyRegexOutput>)
  }

  package let text: String
  /// Where it stands: an option, or a file and a key.
  package let origin: String
  private let kind: Kind

  package init(_ text: String, origin: String = "--ignore") throws(IgnorePatternError) {
    self.text = text
    self.origin = origin
    if text.hasPrefix("re:") {
      do {
        kind = .expression(try Regex(String(text.dropFirst(3))))
      } catch {
        throw .invalidExpression(origin: origin, pattern: text, problem: "\(error)")
      }
    } else if text.contains(where: { "*?[".contains($0) }) {
      guard let parts = globParts(text) else {
        throw .invalidExpression(origin: origin, pattern: text, problem: "`[` without `]`")
      }
      kind = .glob(parts)
    } else {
      kind = .exact
    }
  }

  package func matches(_ module: String) -> Bool {
    switch kind {
    case .exact: module == text
    case .glob(let parts): globMatches(parts[...], Array(module.utf8)[...])
    // A failure inside the matcher (none is known) must not quantize what the user excluded.
    case .expression(let expression): (try? expression.prefixMatch(in: module)) ?? nil != nil
    }
  }

  /// The same as llm-compressor spells it, which knows no globs.
  package var recipeText: String {
    guard case .glob(let parts) = kind else { return text }
    return "re:" + String(decoding: parts.flatMap(\.expression), as: UTF8.self) + "$"
  }

  /// The modules that any of the patterns matches. A pattern that matches none is an error.
  package static func matching(
    _ patterns: [IgnorePattern], of modules: [String]
  ) throws(IgnorePatternError) -> Set<String> {
    var result: Set<String> = []
    for pattern in patterns {
      let matched = modules.filter(pattern.matches)
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

private enum GlobPart {
  case one(UInt8)
  case anyOne
  case anyRun
  case set([ClosedRange<UInt8>], negated: Bool)

  /// As part of a regular expression.
  var expression: [UInt8] {
    // Also what has a meaning in the sets of some dialects only.
    func escaped(_ byte: UInt8) -> [UInt8] {
      "\\^$.|?*+()[]{}-&~".utf8.contains(byte) ? [UInt8(ascii: "\\"), byte] : [byte]
    }
    return switch self {
    case .one(let byte): escaped(byte)
    case .anyOne: Array(".".utf8)
    case .anyRun: Array(".*".utf8)
    case .set(let ranges, let negated):
      Array((negated ? "[^" : "[").utf8)
        + ranges.flatMap {
          escaped($0.lowerBound)
            + ($0.count > 1 ? [UInt8(ascii: "-")] + escaped($0.upperBound) : [])
        } + Array("]".utf8)
    }
  }
}

/// - Returns: nil for a `[` without `]`.
private func globParts(_ text: String) -> [GlobPart]? {
  var parts: [GlobPart] = []
  var rest = Array(text.utf8)[...]
  while let byte = rest.popFirst() {
    switch byte {
    case UInt8(ascii: "*"): parts.append(.anyRun)
    case UInt8(ascii: "?"): parts.append(.anyOne)
    case UInt8(ascii: "["):
      guard let end = rest.dropFirst().firstIndex(of: UInt8(ascii: "]")) else { return nil }
      var members = rest[rest.startIndex..<end]
      rest = rest[(end + 1)...]
      let negated = members.first == UInt8(ascii: "!")
      if negated { members.removeFirst() }
      var set: [ClosedRange<UInt8>] = []
      while let low = members.popFirst() {
        if members.first == UInt8(ascii: "-"), let high = members.dropFirst().first, low <= high {
          set.append(low...high)
          members = members.dropFirst(2)
        } else {
          set.append(low...low)
        }
      }
      parts.append(.set(set, negated: negated))
    default: parts.append(.one(byte))
    }
  }
  return parts
}

private func globMatches(_ parts: ArraySlice<GlobPart>, _ name: ArraySlice<UInt8>) -> Bool {
  guard let part = parts.first else { return name.isEmpty }
  let later = parts.dropFirst()
  if case .anyRun = part {
    return (name.startIndex...name.endIndex).contains { globMatches(later, name[$0...]) }
  }
  guard let byte = name.first else { return false }
  let matches =
    switch part {
    case .one(let expected): byte == expected
    case .anyOne: true
    case .set(let ranges, let negated): ranges.contains { $0.contains(byte) } != negated
    case .anyRun: true
    }
  return matches && globMatches(later, name.dropFirst())
}

/// Up to three names or globs that the user may have meant.
private func nearest(_ pattern: String, of modules: [String]) -> [String] {
  let below = modules.filter { $0.hasPrefix(pattern + ".") }
  if !below.isEmpty { return ["\(pattern).* (\(below.count) modules)"] }
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

/// Levenshtein distance over bytes.
package func editDistance(_ first: String, _ second: String) -> Int {
  let second = Array(second.utf8)
  var row = Array(0...second.count)
  for (i, a) in first.utf8.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, b) in second.enumerated() {
      let substitution = diagonal + (a == b ? 0 : 1)
      diagonal = row[j + 1]
      row[j + 1] = min(substitution, min(row[j], diagonal) + 1)
    }
  }
  return row[second.count]
}
