// YAML as the reader wants it: every value with its line, no tag resolved, nothing executed.

internal import JSON
internal import Quantization
internal import SystemIO
internal import Yams

/// A value of a recipe. JSON is read as the YAML that it is.
struct RecipeNode {
  indirect enum Content {
    /// `isPlain` where it stands without quotes, and may mean a number, a boolean or nothing.
    case scalar(String, isPlain: Bool)
    case list([RecipeNode])
    case map([Entry])
  }

  struct Entry {
    let key: String
    let line: Int
    let value: RecipeNode
  }

  let line: Int
  let content: Content
  /// A tag such as `!!python/object/apply:torch.device`; nil for those of plain YAML and where there is none.
  let tag: String?

  /// Values beyond this many are no recipe but an attack by repeated aliases.
  private static let largest = 200_000

  static func read(_ path: String) throws(RecipeError) -> RecipeNode? {
    let bytes: [UInt8]
    do {
      bytes = try FileSystem.readFile(path, limit: FileSystem.smallFile)
    } catch {
      throw .system(error)
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw .invalidYAML(file: path, line: 0, problem: "not UTF-8 text")
    }
    return try parse(text, file: path)
  }

  /// - Returns: nil for a document without content.
  static func parse(_ text: String, file: String) throws(RecipeError) -> RecipeNode? {
    var budget = largest
    if let line = firstLineTooDeep(text) {
      throw .invalidYAML(
        file: file, line: line, problem: "values nested more than \(deepest) deep")
    }
    if aliases(in: text) > mostAliases {
      throw .invalidYAML(
        file: file, line: 0, problem: "too many values, by more than \(mostAliases) aliases")
    }
    do {
      return try Yams.compose(yaml: text).map { try RecipeNode($0, file, &budget) }
    } catch let error as RecipeError {
      throw error
    } catch let error as YamlError {
      throw .invalidYAML(file: file, line: error.line, problem: error.problem)
    } catch {
      throw .invalidYAML(file: file, line: 0, problem: "\(error)")
    }
  }

  private static let deepest = 500

  /// The parser looks through keys as a whole, where a few aliases of aliases make a value without end.
  private static let mostAliases = 16

  /// How many places of a text can be aliases: a `*` where a value may begin, with a name behind.
  private static func aliases(in text: String) -> Int {
    var before = UInt8(ascii: " ")
    var isOpen = false
    var count = 0
    for byte in text.utf8 {
      if isOpen, !" \n\t,[]{}.*".utf8.contains(byte) { count += 1 }
      isOpen = byte == UInt8(ascii: "*") && " \n\t,[{".utf8.contains(before)
      before = byte
    }
    return count
  }

  /// The parser nests its calls as the text nests values: by brackets, by indicators in one line, by indentation, of
  /// which each level takes a blank.
  private static func firstLineTooDeep(_ text: String) -> Int? {
    var brackets = 0
    for (index, line) in text.utf8.split(
      separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false
    ).enumerated() {
      let start = line.prefix { " -?:".utf8.contains($0) }.count
      for byte in line {
        if "[{".utf8.contains(byte) { brackets += 1 }
        if "]}".utf8.contains(byte) { brackets = max(0, brackets - 1) }
        // In text, too, where brackets may lack their partners: hence no smaller bound.
        if brackets > deepest { return index + 1 }
      }
      // An indicator and its blank are a level, too.
      if start > 2 * deepest { return index + 1 }
    }
    return nil
  }

  private init(_ node: Node, _ file: String, _ budget: inout Int) throws {
    budget -= 1
    let line = node.mark?.line ?? 0
    if budget < 0 {
      throw RecipeError.invalidYAML(file: file, line: line, problem: "too many values")
    }
    self.line = line
    let written: Tag
    switch node {
    case .scalar(let scalar):
      written = scalar.tag
      content = .scalar(
        scalar.string, isPlain: scalar.style == .plain && written.description != Self.textTag)
    case .sequence(let sequence):
      var list: [RecipeNode] = []
      for element in sequence { list.append(try RecipeNode(element, file, &budget)) }
      content = .list(list)
      written = sequence.tag
    case .mapping(let mapping):
      var entries: [Entry] = []
      for (key, value) in mapping {
        guard case .scalar(let name) = key else {
          throw RecipeError.invalidYAML(
            file: file, line: key.mark?.line ?? line, problem: "a key that is no text")
        }
        entries.append(
          Entry(
            key: name.string, line: name.mark?.line ?? line,
            value: try RecipeNode(value, file, &budget)))
      }
      content = .map(entries)
      written = mapping.tag
    case .alias:
      throw RecipeError.invalidYAML(file: file, line: line, problem: "an alias without its anchor")
    }
    let name = written.description
    tag = ["", "?", "!"].contains(name) || Self.plainTags.contains(name) ? nil : name
  }

