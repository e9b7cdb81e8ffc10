// Tokens to statements: the tags of Jinja2 with transformers' extensions (loop controls,
// `{% generation %}`).

struct Parser {
  private let tokens: [Token]
  private var position = 0
  private var tree = SyntaxTree()
  private var symbols: [TextKey: Symbol] = [:]
  /// The tags that are open, and their ends, for messages.
  private var openTags: [String] = []
  private var depth = 0
  private let stack = StackGuard()

  static func parse(_ text: String) throws(Fault) -> SyntaxTree {
    var parser = Parser(tokens: try Lexer.tokens(of: text))
    let body = try parser.statements(until: [])
    parser.tree.body = body
    try TemplateChecks.check(parser.tree)
    return parser.tree
  }

  private init(tokens: [Token]) {
    self.tokens = tokens
  }

  // MARK: Tokens

  var current: TokenKind { tokens[position].kind }
  var line: Int { tokens[position].line }

  private var following: TokenKind { tokens[min(position + 1, tokens.count - 1)].kind }

  mutating func advance() {
    if position + 1 < tokens.count { position += 1 }
  }

  func isName(_ name: String) -> Bool { current == .name(name) }
  func isSymbol(_ symbol: String) -> Bool { current == .symbol(symbol) }

  /// Whether a keyword argument begins here.
  var isKeywordArgument: Bool {
    guard case .name = current else { return false }
    return following == .symbol("=")
  }

  var isNotIn: Bool { isName("not") && following == .name("in") }

  mutating func skip(name: String) -> Bool {
    guard isName(name) else { return false }
    advance()
    return true
  }

  mutating func skip(symbol: String) -> Bool {
    guard isSymbol(symbol) else { return false }
    advance()
    return true
  }

  mutating func expect(symbol: String) throws(Fault) {
    guard skip(symbol: symbol) else { throw expected("`\(symbol)`") }
  }

  mutating func expectName() throws(Fault) -> String {
    guard case .name(let name) = current else { throw expected("a name") }
    advance()
    return name
  }

  private mutating func expect(name: String) throws(Fault) {
    guard skip(name: name) else { throw expected("`\(name)`") }
  }

  private mutating func expectBlockEnd() throws(Fault) {
    guard current == .blockEnd else { throw expected("the end of the tag") }
    advance()
  }

  func expected(_ what: String) -> Fault {
    failure("expected \(what), got `\(current.text)`")
  }

  func failure(_ message: String, line: Int? = nil) -> Fault {
    Fault(
      .syntax, message, line: line ?? self.line,
      construct: openTags.last.map { "{% \($0) %}" } ?? "")
  }

  mutating func symbol(_ name: String) -> Symbol {
    let key = TextKey(text: name)
    if let symbol = symbols[key] { return symbol }
    symbols[key] = tree.names.count
    tree.names.append(name)
    return tree.names.count - 1
  }

  /// Counts the nesting while `body` parses.
  mutating func nested<R>(_ body: (inout Parser) throws(Fault) -> R) throws(Fault) -> R {
    guard depth < Limits.syntaxDepth, !stack.isExhausted else {
      throw Fault(.tooLarge, "a template nested more than \(Limits.syntaxDepth) deep", line: line)
    }
    depth += 1
    defer { depth -= 1 }
    return try body(&self)
  }

  // MARK: Statements

  /// Up to one of the tags `ends`, which stays the current token; up to the end for none.
  private mutating func statements(until ends: [String]) throws(Fault) -> [Statement] {
    var body: [Statement] = []
    while true {
      let line = line
      switch current {
      case .data(let text):
        advance()
        body.append(Statement(.text(text), line: line))
      case .variableBegin:
        advance()
        let value = try tuple()
        guard current == .variableEnd else { throw expected("`}}`") }
        advance()
        body.append(Statement(.output(value), line: line))
      case .blockBegin:
        advance()
        guard case .name(let name) = current else { throw expected("a tag's name") }
        if ends.contains(name) { return body }
        openTags.append(name)
        defer { openTags.removeLast() }
        body += try nested { parser throws(Fault) in
          try parser.statement(name, ends: ends)
        }
        try expectBlockEnd()
      case .end:
        guard ends.isEmpty else {
          throw failure("the template ends where `\(ends.joined(separator: "` or `"))` is missing")
        }
        return body
      default:
        throw expected("text or a tag")
      }
    }
  }

