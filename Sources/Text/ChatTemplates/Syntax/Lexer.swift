// Template text to tokens: the rules of Jinja2's lexer with trim_blocks and lstrip_blocks on.

enum TokenKind: Equatable {
  case data(String)
  case blockBegin, blockEnd
  case variableBegin, variableEnd
  case name(String)
  case string(String)
  case integer(BigInteger)
  case float(Double)
  case symbol(String)
  case end

  /// As error messages say it.
  var text: String {
    switch self {
    case .data: "template text"
    case .blockBegin: "{%"
    case .blockEnd: "end of statement block"
    case .variableBegin: "{{"
    case .variableEnd: "end of print statement"
    case .name(let name): name
    case .string: "string"
    case .integer: "integer"
    case .float: "float"
    case .symbol(let symbol): symbol
    case .end: "end of template"
    }
  }
}

struct Token {
  let kind: TokenKind
  let line: Int
}

/// Works on scalars: Swift's characters would take CR and LF, or a letter and its accent, for one.
struct Lexer {
  private let source: [Unicode.Scalar]
  private var position = 0
  private var line = 1
  private var tokens: [Token] = []
  /// The closing brackets still to come inside a tag.
  private var brackets: [Unicode.Scalar] = []
  /// Whether the last token before this text ended a line: lstrip_blocks needs it.
  private var atLineStart = true

  static func tokens(of text: String) throws(Fault) -> [Token] {
    guard text.utf8.count <= Limits.sourceBytes else {
      throw Fault(.tooLarge, "more than \(Limits.sourceBytes) bytes of template", line: 1)
    }
    var lexer = Lexer(text)
    try lexer.run()
    return lexer.tokens
  }

  /// Every line break becomes LF, and one at the end of the template is dropped.
  private init(_ text: String) {
    var scalars = normalizedNewlines(text.unicodeScalars)
    if scalars.last == "\n" { scalars.removeLast() }
    source = scalars
  }

  private mutating func run() throws(Fault) {
    while position < source.count {
      guard let tag = nextTag() else {
        emitData(from: position, to: source.count, line: line)
        move(to: source.count)
        break
      }
      let sign = scalar(at: tag + 2)
      let strips = sign == "-"
      let kind = source[tag + 1]
      var end = tag
      if strips {
        while end > position, isPythonSpace(source[end - 1]) { end -= 1 }
      } else if sign != "+", kind != "{" {
        end = withoutIndentation(end: tag)
      }
      emitData(from: position, to: end, line: line)
      move(to: tag)
      let signLength = strips || sign == "+" ? 1 : 0
      switch kind {
      case "#":
        try comment(bodyStart: tag + 2 + signLength)
      case "{":
        append(.variableBegin)
        move(to: tag + 2 + signLength)
        try tagTokens(closing: "}", end: .variableEnd)
      default:
        if let bodyStart = rawBody(from: tag + 2 + signLength) {
          try raw(bodyStart: bodyStart)
        } else {
          append(.blockBegin)
          move(to: tag + 2 + signLength)
          try tagTokens(closing: "%", end: .blockEnd)
        }
      }
    }
    append(.end)
  }

  // MARK: Text between tags

  private func nextTag() -> Int? {
    var index = position
    while index + 1 < source.count {
      if source[index] == "{" {
        let next = source[index + 1]
        if next == "{" || next == "%" || next == "#" { return index }
      }
      index += 1
    }
    return nil
  }

  /// The end of the text before a tag at `end` whose line holds only white space so far.
  private func withoutIndentation(end: Int) -> Int {
    var start = end
    while start > position, source[start - 1] != "\n" { start -= 1 }
    guard start > position || atLineStart else { return end }
    return source[start..<end].allSatisfy(isPythonSpace) ? start : end
  }

  private mutating func emitData(from start: Int, to end: Int, line: Int) {
    guard start < end else { return }
    tokens.append(Token(kind: .data(String(source[start..<end])), line: line))
  }

  // MARK: Comments and raw blocks

