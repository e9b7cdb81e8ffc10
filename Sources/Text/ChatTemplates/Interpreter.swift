// Runs a syntax tree: statements write to `output`, expressions give values.

import JSON

/// Variables of one scope. A loop's round, a macro call and the block of `set`, `filter`, `with`
/// and `call` have one each; `if` has none.
final class Scope {
  private var variables: [(symbol: Symbol, value: Value)] = []
  private let parent: Scope?

  init(parent: Scope?) {
    self.parent = parent
  }

  func set(_ symbol: Symbol, _ value: Value) {
    if let index = variables.firstIndex(where: { $0.symbol == symbol }) {
      variables[index].value = value
    } else {
      variables.append((symbol, value))
    }
  }

  func get(_ symbol: Symbol) -> Value? {
    var scope: Scope? = self
    while let current = scope {
      for variable in current.variables where variable.symbol == symbol { return variable.value }
      scope = current.parent
    }
    return nil
  }

  func removeAll() { variables = [] }
}

/// A macro, or the block of a call as `caller`, with the scope it was defined in.
final class MacroFunction {
  let name: String?
  let macro: Macro
  fileprivate(set) var scope: Scope?

  init(name: String?, macro: Macro, scope: Scope) {
    self.name = name
    self.macro = macro
    self.scope = scope
  }
}

final class Interpreter {
  private let tree: SyntaxTree
  private let root = Scope(parent: nil)
  private let symbols: [TextKey: Symbol]
  private let loopSymbol: Symbol?
  private var output = ""
  private var steps = 0
  private var work = 0
  private var mostWork = Limits.workBytes
  private let stack = StackGuard()
  /// What may refer to itself in a circle; taken apart after the render.
  private var macros: [MacroFunction] = []
  private var namespaces: [Namespace] = []

  init(_ tree: SyntaxTree) {
    self.tree = tree
    var symbols: [TextKey: Symbol] = [:]
    for (symbol, name) in tree.names.enumerated() { symbols[TextKey(text: name)] = symbol }
    self.symbols = symbols
    loopSymbol = symbols[TextKey(text: "loop")]
  }

  func define(_ name: String, _ value: Value) {
    if let symbol = symbols[TextKey(text: name)] { root.set(symbol, value) }
  }

  /// A value that comes with the chat: what a template may do grows with it.
  func define(_ name: String, input: JSONValue) {
    let value = Value(input)
    mostWork += min(value.weight, 1 << 40) * Limits.workPerByte
    define(name, value)
  }

  func render() throws(Fault) -> String {
    defer {
      for macro in macros { macro.scope = nil }
      for namespace in namespaces { namespace.attributes = Mapping() }
      root.removeAll()
    }
    _ = try run(tree.body, root)
    return output
  }

  func makeNamespace(_ attributes: Mapping) throws(Fault) -> Namespace {
    try checkDepth(attributes.depth)
    let namespace = Namespace()
    namespace.attributes = attributes
    namespaces.append(namespace)
    return namespace
  }

  func countStep() throws(Fault) {
    steps += 1
    guard steps <= Limits.steps else {
      throw Fault(.tooLarge, "more than \(Limits.steps) steps in a render")
    }
  }

  /// - Parameter bytes: that are about to be looked at, or were made.
  func countWork(_ bytes: Int) throws(Fault) {
    let (sum, overflow) = work.addingReportingOverflow(bytes)
    guard !overflow, sum <= mostWork else {
      throw Fault(.tooLarge, "more than \(mostWork) bytes of work in a render")
    }
    work = sum
  }

  /// Of what a variable or a namespace is to hold.
  private func checkDepth(_ depth: Int) throws(Fault) {
    guard depth <= Limits.valueDepth else { throw Fault(.tooLarge, "values nested too deep") }
  }

  // MARK: Statements

  private enum Flow {
    case next, breakLoop, continueLoop
  }

  private func run(_ body: [Statement], _ scope: Scope) throws(Fault) -> Flow {
    for statement in body {
      let flow: Flow
      do {
        flow = try run(statement, scope)
      } catch {
        var fault = error
        fault.line = fault.line ?? statement.line
        fault.construct = fault.construct ?? statement.tag
        throw fault
      }
      if flow != .next { return flow }
    }
    return .next
  }