  private mutating func statement(_ name: String, ends: [String]) throws(Fault) -> [Statement] {
    let line = line
    advance()
    let kind: Statement.Kind
    switch name {
    case "if": kind = try condition()
    case "for": kind = .loop(try loop())
    case "set": kind = try set()
    case "macro": kind = .macro(try macro())
    case "call": kind = try callBlock(line: line)
    case "generation": kind = .generation(try block(until: "endgeneration"))
    case "filter":
      let filter = try filters(nil, first: true)
      kind = .filterBlock(filter, body: try block(until: "endfilter"))
    case "with": kind = try with()
    case "print": return try printed(line: line)
    case "break": kind = .breakLoop
    case "continue": kind = .continueLoop
    case "block": kind = try namedBlock()
    case "include", "import", "from", "extends":
      while current != .blockEnd, current != .end { advance() }
      kind = .otherTemplate(name)
    case "autoescape":
      throw failure("the tag `autoescape` is not supported")
    default:
      openTags.removeLast()
      defer { openTags.append(name) }
      let looking = ends.isEmpty ? "" : "; expected `\(ends.joined(separator: "` or `"))`"
      throw failure("unknown tag `\(name)`\(looking)")
    }
    return [Statement(kind, line: line)]
  }

  /// The rest of the opening tag and the statements up to one of `ends`, which is not taken.
  private mutating func body(until ends: [String]) throws(Fault) -> [Statement] {
    _ = skip(symbol: ":")
    try expectBlockEnd()
    return try statements(until: ends)
  }

  private mutating func block(until end: String) throws(Fault) -> [Statement] {
    let result = try body(until: [end])
    advance()
    return result
  }

  private mutating func condition() throws(Fault) -> Statement.Kind {
    var branches: [(test: Expression, body: [Statement])] = []
    while true {
      let test = try tuple(withConditional: false)
      branches.append((test, try body(until: ["elif", "else", "endif"])))
      if skip(name: "elif") { continue }
      if skip(name: "else") {
        return .condition(branches, otherwise: try block(until: "endif"))
      }
      advance()
      return .condition(branches, otherwise: [])
    }
  }

  private mutating func loop() throws(Fault) -> Loop {
    let target = try target(endingAt: "in")
    try expect(name: "in")
    let iterable = try tuple(withConditional: false, endingAt: "recursive")
    let filter = skip(name: "if") ? try expression() : nil
    let isRecursive = skip(name: "recursive")
    let body = try body(until: ["endfor", "else"])
    var otherwise: [Statement] = []
    if skip(name: "else") {
      otherwise = try block(until: "endfor")
    } else {
      advance()
    }
    return Loop(
      target: target, iterable: iterable, filter: filter, isRecursive: isRecursive, body: body,
      otherwise: otherwise)
  }

  private mutating func set() throws(Fault) -> Statement.Kind {
    let target = try target(withNamespace: true)
    if skip(symbol: "=") { return .set(target, try tuple()) }
    let filter = isSymbol("|") ? try filters(nil, first: false) : nil
    return .setBlock(target, filter: filter, body: try block(until: "endset"))
  }

  private mutating func macro() throws(Fault) -> Macro {
    let name = symbol(try targetName())
    return try macroBody(name: name, parameters: try signature(), until: "endmacro")
  }

  private mutating func callBlock(line: Int) throws(Fault) -> Statement.Kind {
    let parameters = isSymbol("(") ? try signature() : []
    let call = try expression()
    guard case .call = call.kind else { throw failure("expected a call", line: line) }
    return .callBlock(
      try macroBody(name: nil, parameters: parameters, until: "endcall"), call: call)
  }

  private typealias Parameter = (symbol: Symbol, name: String, fallback: Expression?)

