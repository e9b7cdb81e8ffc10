// The regular expressions of tokenizers, with the Unicode sets of the tokenizers package.

internal import Expressions

/// A compiled regular expression.
///
/// The engine is the one the tokenizers package uses, but the Unicode tables of an installed
/// Oniguruma are older or newer than its own. So every construct that asks a table (`\p{…}`, `\w`,
/// `\d`, `\b`) is written out as the set it stands for before the engine sees it.
final class Pattern: Sendable {
  /// The working memory of one thread, told of each text that begins.
  typealias Region = Expression.Search

  /// As it was written.
  let source: String
  private let expression: Expression

  struct Problem: Error {
    let text: String
  }

  init(_ source: String) throws(Problem) {
    self.source = source
    let rewritten = try PatternRewriter(source).rewritten()
    do throws(Expression.Problem) {
      expression = try Expression(rewritten, .oniguruma)
    } catch {
      throw Problem(text: error.text)
    }
  }

  /// - Parameter source: an expression of this program, which compiles.
  convenience init(builtIn source: String) {
    do throws(Problem) {
      try self.init(source)
    } catch {
      preconditionFailure("a built-in pattern does not compile: \(error.text)")
    }
  }

  /// Appends every match in `text[range]`, from left to right, without overlaps. The range is
  /// searched as if there was nothing before and behind it.
  func findMatches(
    in text: [UInt8], _ range: Range<Int>, _ region: Region, into matches: inout [Range<Int>]
  ) throws(TokenizerError) {
    do throws(Expression.Problem) {
      try unsafe text.withUnsafeBufferPointer { whole throws(Expression.Problem) in
        try unsafe findMatches(
          in: UnsafeBufferPointer(rebasing: whole[range]), offset: range.lowerBound, region,
          into: &matches)
      }
    } catch {
      if error == .longRun {
        throw .longRun(path: nil, expression: source, problem: error.text)
      }
      throw .unmatchable(path: nil, expression: source, problem: error.text)
    }
  }

  private func findMatches(
    in text: UnsafeBufferPointer<UInt8>, offset: Int, _ region: Region,
    into matches: inout [Range<Int>]
  ) throws(Expression.Problem) {
    var position = 0
    var lastEnd: Int?
    while position <= text.count {
      guard let match = try unsafe expression.firstMatch(in: text, from: position, region)
      else { return }
      position = match.upperBound
      if match.isEmpty, lastEnd == match.lowerBound {
        // An empty match where the last one ended does not count; look again one scalar on.
        if position == text.count { return }
        repeat {
          position += 1
        } while position < text.count && (unsafe text[position]) & 0xC0 == 0x80
        continue
      }
      lastEnd = match.upperBound
      matches.append(offset + match.lowerBound..<offset + match.upperBound)
    }
  }
}

/// Writes out the constructs whose meaning depends on a version of Unicode.
private struct PatternRewriter {
  private let source: [Unicode.Scalar]
  private var position = 0
  private var depth = 0
  /// Whether case is ignored, in the groups that are open, innermost last.
  private var ignoresCase = [false]
  private var result = ""

  init(_ source: String) {
    self.source = Array(source.unicodeScalars)
  }

  func rewritten() throws(Pattern.Problem) -> String {
    var copy = self
    try copy.run()
    return copy.result
  }

  private var isInClass: Bool { depth > 0 }

  private mutating func run() throws(Pattern.Problem) {
    while position < source.count {
      if result.utf8.count > Bounds.expressionBytes {
        throw Pattern.Problem(
          text: "with all sets of characters it takes more than \(Bounds.expressionBytes) bytes")
      }
      let scalar = source[position]
      switch scalar {
      case "\\":
        try escape()
      case "[":
        if isInClass, position + 1 < source.count, source[position + 1] == ":" {
          throw Pattern.Problem(text: "POSIX brackets `[:…:]` are not supported")
        }
        copy()
        depth += 1
        if position < source.count, source[position] == "^" { copy() }
        // A bracket that closes at once is meant as itself.
        if position < source.count, source[position] == "]" { copy() }
      case "]":
        copy()
        if isInClass { depth -= 1 }
      case "(" where !isInClass:
        try openGroup()
      case ")" where !isInClass:
        copy()
        if ignoresCase.count > 1 { ignoresCase.removeLast() }
      default:
        copy()
      }
    }
  }