  private mutating func comment(bodyStart: Int) throws(Fault) {
    var index = bodyStart
    while index + 1 < source.count {
      if source[index] == "#", source[index + 1] == "}" {
        // The sign is part of the end; `{#-#}` is a comment, its `-` belongs to the start.
        let sign = index > bodyStart ? source[index - 1] : " "
        finishTag(end: index + 2, sign: sign)
        return
      }
      index += 1
    }
    throw Fault(.syntax, "missing end of comment tag", line: line, construct: "{# #}")
  }

  /// Where the text of `{% raw %}` begins, if that is what stands here.
  private func rawBody(from start: Int) -> Int? {
    var index = skipSpace(start)
    guard matches("raw", at: index) else { return nil }
    index = skipSpace(index + 3)
    if matches("-%}", at: index) { return skipSpace(index + 3) }
    return matches("%}", at: index) ? index + 2 : nil
  }

  private mutating func raw(bodyStart: Int) throws(Fault) {
    move(to: bodyStart)
    atLineStart = source[bodyStart - 1] == "\n"
    var tag = bodyStart
    while tag + 1 < source.count {
      defer { tag += 1 }
      guard matches("{%", at: tag) else { continue }
      let sign = scalar(at: tag + 2)
      var index = skipSpace(tag + 2 + (sign == "-" || sign == "+" ? 1 : 0))
      guard matches("endraw", at: index) else { continue }
      index = skipSpace(index + 6)
      let closingSign = scalar(at: index) ?? " "
      let close = closingSign == "-" || closingSign == "+" ? index + 1 : index
      guard matches("%}", at: close) else { continue }
      var end = tag
      if sign == "-" {
        while end > position, isPythonSpace(source[end - 1]) { end -= 1 }
      } else if sign != "+" {
        end = withoutIndentation(end: tag)
      }
      emitData(from: position, to: end, line: line)
      finishTag(end: close + 2, sign: closingSign)
      return
    }
    throw Fault(.syntax, "missing end of raw directive", line: line, construct: "{% raw %}")
  }

  /// After a block or comment tag: trim_blocks takes one line break, `-` all white space.
  private mutating func finishTag(end: Int, sign: Unicode.Scalar) {
    var next = end
    if sign == "-" {
      next = skipSpace(end)
    } else if sign != "+", scalar(at: end) == "\n" {
      next = end + 1
    }
    move(to: next)
    atLineStart = source[next - 1] == "\n"
  }

  // MARK: Inside a tag

  private mutating func tagTokens(
    closing: Unicode.Scalar, end: TokenKind
  ) throws(Fault) {
    brackets = []
    while true {
      move(to: skipSpace(position))
      guard let first = scalar(at: position) else { return }
      if brackets.isEmpty, finished(closing: closing, end: end) { return }
      if isDigit(first) {
        try number()
      } else if isNameScalar(first) {
        try name()
      } else if first == "'" || first == "\"" {
        try string(quote: first)
      } else {
        try symbol()
      }
    }
  }

  private mutating func finished(closing: Unicode.Scalar, end: TokenKind) -> Bool {
    let sign = source[position]
    // `+%}` ends a block; a `+` before `}}` is an operator.
    let signed = sign == "-" || (sign == "+" && closing == "%")
    let close = signed ? position + 1 : position
    guard scalar(at: close) == closing, scalar(at: close + 1) == "}" else { return false }
    append(end)
    if closing == "%" {
      finishTag(end: close + 2, sign: signed ? sign : " ")
    } else {
      let next = signed ? skipSpace(close + 2) : close + 2
      move(to: next)
      atLineStart = source[next - 1] == "\n"
    }
    return true
  }

  private mutating func name() throws(Fault) {
    let start = position
    var index = position
    while index < source.count, isNameScalar(source[index]) { index += 1 }
    let first = source[start]
    guard first == "_" || first.properties.isXIDStart else {
      throw failure("invalid character in an identifier")
    }
    append(.name(String(source[start..<index])))
    move(to: index)
  }