  private func run(_ statement: Statement, _ scope: Scope) throws(Fault) -> Flow {
    switch statement.kind {
    case .text(let text): try write(text)
    case .output(let expression): try write(try evaluate(expression, scope).str())
    case .set(let target, let expression):
      try requireNamespaces(target, scope)
      try assign(target, try evaluate(expression, scope), scope)
    case .setBlock(let target, let filter, let body):
      let inner = Scope(parent: scope)
      let (text, flow) = try captured { () throws(Fault) in try run(body, inner) }
      guard flow == .next else { return flow }
      var value = Value.string(text)
      if let filter { value = try evaluate(filter, inner, block: value) }
      try assign(target, value, scope)
    case .loop(let loop): return try runLoop(loop, scope)
    case .condition(let branches, let otherwise):
      for branch in branches where try evaluate(branch.test, scope).isTrue() {
        return try run(branch.body, scope)
      }
      return try run(otherwise, scope)
    case .macro(let macro):
      let name = tree.names[macro.name!]
      scope.set(macro.name!, .macro(makeMacro(name, macro, scope)))
    case .callBlock(let macro, let call):
      guard case .call(let callee, let arguments) = call.kind else { break }
      let function = try evaluate(callee, scope)
      var values = try evaluate(arguments, scope)
      values.keywords.append(("caller", .macro(makeMacro("caller", macro, scope))))
      try write(try self.call(function, values).str())
    case .generation(let body):
      _ = try run(body, Scope(parent: scope))
    case .filterBlock(let filter, let body):
      let inner = Scope(parent: scope)
      let (text, flow) = try captured { () throws(Fault) in try run(body, inner) }
      guard flow == .next else { return flow }
      try write(try evaluate(filter, inner, block: .string(text)).str())
    case .with(let pairs, let body):
      let inner = Scope(parent: scope)
      for pair in pairs { try assign(pair.target, try evaluate(pair.value, scope), inner) }
      return try run(body, inner)
    case .block(let body):
      _ = try run(body, Scope(parent: root))
    case .breakLoop: return .breakLoop
    case .continueLoop: return .continueLoop
    case .otherTemplate(let tag):
      throw .failed("`\(tag)` needs another template, and there is none")
    }
    return .next
  }

  private func write(_ text: String) throws(Fault) {
    try checkText(output.utf8.count + text.utf8.count)
    try countWork(text.utf8.count)
    output += text
  }

  private func captured<R>(
    _ body: () throws(Fault) -> R
  ) throws(Fault) -> (text: String, result: R) {
    let saved = output
    output = ""
    defer { output = saved }
    let result = try body()
    return (output, result)
  }

  private func makeMacro(_ name: String?, _ macro: Macro, _ scope: Scope) -> MacroFunction {
    let function = MacroFunction(name: name, macro: macro, scope: scope)
    macros.append(function)
    return function
  }

  // MARK: Assignment

  /// Before the value is computed, as Jinja2 checks it.
  private func requireNamespaces(_ target: Target, _ scope: Scope) throws(Fault) {
    switch target {
    case .name: break
    case .attribute(let symbol, _):
      guard case .namespace? = scope.get(symbol) else {
        throw .failed("cannot assign attribute on non-namespace object")
      }
    case .tuple(let targets):
      for target in targets { try requireNamespaces(target, scope) }
    }
  }

  private func assign(_ target: Target, _ value: Value, _ scope: Scope) throws(Fault) {
    try checkDepth(value.depth)
    switch target {
    case .name(let symbol): scope.set(symbol, value)
    case .attribute(let symbol, let name):
      guard case .namespace(let namespace)? = scope.get(symbol) else {
        throw .failed("cannot assign attribute on non-namespace object")
      }
      try namespace.set(name, value)
    case .tuple(let targets):
      let values = try unpacked(value, count: targets.count)
      for (target, value) in zip(targets, values) { try assign(target, value, scope) }
    }
  }

  // MARK: Loops

  private func runLoop(_ loop: Loop, _ scope: Scope) throws(Fault) -> Flow {
    let values = try evaluate(loop.iterable, scope)
    if !loop.isRecursive { return try runLoop(loop, over: values, scope, depth0: 0) }
    try write(try recursed(loop, over: values, scope, depth0: 0))
    return .next
  }

  private func recursed(
    _ loop: Loop, over values: Value, _ scope: Scope, depth0: Int
  ) throws(Fault) -> String {
    try captured { () throws(Fault) in
      try runLoop(loop, over: values, scope, depth0: depth0)
    }.text
  }