  /// Reads the options of `(?i:…)`, which hold in the group, and of `(?i)`, which hold to the end
  /// of the group around it.
  private mutating func openGroup() throws(Pattern.Problem) {
    var ignored = ignoresCase[ignoresCase.count - 1]
    var end = position + 1
    if end < source.count, source[end] == "?" {
      end += 1
      var turnsOn = true
      // They hold for ASCII alone what is written out here as sets of all Unicode.
      var hasASCIIOption = false
      while end < source.count, source[end] == "-" || source[end].properties.isAlphabetic {
        if source[end] == "-" { turnsOn = false }
        if source[end] == "i" { ignored = turnsOn }
        if turnsOn, ["D", "P", "W"].contains(source[end]) { hasASCIIOption = true }
        end += 1
      }
      // `(?P<name>…)` is a group of another kind.
      if hasASCIIOption, end < source.count, source[end] == ")" || source[end] == ":" {
        throw Pattern.Problem(text: "the options `D`, `P` and `W` are not supported")
      }
      if end < source.count, source[end] == ")" {
        ignoresCase[ignoresCase.count - 1] = ignored
        while position <= end { copy() }
        return
      }
      if end >= source.count || source[end] != ":" {
        // A group of another kind, such as `(?<name>…)`.
        ignored = ignoresCase[ignoresCase.count - 1]
      }
    }
    copy()
    ignoresCase.append(ignored)
  }

  private mutating func copy() {
    result.unicodeScalars.append(source[position])
    position += 1
  }

  private mutating func escape() throws(Pattern.Problem) {
    guard position + 1 < source.count else { throw Pattern.Problem(text: "end pattern at escape") }
    let kind = source[position + 1]
    switch kind {
    case "p", "P":
      try property(negated: kind == "P")
    case "d", "D":
      position += 2
      write(UnicodeSets.decimal, negated: kind == "D")
    case "w", "W":
      position += 2
      write(isInClass ? UnicodeSets.wordInBrackets : UnicodeSets.word, negated: kind == "W")
    case "b" where !isInClass, "B" where !isInClass:
      position += 2
      let word = Self.ranges(UnicodeSets.word)
      let same = kind == "B"
      result += "(?:(?<=[\(word)])(?\(same ? "=" : "!")[\(word)])"
      result += "|(?<![\(word)])(?\(same ? "!" : "=")[\(word)]))"
    case "X", "y", "Y":
      throw Pattern.Problem(text: "`\\\(kind)` is not supported")
    default:
      copy()
      copy()
    }
  }

  /// `\p{Name}`, `\p{^Name}` and `\P{Name}`.
  private mutating func property(negated: Bool) throws(Pattern.Problem) {
    var end = position + 2
    while end < source.count, source[end] != "}" { end += 1 }
    guard position + 2 < source.count, source[position + 2] == "{", end < source.count else {
      throw Pattern.Problem(text: "`\\p` without a name in braces")
    }
    var name = source[(position + 3)..<end]
    var negated = negated
    if name.first == "^" {
      negated.toggle()
      name.removeFirst()
    }
    var text = ""
    text.unicodeScalars.append(contentsOf: name)
    guard let set = UnicodeSets.property(text) else {
      throw Pattern.Problem(text: "property `\(text)` is not supported")
    }
    position = end + 1
    write(set, negated: negated)
  }

  private mutating func write(_ set: ScalarSet, negated: Bool) {
    // Brackets inside brackets are a union, so the same text serves inside and outside of them.
    let brackets = "[\(negated ? "^" : "")\(Self.ranges(set))]"
    // Ignoring case widens brackets but not a property that stands alone.
    let isWidened = !isInClass && ignoresCase[ignoresCase.count - 1]
    result += isWidened ? "(?-i:\(brackets))" : brackets
  }

  private static func ranges(_ set: ScalarSet) -> String {
    var text = ""
    for range in set.ranges {
      text += "\\x{\(String(range.lowerBound, radix: 16))}"
      if range.count > 1 { text += "-\\x{\(String(range.upperBound, radix: 16))}" }
    }
    return text
  }
}
