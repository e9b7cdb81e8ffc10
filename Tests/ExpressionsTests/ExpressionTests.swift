// What the two syntaxes match, and that every search ends.

import Expressions
import Testing

@Suite struct ExpressionTests {
  private func matches(_ expression: String, _ text: String) throws -> Bool {
    try Expression(expression, .python).matches(startOf: text, Expression.Search(.names))
  }

  private func matches(of expression: String, in text: String) throws -> [Range<Int>] {
    let expression = try Expression(expression, .oniguruma)
    let search = Expression.Search(.text)
    search.begin(bytes: text.utf8.count)
    var found: [Range<Int>] = []
    var position = 0
    let bytes = Array(text.utf8)
    while let match = try unsafe bytes.withUnsafeBufferPointer({
      try unsafe expression.firstMatch(in: $0, from: position, search)
    }) {
      found.append(match)
      position = max(match.upperBound, position + 1)
    }
    return found
  }

  /// Python's `re.match`, by which compressed-tensors matches names.
  @Test func `Python's syntax is read, from the start of the name`() throws {
    for (expression, text) in [
      ("model\\.layers\\.[0-2]\\.", "model.layers.1.mlp"), ("(?P<a>x)(y)(?P=a)", "xyx"),
      ("(?P<a>x)(y)\\2", "xyy"), ("a{,3}b", "aab"), ("(?i)AB", "ab"), ("a\\Z", "a"), ("", "abc"),
      ("(?:a|b)c$", "bc"), ("(?!lm_head).*", "model"), ("[^]]a", "ba"),
    ] {
      #expect(try matches(expression, text), "\(expression) \(text)")
    }
    for (expression, text) in [("layers", "model.layers"), ("a$", "ab"), (".", "\n")] {
      #expect(try !matches(expression, text), "\(expression) \(text)")
    }
  }

  @Test(arguments: ["(", "[", "*", "a)", "[z-a]", "(?P=none)", "\\"])
  func `what is no expression is malformed`(expression: String) {
    #expect(throws: Expression.Problem.self) { try Expression(expression, .python) }
  }

  /// Each of them has more ways to match than could be tried.
  @Test(arguments: [
    "(.+)+x$", "(a|aa)+$", "(a*)*b", "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)x", "((a+)+)+b",
  ])
  func `an expression that would try for ever ends`(expression: String) {
    let name = String(repeating: "a", count: 200) + "!"
    #expect(throws: Expression.Problem.endless) { try matches(expression, name) }
  }

  @Test(arguments: ["(a|aa)+$", "((a+)+)+b", "(a+)+c|.", "(a+a+)+b|.", "(?:a|aa)+!x|."])
  func `a search that would try for ever ends`(expression: String) {
    let text = String(repeating: "a", count: 1000) + "!"
    #expect(throws: Expression.Problem.endless) { try matches(of: expression, in: text) }
  }

  @Test func `a run of millions of characters is told from a search for ever`() {
    let text = String(repeating: " ", count: 3_000_000) + "x"
    #expect(throws: Expression.Problem.longRun) { try matches(of: "\\s+(?!\\S)", in: text) }
  }

  /// Each search alone is short of the bound, but there is one for every character.
  @Test func `many searches of one text end`() {
    let expression = "(?:a|b|ab)*c|."
    let text = String(repeating: "a", count: 100_000)
    #expect(throws: Expression.Problem.endless) { try matches(of: expression, in: text) }
  }

  @Test func `a long text is no reason to end a sound search`() throws {
    let text = String(repeating: "word ", count: 200_000)
    #expect(try matches(of: "\\s*[a-z]+", in: text).count == 200_000)
    #expect(try matches(of: "[a-z]+[0-9]", in: text).isEmpty)
    #expect(try matches(of: "(?:[a-z]| )+", in: text).count == 1)
    // Far from where the search begins.
    let far = String(repeating: "é", count: 500_000) + "x"
    #expect(try matches(of: "[a-z]", in: far) == [1_000_000..<1_000_001])
    #expect(try matches(of: "[^é]|(?<=é)x", in: far) == [1_000_000..<1_000_001])
  }
  @Test(arguments: ["(?=ab\\K)", "a(?=b\\K)", "(?=\\Ka)", "a\\Kb", "(?<=a\\K)b", "(?=a\\K)\\K"])
  func `a match whose beginning was moved is a range`(expression: String) throws {
    let found = try matches(of: expression, in: "abab")
    #expect(!found.isEmpty)
    #expect(found.allSatisfy { $0.upperBound <= 4 })
  }
}