  private func runLoop(
    _ loop: Loop, over values: Value, _ scope: Scope, depth0: Int
  ) throws(Fault) -> Flow {
    guard !stack.isExhausted else { throw tooDeep }
    let state = try loopState(loop, over: values, scope, depth0: depth0)
    if loop.isRecursive {
      state.recurse = { [unowned self] inner throws(Fault) in
        .string(try recursed(loop, over: inner, scope, depth0: depth0 + 1))
      }
    }
    defer { state.end() }
    // Jinja2 notes at the end of a round that there was one: `break` and `continue` skip that,
    // and `else` runs although the loop did.
    var isComplete = false
    while let value = try state.advance() {
      try countStep()
      let inner = Scope(parent: scope)
      try assign(loop.target, value, inner)
      if let loopSymbol { inner.set(loopSymbol, .loop(state)) }
      let flow = try run(loop.body, inner)
      if flow == .breakLoop { break }
      if flow == .next { isComplete = true }
    }
    guard !isComplete, !loop.otherwise.isEmpty else { return .next }
    return try run(loop.otherwise, Scope(parent: scope))
  }

  private func loopState(
    _ loop: Loop, over values: Value, _ scope: Scope, depth0: Int
  ) throws(Fault) -> LoopState {
    let source = try requireIterator(over: values)
    guard let filter = loop.filter else {
      return LoopState(source, count: try values.length(), depth0: depth0)
    }
    let filtered = ValueIterator { [unowned self] () throws(Fault) -> Value? in
      while let value = try source.next() {
        try countStep()
        let inner = Scope(parent: scope)
        try assign(loop.target, value, inner)
        if try evaluate(filter, inner).isTrue() { return value }
      }
      return nil
    }
    return LoopState(filtered, count: nil, depth0: depth0)
  }

  // MARK: Calls

  func call(_ callee: Value, _ arguments: CallArguments) throws(Fault) -> Value {
    switch callee {
    case .function(let function): return try function.call(arguments)
    case .macro(let macro): return .string(try call(macro, arguments))
    case .loop(let loop):
      let bound = try arguments.bound(to: ["iterable"], required: 1, of: "loop")
      guard let recurse = loop.recurse else {
        throw .failed("the loop must have the `recursive` marker to be called recursively")
      }
      return try recurse(bound[0]!)
    case .undefined(let undefined): throw undefined.fault
    default: throw .failed("'\(callee.typeName)' object is not callable")
    }
  }

  private func call(_ function: MacroFunction, _ arguments: CallArguments) throws(Fault) -> String {
    try countStep()
    guard !stack.isExhausted else { throw tooDeep }
    for value in arguments.values { try checkDepth(value.depth) }
    guard let defining = function.scope else { return "" }
    let macro = function.macro
    let scope = Scope(parent: defining)
    let shown = function.name ?? "caller"
    var keywords = arguments.keywords
    func pop(_ name: String) -> Value? {
      guard let index = keywords.firstIndex(where: { sameText($0.name, name) }) else { return nil }
      return keywords.remove(at: index).value
    }
    var missing: [(symbol: Symbol, fallback: Expression)] = []
    var hasCaller = macro.parameters.contains { $0.name == "caller" }
    for (index, parameter) in macro.parameters.enumerated() {
      if index < arguments.positional.count {
        scope.set(parameter.symbol, arguments.positional[index])
      } else if let value = pop(parameter.name) {
        scope.set(parameter.symbol, value)
      } else {
        // Set first of all: a default may name a later parameter, not an outer variable.
        scope.set(
          parameter.symbol,
          .undefined(Undefined("parameter \(quoted(parameter.name)) was not provided")))
        if let fallback = parameter.fallback { missing.append((parameter.symbol, fallback)) }
      }
    }
    if macro.readsCaller, !hasCaller {
      var caller = pop("caller") ?? .none
      if caller.isNone { caller = .undefined(Undefined("No caller defined")) }
      if let symbol = symbols[TextKey(text: "caller")] { scope.set(symbol, caller) }
      hasCaller = true
    }
    if macro.readsExtraKeywords, let symbol = symbols[TextKey(text: "kwargs")] {
      let extra = Mapping()
      for (name, value) in keywords { extra.append(.string(name), value) }
      scope.set(symbol, .dict(extra))
    } else if let extra = keywords.first {
      throw .failed("macro \(quoted(shown)) takes no keyword argument \(quoted(extra.name))")
    }
    let extra = arguments.positional.dropFirst(macro.parameters.count)
    if macro.readsExtraPositional, let symbol = symbols[TextKey(text: "varargs")] {
      scope.set(symbol, .tuple(Elements(Array(extra))))
    } else if !extra.isEmpty {
      throw .failed(
        "macro \(quoted(shown)) takes not more than \(macro.parameters.count) argument(s)")
    }
    return try captured { () throws(Fault) in
      for (symbol, fallback) in missing { scope.set(symbol, try evaluate(fallback, scope)) }
      _ = try run(macro.body, scope)
    }.text
  }

