// What Jinja2 refuses when it compiles a template, before anything is rendered.

/// Names read but not assigned before: how Jinja2 decides whether a macro takes a `caller`.
struct NameReads {
  private var wanted: Set<Symbol>
  private var found: Set<Symbol> = []

  static func of(_ names: Set<Symbol>, in body: [Statement]) -> Set<Symbol> {
    var reads = NameReads(wanted: names)
    reads.visit(body)
    return reads.found
  }

  private mutating func visit(_ body: [Statement]) {
    for statement in body { visit(statement) }
  }

  private mutating func visit(_ statement: Statement) {
    switch statement.kind {
    case .text, .breakLoop, .continueLoop, .otherTemplate, .block: break
    case .output(let value): visit(value)
    case .set(let target, let value):
      assign(target)
      visit(value)
    case .setBlock(let target, let filter, let body):
      assign(target)
      filter.map { visit($0) }
      visit(body)
    case .loop(let loop):
      assign(loop.target)
      visit(loop.iterable)
      visit(loop.body)
      visit(loop.otherwise)
      loop.filter.map { visit($0) }
    case .condition(let branches, let otherwise):
      for branch in branches {
        visit(branch.test)
        visit(branch.body)
      }
      visit(otherwise)
    case .macro(let macro): visit(macro)
    case .callBlock(let macro, let call):
      visit(call)
      visit(macro)
    case .generation(let body): visit(body)
    case .filterBlock(let filter, let body):
      visit(body)
      visit(filter)
    case .with(let pairs, let body):
      for pair in pairs { assign(pair.target) }
      for pair in pairs { visit(pair.value) }
      visit(body)
    }
  }

  private mutating func visit(_ macro: Macro) {
    for parameter in macro.parameters { wanted.remove(parameter.symbol) }
    for parameter in macro.parameters { parameter.fallback.map { visit($0) } }
    visit(macro.body)
  }

  private mutating func visit(_ value: Expression) {
    if case .name(let symbol) = value.kind, wanted.contains(symbol) { found.insert(symbol) }
    for child in value.kind.children { visit(child) }
  }

  private mutating func assign(_ target: Target) {
    switch target {
    case .name(let symbol): wanted.remove(symbol)
    case .attribute: break
    case .tuple(let targets): for target in targets { assign(target) }
    }
  }
}

/// Unknown filters and tests, loop controls outside loops, assignments to `loop`.
struct TemplateChecks {
  private let names: [String]
  private var inLoop = false
  private var loopDepth = 0
  /// In an `if`, and in an inline `if`, Jinja2 looks filters and tests up only when reached.
  private var isLenient = false

  static func check(_ tree: SyntaxTree) throws(Fault) {
    var checks = TemplateChecks(names: tree.names)
    try checks.visit(tree.body)
  }

  private init(names: [String]) {
    self.names = names
  }

  private mutating func visit(_ body: [Statement]) throws(Fault) {
    for statement in body { try visit(statement) }
  }

  /// In a scope of its own, where unknown names are errors again.
  private mutating func scoped(
    inLoop: Bool, _ body: (inout TemplateChecks) throws(Fault) -> Void
  ) throws(Fault) {
    let saved = (self.inLoop, isLenient)
    (self.inLoop, isLenient) = (inLoop, false)
    defer { (self.inLoop, isLenient) = saved }
    try body(&self)
  }

  private mutating func lenient(
    _ body: (inout TemplateChecks) throws(Fault) -> Void
  ) throws(Fault) {
    let saved = isLenient
    isLenient = true
    defer { isLenient = saved }
    try body(&self)
  }

  private mutating func visit(_ statement: Statement) throws(Fault) {
    let line = statement.line
    switch statement.kind {
    case .text, .otherTemplate: break
    case .output(let value): try visit(value)
    case .set(let target, let value):
      try assign(target, line: line)
      try visit(value)
    case .setBlock(let target, let filter, let body):
      try assign(target, line: line)
      try scoped(inLoop: inLoop) { checks throws(Fault) in
        if let filter { try checks.visit(filter) }
        try checks.visit(body)
      }
    case .loop(let loop):
      try visit(loop.iterable)
      try scoped(inLoop: inLoop) { checks throws(Fault) in
        if let filter = loop.filter { try checks.visit(filter) }
        try checks.visit(loop.otherwise)
        checks.inLoop = true
        checks.loopDepth += 1
        try checks.assign(loop.target, line: line)
        try checks.visit(loop.body)
        checks.loopDepth -= 1
      }
    case .condition(let branches, let otherwise):
      try lenient { checks throws(Fault) in
        for branch in branches {
          try checks.visit(branch.test)
          try checks.visit(branch.body)
        }
        try checks.visit(otherwise)
      }
    case .macro(let macro): try visit(macro)
    case .callBlock(let macro, let call):
      try visit(macro)
      try visit(call)
    case .generation(let body):
      try scoped(inLoop: false) { checks throws(Fault) in try checks.visit(body) }
    case .filterBlock(let filter, let body):
      try scoped(inLoop: inLoop) { checks throws(Fault) in
        try checks.visit(body)
        try checks.visit(filter)
      }
    case .with(let pairs, let body):
      for pair in pairs { try visit(pair.value) }
      try scoped(inLoop: inLoop) { checks throws(Fault) in
        for pair in pairs { try checks.assign(pair.target, line: line) }
        try checks.visit(body)
      }
    case .block(let body):
      try scoped(inLoop: false) { checks throws(Fault) in try checks.visit(body) }
    case .breakLoop:
      guard inLoop else { throw Fault(.syntax, "`break` outside of a loop", line: line) }
    case .continueLoop:
      guard inLoop else { throw Fault(.syntax, "`continue` outside of a loop", line: line) }
    }
  }

  private mutating func visit(_ macro: Macro) throws(Fault) {
    try scoped(inLoop: false) { checks throws(Fault) in
      for parameter in macro.parameters {
        if let fallback = parameter.fallback { try checks.visit(fallback) }
      }
      try checks.visit(macro.body)
    }
  }

  private func assign(_ target: Target, line: Int) throws(Fault) {
    switch target {
    case .name(let symbol):
      if loopDepth > 0, names[symbol] == "loop" {
        throw Fault(.syntax, "cannot assign to `loop` in a loop", line: line)
      }
    case .attribute: break
    case .tuple(let targets): for target in targets { try assign(target, line: line) }
    }
  }

  private mutating func visit(_ value: Expression) throws(Fault) {
    if !isLenient {
      switch value.kind {
      case .filter(_, let name, _) where Filter(rawValue: name) == nil:
        throw Fault(.syntax, "no filter named `\(name)`", line: value.line)
      case .test(_, let name, _) where Test(rawValue: name) == nil:
        throw Fault(.syntax, "no test named `\(name)`", line: value.line)
      default: break
      }
    }
    if case .conditional = value.kind {
      try lenient { checks throws(Fault) in
        for child in value.kind.children { try checks.visit(child) }
      }
    } else {
      for child in value.kind.children { try visit(child) }
    }
  }
}
