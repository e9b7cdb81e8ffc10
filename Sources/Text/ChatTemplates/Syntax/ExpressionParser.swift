// Tokens to expressions, with Jinja2's precedence: filters and tests bind tighter than any
// operator, `~` tighter than `+`, and `not` looser than comparisons.

extension Parser {
  /// One expression, or several with commas as a tuple.
  mutating func tuple(
    withConditional: Bool = true, endingAt end: String? = nil, isParenthesized: Bool = false
  ) throws(Fault) -> Expression {
    var line = line
    var elements: [Expression] = []
    var isTuple = false
    while true {
      if !elements.isEmpty { try expect(symbol: ",") }
      if isTupleEnd(end) { break }
      elements.append(withConditional ? try expression() : try binary(.or))
      guard isSymbol(",") else { break }
      isTuple = true
      line = self.line
    }
    if !isTuple {
      if let only = elements.first { return only }
      guard isParenthesized else { throw expected("an expression") }
    }
    return try node(.tuple(elements), line: line)
  }

  mutating func expression() throws(Fault) -> Expression {
    try nested { parser throws(Fault) in
      let line = parser.line
      var value = try parser.binary(.or)
      while parser.skip(name: "if") {
        let test = try parser.binary(.or)
        let otherwise = parser.skip(name: "else") ? try parser.expression() : nil
        value = try parser.node(
          .conditional(test: test, then: value, otherwise: otherwise), line: line)
      }
      return value
    }
  }

  /// From loose to tight.
  enum Level: Int {
    case or, and, not, comparison, sum, concatenation, product, power
  }

  mutating func binary(_ level: Level) throws(Fault) -> Expression {
    let line = line
    switch level {
    case .or:
      var left = try binary(.and)
      while skip(name: "or") { left = try node(.or(left, try binary(.and)), line: line) }
      return left
    case .and:
      var left = try binary(.not)
      while skip(name: "and") { left = try node(.and(left, try binary(.not)), line: line) }
      return left
    case .not:
      guard skip(name: "not") else { return try comparison() }
      let operand = try nested { parser throws(Fault) in try parser.binary(.not) }
      return try node(.not(operand), line: line)
    case .comparison:
      return try comparison()
    case .concatenation:
      var parts = [try binary(.product)]
      while skip(symbol: "~") { parts.append(try binary(.product)) }
      return parts.count == 1 ? parts[0] : try node(.concatenation(parts), line: line)
    case .sum, .product, .power:
      return try arithmetic(level)
    }
  }

  private mutating func arithmetic(_ level: Level) throws(Fault) -> Expression {
    let line = line
    var left = try operand(of: level)
    while case .symbol(let symbol) = current, let op = ArithmeticOperator(rawValue: symbol),
      op.level == level
    {
      advance()
      left = try node(.arithmetic(op, left, try operand(of: level)), line: line)
    }
    return left
  }

  private mutating func operand(of level: Level) throws(Fault) -> Expression {
    switch level {
    case .sum: try binary(.concatenation)
    case .product: try binary(.power)
    default: try unary()
    }
  }

  private mutating func comparison() throws(Fault) -> Expression {
    let line = line
    let first = try binary(.sum)
    var rest: [(ComparisonOperator, Expression)] = []
    while true {
      if case .symbol(let symbol) = current, let op = ComparisonOperator(rawValue: symbol) {
        advance()
        rest.append((op, try binary(.sum)))
      } else if skip(name: "in") {
        rest.append((.isIn, try binary(.sum)))
      } else if isNotIn {
        advance()
        advance()
        rest.append((.notIn, try binary(.sum)))
      } else {
        return rest.isEmpty ? first : try node(.comparison(first, rest), line: line)
      }
    }
  }

  private mutating func unary(withFilter: Bool = true) throws(Fault) -> Expression {
    let line = line
    var value: Expression
    if skip(symbol: "-") {
      let operand = try nested { parser throws(Fault) in try parser.unary(withFilter: false) }
      value = try node(.negative(operand), line: line)
    } else if skip(symbol: "+") {
      let operand = try nested { parser throws(Fault) in try parser.unary(withFilter: false) }
      value = try node(.positive(operand), line: line)
    } else {
      value = try primary()
    }
    value = try postfix(value)
    return withFilter ? try filtersAndTests(value) : value
  }