  private func evaluate(
    _ arguments: Arguments, _ scope: Scope
  ) throws(Fault) -> CallArguments {
    var values = CallArguments()
    for expression in arguments.positional {
      values.positional.append(try evaluate(expression, scope))
    }
    for (name, expression) in arguments.keywords {
      values.keywords.append((name, try evaluate(expression, scope)))
    }
    if let spread = arguments.spread {
      values.positional += try elements(of: try evaluate(spread, scope))
    }
    if let spread = arguments.keywordSpread {
      let value = try evaluate(spread, scope)
      if case .undefined(let undefined) = value { throw undefined.fault }
      guard case .dict(let mapping) = value else {
        throw .failed("argument after ** must be a mapping, not \(value.typeName)")
      }
      var names = Set(values.keywords.map { TextKey(text: $0.name) })
      for (key, value) in zip(mapping.keys, mapping.values) {
        guard let name = key.text else { throw .failed("keywords must be strings") }
        guard names.insert(TextKey(text: name)).inserted else {
          throw .failed("got multiple values for keyword argument \(quoted(name))")
        }
        values.keywords.append((name, value))
      }
    }
    return values
  }

  // MARK: Expressions

  private var tooDeep: Fault {
    Fault(.tooLarge, "macros, loops or expressions nested too deep")
  }

  /// - Parameter block: the text of the block for a filter without an operand.
  private func evaluate(
    _ expression: Expression, _ scope: Scope, block: Value? = nil
  ) throws(Fault) -> Value {
    guard !stack.isExhausted else { throw tooDeep }
    do {
      // Every operand and every result passes here.
      let value = try compute(expression, scope, block: block)
      try countWork(value.width)
      return value
    } catch {
      var fault = error
      fault.line = fault.line ?? expression.line
      fault.construct = fault.construct ?? expression.construct
      throw fault
    }
  }

  private func compute(
    _ expression: Expression, _ scope: Scope, block: Value?
  ) throws(Fault) -> Value {
    switch expression.kind {
    case .constant(let literal): return Value(literal)
    case .name(let symbol): return scope.get(symbol) ?? Undefined.name(tree.names[symbol])
    case .attribute(let operand, let name):
      return try attribute(of: try evaluate(operand, scope), named: name)
    case .subscripted(let operand, let key):
      let value = try evaluate(operand, scope)
      return try ChatTemplates.subscripted(value, try evaluate(key, scope))
    case .and(let left, let right):
      let value = try evaluate(left, scope)
      return try value.isTrue() ? try evaluate(right, scope) : value
    case .or(let left, let right):
      let value = try evaluate(left, scope)
      return try value.isTrue() ? value : try evaluate(right, scope)
    case .not(let operand): return .bool(try !evaluate(operand, scope).isTrue())
    case .conditional(let test, let then, let otherwise):
      if try evaluate(test, scope).isTrue() { return try evaluate(then, scope) }
      guard let otherwise else {
        let line = expression.line
        return .undefined(
          Undefined(
            "the inline if-expression on line \(line) evaluated to false and has no else section"))
      }
      return try evaluate(otherwise, scope)
    case .comparison(let first, let rest): return .bool(try comparison(first, rest, scope))
    case .filter(let operand, let name, let arguments):
      return try filter(name, operand, arguments, scope, block: block)
    case .test(let operand, let name, let arguments):
      guard let test = Test(rawValue: name) else {
        throw .failed("no test named `\(name)`")
      }
      let value = try evaluate(operand, scope)
      return .bool(try passes(test, value, try evaluate(arguments, scope)))
    case .call(let callee, let arguments):
      let function = try evaluate(callee, scope)
      return try call(function, try evaluate(arguments, scope))
    case .concatenation, .tuple, .list, .dict: return try collection(expression, scope)
    case .slice, .arithmetic, .negative, .positive: return try operation(expression, scope)
    }
  }