  private static let textTag = "tag:yaml.org,2002:str"
  private static let plainTags = Set(
    ["str", "int", "float", "bool", "null", "seq", "map"].map { "tag:yaml.org,2002:\($0)" })

  // MARK: Values; a tag that is not understood makes them none of these.

  /// Plain text without a tag, which may mean something else.
  private var plain: String? {
    if tag == nil, case .scalar(let text, true) = content { return text }
    return nil
  }

  var isNull: Bool {
    plain.map { ["", "~", "null", "Null", "NULL"].contains($0) } ?? false
  }

  /// Text in quotes, or plain text that means nothing else.
  var string: String? {
    guard tag == nil, case .scalar(let text, _) = content else { return nil }
    return isNull || bool != nil || int != nil ? nil : text
  }

  /// As in YAML 1.1, which the peer reads.
  var bool: Bool? {
    guard let text = plain else { return nil }
    let lower = text.lowercased()
    guard
      [lower, text.uppercased(), lower.prefix(1).uppercased() + lower.dropFirst()].contains(text)
    else { return nil }
    return ["true", "yes", "on"].contains(lower)
      ? true : ["false", "no", "off"].contains(lower) ? false : nil
  }

  var int: Int? {
    plain.flatMap { Int($0) }
  }

  var double: Double? {
    plain.flatMap { Double($0) }
  }

  var list: [RecipeNode]? {
    if tag == nil, case .list(let values) = content { return values }
    return nil
  }

  var map: [Entry]? {
    if tag == nil, case .map(let entries) = content { return entries }
    return nil
  }

  /// A list of texts, or one text for a list of it alone.
  var strings: [String]? {
    if let string { return [string] }
    guard let list else { return nil }
    let texts = list.compactMap(\.string)
    return texts.count == list.count ? texts : nil
  }

  /// The value in one line, for error messages.
  var text: String {
    let text =
      switch content {
      case .scalar(let text, let isPlain): isPlain ? (text.isEmpty ? "null" : text) : "\"\(text)\""
      case .list(let values): "[\(values.map(\.text).joined(separator: ", "))]"
      case .map(let entries):
        "{\(entries.map { "\($0.key): \($0.value.text)" }.joined(separator: ", "))}"
      }
    return JSONValue.shortened((tag.map { "\($0) " } ?? "") + text)
  }
}

extension RecipeNode: ArgumentNode {
  var argument: ArgumentValue {
    if isNull { return .null }
    if let bool { return .bool(bool) }
    if let int { return .int(int) }
    if let string { return .text(string) }
    if let list { return .list(list.map(\.argument)) }
    return map?.isEmpty == true ? .empty : .other
  }

  var fields: [(key: String, node: RecipeNode)]? { map?.map { ($0.key, $0.value) } }

  /// What a group without anything in it is.
  init(emptyMapAt line: Int) {
    self.line = line
    content = .map([])
    tag = nil
  }
}

extension YamlError {
  fileprivate var line: Int {
    switch self {
    case .scanner(_, _, let mark, _), .parser(_, _, let mark, _), .composer(_, _, let mark, _):
      mark.line
    case .duplicatedKeysInMapping(_, let context): context.mark.line
    default: 0
    }
  }

  fileprivate var problem: String {
    switch self {
    case .reader(let problem, _, _, _), .scanner(_, let problem, _, _),
      .parser(_, let problem, _, _), .composer(_, let problem, _, _):
      problem
    case .duplicatedKeysInMapping(let duplicates, _):
      "\(duplicates.sorted().map { "`\($0)`" }.joined(separator: ", ")) twice in one mapping"
    default: "\(self)"
    }
  }
}
