// A value in a file that describes a scheme, whatever the file's language: JSON (config.json) or YAML (a recipe).

/// A value as its file spells it.
package enum ArgumentValue: Sendable, Equatable {
  case null
  case bool(Bool)
  case int(Int)
  case text(String)
  case list([ArgumentValue])
  /// A map without entries.
  case empty
  /// A map, or what has no meaning here: numbers with a fraction, values with a tag.
  case other
}

/// Conformed to by the values of each language, so that names and values of fields are read in one place.
package protocol ArgumentNode {
  var argument: ArgumentValue { get }
  /// The entries of a map; nil for anything else.
  var fields: [(key: String, node: Self)]? { get }
}

/// A field that does not say what it must. Whoever reads the file adds where it stands and what was found there.
package struct ArgumentProblem: Error, Equatable {
  /// Keys from the node that was read down to the field.
  package let path: [String]
  /// nil where no such key is known.
  package let expected: String?
  /// The keys that are known beside an unknown one.
  package var known: [String] = []

  package init(_ path: [String], expected: String?) {
    self.path = path
    self.expected = expected
  }

  package init(unknown path: [String], known: [String]) {
    self.path = path
    expected = nil
    self.known = known
  }

  /// Where a file does not spell the field that is wrong: a strategy follows from the size of the groups.
  package func spelled(in node: some ArgumentNode) -> ArgumentProblem {
    if path.last != "strategy" || node.node(at: path) != nil { return self }
    return ArgumentProblem(path.dropLast() + ["group_size"], expected: "a size above 0")
  }

  /// The problem as seen from the map that holds the node under `key`.
  package func within(_ key: String) -> ArgumentProblem {
    var result = ArgumentProblem([key] + path, expected: expected)
    result.known = known
    return result
  }
}

extension ArgumentNode {
  /// The value at the end of a path of keys; nil where there is none.
  package func node(at path: some Collection<String>) -> Self? {
    guard let key = path.first else { return self }
    return fields?.first { $0.key == key }?.node.node(at: path.dropFirst())
  }

  var isNull: Bool { argument == .null }

  /// A list of texts, or one text for a list of it alone.
  package var texts: [String]? {
    switch argument {
    case .text(let text): return [text]
    case .list(let values):
      let texts = values.compactMap { value -> String? in
        if case .text(let text) = value { text } else { nil }
      }
      return texts.count == values.count ? texts : nil
    default: return nil
    }
  }
}