  private mutating func symbol() throws(Fault) {
    let two = scalar(at: position + 1).map { String([source[position], $0]) }
    let one = source[position]
    if let two, ["//", "**", "==", "!=", ">=", "<="].contains(two) {
      append(.symbol(two))
      move(to: position + 2)
      return
    }
    switch one {
    case "(": brackets.append(")")
    case "[": brackets.append("]")
    case "{": brackets.append("}")
    case ")", "]", "}":
      guard let expected = brackets.popLast() else { throw failure("unexpected `\(one)`") }
      guard expected == one else {
        throw failure("unexpected `\(one)`, expected `\(expected)`")
      }
    case "+", "-", "/", "*", "%", "~", ">", "<", "=", ".", ":", "|", ",", ";": break
    default: throw failure("unexpected character `\(one)`")
    }
    append(.symbol(String(one)))
    move(to: position + 1)
  }

  // MARK: Numbers

  private mutating func number() throws(Fault) {
    let start = position
    if let end = floatEnd(start) {
      let text = String(source[start..<end].filter { $0 != "_" })
      // Too large a literal is infinite, as in Python.
      append(.float(Double(text) ?? .infinity))
      move(to: end)
      return
    }
    let second = scalar(at: start + 1).map { asciiLowercase($0) }
    if source[start] == "0", let second, let radix = ["b": 2, "o": 8, "x": 16][second] {
      let end = digitsEnd(start + 2, radix: radix, leadingUnderscore: true)
      if end > start + 2 {
        try integer(start + 2, end, radix: radix)
        return
      }
    }
    // `010` is two numbers, and so a mistake the parser finds: zeros only, or none in front.
    let isZero = source[start] == "0"
    let end = digitsEnd(start, radix: isZero ? 1 : 10, leadingUnderscore: false)
    try integer(start, end, radix: 10)
  }

  private mutating func integer(_ start: Int, _ end: Int, radix: Int) throws(Fault) {
    let digits = source[start..<end].filter { $0 != "_" }
    guard digits.count <= 4_300, let value = BigInteger(digits: digits, radix: radix) else {
      throw failure("too many digits in a number")
    }
    append(.integer(value))
    move(to: end)
  }

  /// `digit (_? digit)*`, from `start`; radix 1 stands for zeros only.
  private func digitsEnd(_ start: Int, radix: Int, leadingUnderscore: Bool) -> Int {
    func isGood(_ index: Int) -> Bool {
      guard let scalar = scalar(at: index), scalar.isASCII else { return false }
      guard let digit = Character(scalar).hexDigitValue else { return false }
      return digit < radix
    }
    var index = start
    while true {
      let skipped = (index > start || leadingUnderscore) && scalar(at: index) == "_"
      let digit = skipped ? index + 1 : index
      guard isGood(digit) else { return index }
      index = digit + 1
    }
  }

  /// The end of a float that starts here; nil where an integer does, or after a dot: in
  /// `parts.0.1` the numbers are indices.
  private func floatEnd(_ start: Int) -> Int? {
    if start > 0, source[start - 1] == "." { return nil }
    var index = digitsEnd(start, radix: 10, leadingUnderscore: false)
    guard index > start else { return nil }
    var isFloat = false
    if scalar(at: index) == "." {
      let end = digitsEnd(index + 1, radix: 10, leadingUnderscore: false)
      if end > index + 1 {
        index = end
        isFloat = true
      }
    }
    if scalar(at: index) == "e" || scalar(at: index) == "E" {
      var exponent = index + 1
      if scalar(at: exponent) == "+" || scalar(at: exponent) == "-" { exponent += 1 }
      let end = digitsEnd(exponent, radix: 10, leadingUnderscore: false)
      if end > exponent { return end }
    }
    return isFloat ? index : nil
  }

  // MARK: Strings

  private mutating func string(quote: Unicode.Scalar) throws(Fault) {
    var index = position + 1
    while let scalar = scalar(at: index), scalar != quote {
      index += scalar == "\\" ? 2 : 1
    }
    guard index < source.count else { throw failure("a string without its closing quote") }
    let text = try unescaped(source[(position + 1)..<index])
    append(.string(text))
    move(to: index + 1)
  }