  private mutating func primary() throws(Fault) -> Expression {
    let line = line
    let kind: Expression.Kind
    switch current {
    case .name(let name):
      advance()
      kind =
        switch name {
        case "true", "True": .constant(.bool(true))
        case "false", "False": .constant(.bool(false))
        case "none", "None": .constant(.none)
        default: .name(symbol(name))
        }
    case .string(let first):
      var text = first
      advance()
      while case .string(let next) = current {
        text += next
        advance()
      }
      kind = .constant(.string(text))
    case .integer(let value):
      advance()
      kind = .constant(.integer(value))
    case .float(let value):
      advance()
      kind = .constant(.float(value))
    case .symbol("("):
      advance()
      let value = try nested { parser throws(Fault) in try parser.tuple(isParenthesized: true) }
      try expect(symbol: ")")
      return value
    case .symbol("["):
      kind = .list(try list())
    case .symbol("{"):
      kind = .dict(try dict())
    default:
      throw failure("unexpected `\(current.text)`")
    }
    return try node(kind, line: line)
  }

  /// An expression that is not nested too deep; chains of operators and filters nest as well.
  private func node(_ kind: Expression.Kind, line: Int) throws(Fault) -> Expression {
    let expression = Expression(kind, line: line)
    guard expression.depth <= Limits.expressionDepth else {
      throw Fault(
        .tooLarge, "an expression nested more than \(Limits.expressionDepth) deep", line: line)
    }
    return expression
  }

  private mutating func list() throws(Fault) -> [Expression] {
    advance()
    var elements: [Expression] = []
    while !isSymbol("]") {
      if !elements.isEmpty { try expect(symbol: ",") }
      if isSymbol("]") { break }
      elements.append(try expression())
    }
    advance()
    return elements
  }

  private mutating func dict() throws(Fault) -> [(key: Expression, value: Expression)] {
    advance()
    var pairs: [(key: Expression, value: Expression)] = []
    while !isSymbol("}") {
      if !pairs.isEmpty { try expect(symbol: ",") }
      if isSymbol("}") { break }
      let key = try expression()
      try expect(symbol: ":")
      pairs.append((key, try expression()))
    }
    advance()
    return pairs
  }

  // MARK: What follows a value

  private mutating func postfix(_ operand: Expression) throws(Fault) -> Expression {
    var value = operand
    while true {
      if isSymbol(".") {
        value = try attribute(of: value)
      } else if isSymbol("[") {
        value = try subscripted(value)
      } else if isSymbol("(") {
        let line = line
        value = try node(.call(value, try arguments()), line: line)
      } else {
        return value
      }
    }
  }

  private mutating func attribute(of value: Expression) throws(Fault) -> Expression {
    let line = line
    advance()
    switch current {
    case .name(let name):
      advance()
      return try node(.attribute(value, name), line: line)
    case .integer(let index):
      let key = try node(.constant(.integer(index)), line: self.line)
      advance()
      return try node(.subscripted(value, key), line: line)
    default:
      throw expected("a name or number")
    }
  }

  private mutating func subscripted(_ value: Expression) throws(Fault) -> Expression {
    let line = line
    advance()
    // Jinja2 takes an empty subscript for an empty tuple.
    if skip(symbol: "]") {
      return try node(.subscripted(value, try node(.tuple([]), line: line)), line: line)
    }
    var start: Expression?
    if !isSymbol(":") {
      let key = try expression()
      if isSymbol(",") { return try subscripted(value, byTupleStartingWith: key, line: line) }
      if skip(symbol: "]") { return try node(.subscripted(value, key), line: line) }
      start = key
    }
    try expect(symbol: ":")
    let stop = isSymbol(":") || isSymbol("]") ? nil : try expression()
    var step: Expression?
    if skip(symbol: ":"), !isSymbol("]") { step = try expression() }
    try expect(symbol: "]")
    return try node(.slice(value, start: start, stop: stop, step: step), line: line)
  }