  private func comparison(
    _ first: Expression, _ rest: [(ComparisonOperator, Expression)], _ scope: Scope
  ) throws(Fault) -> Bool {
    var left = try evaluate(first, scope)
    for (op, expression) in rest {
      let right = try evaluate(expression, scope)
      try countWork(left.weight)
      try countWork(right.weight)
      guard try compare(op, left, right) else { return false }
      left = right
    }
    return true
  }

  private func filter(
    _ name: String, _ operand: Expression?, _ arguments: Arguments, _ scope: Scope, block: Value?
  ) throws(Fault) -> Value {
    guard let filter = Filter(rawValue: name) else {
      throw .failed("no filter named `\(name)`")
    }
    // In a chain over a block only the innermost filter has no operand.
    let value: Value
    if let operand {
      value = try evaluate(operand, scope, block: block)
    } else {
      value = block ?? .string("")
    }
    return try apply(filter, value, try evaluate(arguments, scope))
  }

  private func collection(_ expression: Expression, _ scope: Scope) throws(Fault) -> Value {
    func all(_ parts: [Expression]) throws(Fault) -> [Value] {
      var values: [Value] = []
      values.reserveCapacity(parts.count)
      for part in parts { values.append(try evaluate(part, scope)) }
      return values
    }
    switch expression.kind {
    case .concatenation(let parts):
      var text = ""
      for value in try all(parts) {
        text += try value.str()
        try checkText(text.utf8.count)
      }
      return .string(text)
    case .tuple(let parts): return .tuple(Elements(try all(parts)))
    case .list(let parts): return .list(Elements(try all(parts)))
    case .dict(let pairs):
      let mapping = Mapping()
      for pair in pairs {
        let key = try evaluate(pair.key, scope)
        try mapping.set(key, try evaluate(pair.value, scope))
      }
      return .dict(mapping)
    default: return .none
    }
  }

  private func operation(_ expression: Expression, _ scope: Scope) throws(Fault) -> Value {
    switch expression.kind {
    case .arithmetic(let op, let left, let right):
      let value = try evaluate(left, scope)
      return try arithmetic(op, value, try evaluate(right, scope))
    case .negative(let operand): return try negated(try evaluate(operand, scope))
    case .positive(let operand): return try positive(try evaluate(operand, scope))
    case .slice(let operand, let start, let stop, let step):
      let value = try evaluate(operand, scope)
      var bounds: [Value] = []
      for bound in [start, stop, step] {
        bounds.append(
          try bound.map { expression throws(Fault) in try evaluate(expression, scope) } ?? .none)
      }
      return try sliced(value, start: bounds[0], stop: bounds[1], step: bounds[2])
    default: return .none
    }
  }
}

extension Value {
  fileprivate init(_ literal: Literal) {
    switch literal {
    case .none: self = .none
    case .bool(let value): self = .bool(value)
    case .integer(let value): self = .integer(value)
    case .float(let value): self = .float(value)
    case .string(let text): self = .string(text)
    }
  }
}

extension Statement {
  /// The tag as error messages show it.
  fileprivate var tag: String {
    switch kind {
    case .text: ""
    case .output: "{{ }}"
    case .set, .setBlock: "{% set %}"
    case .loop: "{% for %}"
    case .condition: "{% if %}"
    case .macro: "{% macro %}"
    case .callBlock: "{% call %}"
    case .generation: "{% generation %}"
    case .filterBlock: "{% filter %}"
    case .with: "{% with %}"
    case .block: "{% block %}"
    case .breakLoop: "{% break %}"
    case .continueLoop: "{% continue %}"
    case .otherTemplate(let tag): "{% \(tag) %}"
    }
  }
}

extension Expression {
  /// Worth naming in an error; nil leaves that to the expression or tag around it.
  fileprivate var construct: String? {
    switch kind {
    case .filter(_, let name, _): "filter `\(name)`"
    case .test(_, let name, _): "test `\(name)`"
    case .attribute(_, let name): "`.\(name)`"
    case .arithmetic(let op, _, _): "operator `\(op.rawValue)`"
    default: nil
    }
  }
}