  private mutating func signature() throws(Fault) -> [Parameter] {
    var parameters: [Parameter] = []
    try expect(symbol: "(")
    while !isSymbol(")") {
      if !parameters.isEmpty { try expect(symbol: ",") }
      let name = try targetName()
      guard !parameters.contains(where: { sameText($0.name, name) }) else {
        throw failure("the parameter `\(name)` appears twice")
      }
      if skip(symbol: "=") {
        parameters.append((symbol(name), name, try expression()))
      } else {
        guard parameters.last?.fallback == nil else {
          throw failure("a parameter without default follows one with a default")
        }
        parameters.append((symbol(name), name, nil))
      }
    }
    advance()
    return parameters
  }

  private mutating func macroBody(
    name: Symbol?, parameters: [Parameter], until end: String
  ) throws(Fault) -> Macro {
    let line = line
    let body = try block(until: end)
    let names = ["caller", "kwargs", "varargs"].map { symbol($0) }
    let read = NameReads.of(Set(names), in: body)
    func reads(_ index: Int) -> Bool { read.contains(names[index]) }
    func isParameter(_ index: Int) -> Bool { parameters.contains { $0.symbol == names[index] } }
    if reads(0), let caller = parameters.first(where: { $0.symbol == names[0] }),
      caller.fallback == nil
    {
      throw failure("the parameter `caller` needs a default", line: line)
    }
    return Macro(
      name: name, parameters: parameters, body: body, readsCaller: reads(0),
      readsExtraKeywords: reads(1) && !isParameter(1),
      readsExtraPositional: reads(2) && !isParameter(2))
  }

  private mutating func with() throws(Fault) -> Statement.Kind {
    var pairs: [(target: Target, value: Expression)] = []
    while current != .blockEnd {
      if !pairs.isEmpty { try expect(symbol: ",") }
      let target = try target()
      try expect(symbol: "=")
      pairs.append((target, try expression()))
    }
    return .with(pairs, body: try block(until: "endwith"))
  }

  private mutating func printed(line: Int) throws(Fault) -> [Statement] {
    var outputs: [Statement] = []
    while current != .blockEnd {
      if !outputs.isEmpty { try expect(symbol: ",") }
      outputs.append(Statement(.output(try expression()), line: line))
    }
    return outputs
  }

  private mutating func namedBlock() throws(Fault) -> Statement.Kind {
    let name = try expectName()
    while skip(name: "scoped") || skip(name: "required") {}
    let body = try block(until: "endblock")
    _ = skip(name: name)
    return .block(body: body)
  }

  // MARK: Targets

  private mutating func targetName() throws(Fault) -> String {
    let line = line
    let name = try expectName()
    guard !["true", "false", "none", "True", "False", "None"].contains(name) else {
      throw failure("cannot assign to `\(name)`", line: line)
    }
    return name
  }

  /// One name or several with commas, in parentheses or not.
  private mutating func target(
    endingAt end: String? = nil, withNamespace: Bool = false
  ) throws(Fault) -> Target {
    var targets: [Target] = []
    var isTuple = false
    while true {
      if isTupleEnd(end) { break }
      targets.append(try singleTarget(withNamespace: withNamespace))
      guard skip(symbol: ",") else { break }
      isTuple = true
    }
    if !isTuple {
      guard let only = targets.first else { throw expected("a name to assign to") }
      return only
    }
    return .tuple(targets)
  }

  private mutating func singleTarget(withNamespace: Bool) throws(Fault) -> Target {
    if isSymbol("(") {
      return try nested { parser throws(Fault) in
        parser.advance()
        var targets: [Target] = []
        var isTuple = false
        while !parser.isSymbol(")") {
          targets.append(try parser.singleTarget(withNamespace: false))
          guard parser.skip(symbol: ",") else { break }
          isTuple = true
        }
        try parser.expect(symbol: ")")
        return isTuple || targets.isEmpty ? .tuple(targets) : targets[0]
      }
    }
    guard case .name = current else { throw failure("cannot assign to `\(current.text)`") }
    let name = try targetName()
    if withNamespace, skip(symbol: ".") { return .attribute(symbol(name), try expectName()) }
    return .name(symbol(name))
  }

  func isTupleEnd(_ end: String?) -> Bool {
    if current == .variableEnd || current == .blockEnd || isSymbol(")") { return true }
    return end.map { isName($0) } ?? false
  }
}
