// A template as a tree: statements and expressions with the lines they stand on.

/// A variable's name as a number; the names themselves stand in `SyntaxTree.names`.
typealias Symbol = Int

struct SyntaxTree: Sendable {
  var body: [Statement] = []
  var names: [String] = []
}

struct Expression: Sendable {
  indirect enum Kind: Sendable {
    case constant(Literal)
    case name(Symbol)
    case tuple([Expression])
    case list([Expression])
    case dict([(key: Expression, value: Expression)])
    case attribute(Expression, String)
    case subscripted(Expression, Expression)
    case slice(Expression, start: Expression?, stop: Expression?, step: Expression?)
    case call(Expression, Arguments)
    /// Without an operand the filter takes the text of its block.
    case filter(Expression?, String, Arguments)
    case test(Expression, String, Arguments)
    case not(Expression)
    case negative(Expression)
    case positive(Expression)
    case arithmetic(ArithmeticOperator, Expression, Expression)
    case concatenation([Expression])
    case and(Expression, Expression)
    case or(Expression, Expression)
    case comparison(Expression, [(ComparisonOperator, Expression)])
    case conditional(test: Expression, then: Expression, otherwise: Expression?)
  }

  let kind: Kind
  let line: Int
  /// 1 for one that has no parts.
  let depth: Int

  init(_ kind: Kind, line: Int) {
    self.kind = kind
    self.line = line
    depth = 1 + kind.children.reduce(0) { max($0, $1.depth) }
  }
}

enum Literal: Sendable {
  case none
  case bool(Bool)
  case integer(BigInteger)
  case float(Double)
  case string(String)
}

enum ArithmeticOperator: String, Sendable {
  case add = "+"
  case subtract = "-"
  case multiply = "*"
  case divide = "/"
  case floorDivide = "//"
  case remainder = "%"
  case power = "**"
}

enum ComparisonOperator: String, Sendable {
  case equal = "=="
  case notEqual = "!="
  case less = "<"
  case lessOrEqual = "<="
  case greater = ">"
  case greaterOrEqual = ">="
  case isIn = "in"
  case notIn = "not in"
}

/// What stands between the parentheses of a call, filter or test.
struct Arguments: Sendable {
  var positional: [Expression] = []
  var keywords: [(name: String, value: Expression)] = []
  /// `*list`
  var spread: Expression?
  /// `**dict`
  var keywordSpread: Expression?

  var isEmpty: Bool {
    positional.isEmpty && keywords.isEmpty && spread == nil && keywordSpread == nil
  }
}

indirect enum Target: Sendable {
  case name(Symbol)
  /// `namespace.attribute`
  case attribute(Symbol, String)
  case tuple([Target])
}

struct Statement: Sendable {
  indirect enum Kind: Sendable {
    case text(String)
    case output(Expression)
    case set(Target, Expression)
    case setBlock(Target, filter: Expression?, body: [Statement])
    case loop(Loop)
    case condition([(test: Expression, body: [Statement])], otherwise: [Statement])
    case macro(Macro)
    /// `{% call … %}`: the call gets the block as `caller`.
    case callBlock(Macro, call: Expression)
    /// `{% generation %}`: marks what the assistant wrote; the text is that of the body.
    case generation([Statement])
    case filterBlock(Expression, body: [Statement])
    case with([(target: Target, value: Expression)], body: [Statement])
    case block(body: [Statement])
    case breakLoop
    case continueLoop
    /// What would need another template; an error where it is reached.
    case otherTemplate(String)
  }

  let kind: Kind
  let line: Int

  init(_ kind: Kind, line: Int) {
    self.kind = kind
    self.line = line
  }
}

struct Loop: Sendable {
  let target: Target
  let iterable: Expression
  let filter: Expression?
  let isRecursive: Bool
  let body: [Statement]
  let otherwise: [Statement]
}

struct Macro: Sendable {
  /// Nil for the body of a call block.
  let name: Symbol?
  let parameters: [(symbol: Symbol, name: String, fallback: Expression?)]
  let body: [Statement]
  /// Which of Jinja's implicit variables the body reads; only these are taken.
  let readsCaller: Bool
  let readsExtraKeywords: Bool
  let readsExtraPositional: Bool
}

extension Expression.Kind {
  /// The expressions this one is made of, in the order they are evaluated.
  var children: [Expression] {
    switch self {
    case .constant, .name: []
    case .tuple(let elements), .list(let elements), .concatenation(let elements): elements
    case .dict(let pairs): pairs.flatMap { [$0.key, $0.value] }
    case .attribute(let value, _), .not(let value), .negative(let value), .positive(let value):
      [value]
    case .subscripted(let value, let key): [value, key]
    case .slice(let value, let start, let stop, let step):
      [value] + [start, stop, step].compactMap { $0 }
    case .call(let callee, let arguments): [callee] + arguments.children
    case .filter(let value, _, let arguments): [value].compactMap { $0 } + arguments.children
    case .test(let value, _, let arguments): [value] + arguments.children
    case .arithmetic(_, let left, let right), .and(let left, let right), .or(let left, let right):
      [left, right]
    case .comparison(let first, let rest): [first] + rest.map { $0.1 }
    case .conditional(let test, let then, let otherwise):
      [test, then] + [otherwise].compactMap { $0 }
    }
  }
}

extension Arguments {
  fileprivate var children: [Expression] {
    positional + keywords.map { $0.value } + [spread, keywordSpread].compactMap { $0 }
  }
}