  /// Python's escapes. An unknown one stays as it is, backslash included.
  private func unescaped(_ body: ArraySlice<Unicode.Scalar>) throws(Fault) -> String {
    guard body.contains("\\") else { return String(body) }
    var result = String.UnicodeScalarView()
    var rest = body
    func hexadecimal(_ count: Int) throws(Fault) -> Unicode.Scalar {
      let digits = rest.prefix(count)
      var value: UInt32 = 0
      for digit in digits {
        guard digit.isASCII, let nibble = Character(digit).hexDigitValue else { break }
        value = value << 4 | UInt32(nibble)
      }
      guard digits.count == count,
        digits.allSatisfy({ $0.isASCII && Character($0).isHexDigit }),
        let scalar = Unicode.Scalar(value)
      else { throw failure("a malformed escape in a string") }
      rest = rest.dropFirst(count)
      return scalar
    }
    while let scalar = rest.popFirst() {
      guard scalar == "\\" else {
        result.append(scalar)
        continue
      }
      guard let kind = rest.popFirst() else { throw failure("`\\` at the end of a string") }
      switch kind {
      case "\n": break
      case "\\", "'", "\"": result.append(kind)
      case "a": result.append("\u{7}")
      case "b": result.append("\u{8}")
      case "f": result.append("\u{C}")
      case "n": result.append("\n")
      case "r": result.append("\r")
      case "t": result.append("\t")
      case "v": result.append("\u{B}")
      case "0"..."7":
        var value = kind.value - 48
        for _ in 0..<2 {
          guard let digit = rest.first, ("0"..."7").contains(digit) else { break }
          value = value << 3 | (digit.value - 48)
          rest = rest.dropFirst()
        }
        if let scalar = Unicode.Scalar(value) { result.append(scalar) }
      case "x": result.append(try hexadecimal(2))
      case "u": result.append(try hexadecimal(4))
      case "U": result.append(try hexadecimal(8))
      case "N": throw failure("escapes by character name are not supported")
      default:
        result.append("\\")
        // Jinja2 escapes what is not ASCII before it reads the escapes; after a backslash that
        // shows: `\é` becomes `\xe9`, four characters.
        if kind.isASCII {
          result.append(kind)
        } else {
          // One by one: appending a sequence copies all that is there.
          for scalar in backslashEscape(kind).dropFirst() { result.append(scalar) }
        }
      }
    }
    return String(result)
  }

  // MARK: Scalars

  private func scalar(at index: Int) -> Unicode.Scalar? {
    index < source.count ? source[index] : nil
  }

  private func matches(_ text: String, at index: Int) -> Bool {
    let scalars = text.unicodeScalars
    guard index + scalars.count <= source.count else { return false }
    return source[index..<(index + scalars.count)].elementsEqual(scalars)
  }

  private func skipSpace(_ start: Int) -> Int {
    var index = start
    while index < source.count, isPythonSpace(source[index]) { index += 1 }
    return index
  }

  private mutating func move(to end: Int) {
    for scalar in source[position..<end] where scalar == "\n" { line += 1 }
    position = end
  }

  private mutating func append(_ kind: TokenKind) {
    tokens.append(Token(kind: kind, line: line))
  }

  private func failure(_ message: String) -> Fault {
    Fault(.syntax, message, line: line)
  }
}

private func isDigit(_ scalar: Unicode.Scalar) -> Bool {
  ("0"..."9").contains(scalar)
}

private func isNameScalar(_ scalar: Unicode.Scalar) -> Bool {
  scalar.isASCII
    ? scalar == "_" || Character(scalar).isLetter || isDigit(scalar)
    : scalar.properties.isXIDContinue
}

private func asciiLowercase(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
  ("A"..."Z").contains(scalar) ? Unicode.Scalar(UInt8(scalar.value) + 32) : scalar
}