  private mutating func subscripted(
    _ value: Expression, byTupleStartingWith first: Expression, line: Int
  ) throws(Fault) -> Expression {
    var elements = [first]
    while skip(symbol: ",") { elements.append(try expression()) }
    try expect(symbol: "]")
    return try node(.subscripted(value, try node(.tuple(elements), line: line)), line: line)
  }

  private mutating func filtersAndTests(_ operand: Expression) throws(Fault) -> Expression {
    var value = operand
    while true {
      if isSymbol("|") {
        value = try filters(value, first: false)
      } else if isName("is") {
        value = try test(value)
      } else if isSymbol("(") {
        let line = line
        value = try node(.call(value, try arguments()), line: line)
      } else {
        return value
      }
    }
  }

  /// One filter after another.
  ///
  /// - Parameters:
  ///   - operand: nil for the text of a block.
  ///   - first: whether the first filter's name stands here already, without a bar.
  mutating func filters(_ operand: Expression?, first: Bool) throws(Fault) -> Expression {
    var value = operand
    var isFirst = first
    while isFirst || isSymbol("|") {
      if !isFirst { advance() }
      isFirst = false
      let line = line
      let name = try dottedName()
      let arguments = isSymbol("(") ? try arguments() : Arguments()
      value = try node(.filter(value, name, arguments), line: line)
    }
    guard let value else { throw expected("a filter") }
    return value
  }

  private mutating func test(_ value: Expression) throws(Fault) -> Expression {
    let line = line
    advance()
    let isNegated = skip(name: "not")
    let name = try dottedName()
    var arguments = Arguments()
    if isSymbol("(") {
      arguments = try self.arguments()
    } else if startsTestArgument {
      if isName("is") { throw failure("tests with `is` cannot be chained") }
      arguments.positional = [try postfix(try primary())]
    }
    let test = try node(.test(value, name, arguments), line: line)
    return isNegated ? try node(.not(test), line: line) : test
  }

  /// `x is divisibleby 3`: one value may follow without parentheses.
  private var startsTestArgument: Bool {
    switch current {
    case .string, .integer, .float, .symbol("["), .symbol("{"): true
    case .name(let name): !["else", "or", "and"].contains(name)
    default: false
    }
  }

  private mutating func dottedName() throws(Fault) -> String {
    var name = try expectName()
    while skip(symbol: ".") { name += "." + (try expectName()) }
    return name
  }

  private mutating func arguments() throws(Fault) -> Arguments {
    let line = line
    try expect(symbol: "(")
    var arguments = Arguments()
    func ensure(_ condition: Bool, _ parser: Parser) throws(Fault) {
      if !condition { throw parser.failure("arguments in a wrong order", line: line) }
    }
    var isFirst = true
    while !isSymbol(")") {
      if !isFirst {
        try expect(symbol: ",")
        if isSymbol(")") { break }
      }
      isFirst = false
      if skip(symbol: "*") {
        try ensure(arguments.spread == nil && arguments.keywordSpread == nil, self)
        arguments.spread = try expression()
      } else if skip(symbol: "**") {
        try ensure(arguments.keywordSpread == nil, self)
        arguments.keywordSpread = try expression()
      } else if isKeywordArgument {
        try ensure(arguments.keywordSpread == nil, self)
        let name = try expectName()
        advance()
        guard !arguments.keywords.contains(where: { sameText($0.name, name) }) else {
          throw failure("the argument `\(name)` is given twice")
        }
        arguments.keywords.append((name, try expression()))
      } else {
        try ensure(
          arguments.spread == nil && arguments.keywordSpread == nil && arguments.keywords.isEmpty,
          self)
        arguments.positional.append(try expression())
      }
    }
    advance()
    return arguments
  }
}

extension ArithmeticOperator {
  fileprivate var level: Parser.Level {
    switch self {
    case .add, .subtract: .sum
    case .multiply, .divide, .floorDivide, .remainder: .product
    case .power: .power
    }
  }
}
