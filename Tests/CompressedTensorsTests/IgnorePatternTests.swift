// What the three kinds of patterns match, and what is refused.

import CompressedTensors
import Testing

@Suite struct IgnorePatternTests {
  private let modules =
    (0...20).flatMap { layer in
      ["mlp.gate", "mlp.experts.0.down_proj", "self_attn.q_proj"].map {
        "model.layers.\(layer).\($0)"
      }
    } + ["model.embed_tokens", "model.norm", "lm_head"]

  private func matched(_ patterns: String...) throws -> [String] {
    let set = try IgnorePattern.matching(patterns.map { try IgnorePattern($0) }, of: modules)
    return modules.filter(set.contains)
  }

  private func layers(_ names: [String]) -> [Int] {
    Set(names.compactMap { Int($0.split(separator: ".")[2]) }).sorted()
  }

  @Test func anExactNameMatchesItself() throws {
    #expect(try matched("model.layers.1.mlp.gate") == ["model.layers.1.mlp.gate"])
    #expect(try matched("lm_head", "model.norm") == ["model.norm", "lm_head"])
  }

  @Test func noPatternsMatchNothing() throws { #expect(try matched().isEmpty) }

  /// Python's `re.match`: anchored at the start only, and a dot is any character.
  @Test func anExpressionMatchesAtTheStartAsInPython() throws {
    #expect(layers(try matched("re:model.layers.1.*")) == [1] + Array(10...19))
    #expect(layers(try matched("re:model\\.layers\\.1\\..*")) == [1])
    #expect(layers(try matched("re:model\\.layers\\.(1|3)\\.")) == [1, 3])
    #expect(try matched("re:.*mlp\\.gate$").count == 21)
    #expect(try matched("re:lm_h") == ["lm_head"])
    #expect(try matched("re:(?:model\\.norm|lm_head)$") == ["model.norm", "lm_head"])
    #expect(try matched("re:.*q_proj").count == 21)
    #expect(throws: IgnorePatternError.self) { try matched("re:mlp") }
    #expect(throws: IgnorePatternError.self) { try matched("re:head") }
  }

  @Test func aGlobCoversTheWholeName() throws {
    #expect(layers(try matched("model.layers.0.*")) == [0])
    #expect(try matched("model.layers.0.*").count == 3)
    #expect(layers(try matched("model.layers.1?.*")) == Array(10...19))
    #expect(layers(try matched("model.layers.[13].*")) == [1, 3])
    #expect(layers(try matched("model.layers.[!0-8].*")) == [9])
    #expect(layers(try matched("model.layers.[2-4].mlp.gate")) == [2, 3, 4])
    #expect(try matched("*gate").count == 21)
    #expect(try matched("*") == modules)
    #expect(try matched("*experts*down*").count == 21)
    #expect(throws: IgnorePatternError.self) { try matched("model.layers.0*gate*x") }
    #expect(throws: IgnorePatternError.self) { try matched("layers.*") }
  }

  @Test func `a glob has an expression that matches the same`() throws {
    for glob in [
      "model.layers.0.*", "model.layers.1?.*", "model.layers.[13].*", "model.layers.[!0-8].*",
      "*gate", "*", "*experts*down*", "model.layers.[2-4].mlp.gate",
    ] {
      let pattern = try IgnorePattern(glob)
      #expect(pattern.recipeText.hasPrefix("re:"))
      #expect(try matched(pattern.recipeText) == matched(glob), "\(pattern.recipeText)")
    }
    #expect(try IgnorePattern("a.[0-2]?x*").recipeText == #"re:a\.[0-2].x.*$"#)
    #expect(try IgnorePattern("a[!x^]").recipeText == #"re:a[^x\^]$"#)
    for text in ["lm_head", "re:.*gate"] { #expect(try IgnorePattern(text).recipeText == text) }
  }

  @Test func `a pattern of a recipe is named with its file`() throws {
    let pattern = try IgnorePattern("lm_haed", origin: "r.yaml: ignore")
    let error = #expect(throws: IgnorePatternError.self) {
      try IgnorePattern.matching([pattern], of: ["lm_head"])
    }
    #expect(
      error?.description
        == "r.yaml: ignore 'lm_haed' matches no module of this model; near misses: lm_head")
  }

  @Test func aPatternThatMatchesNothingNamesWhatWasPerhapsMeant() {
    func nearest(_ pattern: String) -> [String]? {
      let error = #expect(throws: IgnorePatternError.self) { try matched(pattern) }
      guard case .matchesNothing(_, let text, let nearest) = error else { return nil }
      #expect(text == pattern)
      return nearest
    }
    #expect(nearest("lm_haed")?.first == "lm_head")
    #expect(nearest("model.layers.1.mlp.gates")?.first == "model.layers.1.mlp.gate")
    #expect(nearest("model.layers.2") == ["model.layers.2.* (3 modules)"])
    #expect(nearest("re:model.layers.3.mpl.*")?.first == "model.layers.3.mlp.gate")
    #expect(nearest("model.layers.4.mpl.*")?.first == "model.layers.4.mlp.gate")
  }

  @Test(arguments: ["re:(", "re:[", "re:*"])
  func aPatternThatIsNoneIsRefused(pattern: String) {
    let error = #expect(throws: IgnorePatternError.self) { try IgnorePattern(pattern) }
    guard case .invalidExpression(_, let text, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(text == pattern)
    #expect(
      error?.description.hasPrefix("--ignore '\(pattern)': not a regular expression (") == true)
  }

  @Test(arguments: ["re:(.+)+x$", "re:(.*)*z$"])
  func `an expression that would try for ever is named`(pattern: String) throws {
    let error = #expect(throws: IgnorePatternError.self) { try matched(pattern) }
    guard case .endlessExpression("--ignore", pattern, _)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(error?.description.hasPrefix("--ignore '\(pattern)': it tries too many ways") == true)
  }

  @Test func `a glob of many stars ends`() throws {
    let stars = String(repeating: "*", count: 100_000)
    #expect(try matched("model.norm" + stars) == ["model.norm"])
    #expect(try matched(String(repeating: "*.", count: 2) + "*" + "gate").count == 21)
    #expect(throws: IgnorePatternError.self) {
      try matched(String(repeating: "*e", count: 500) + "x")
    }
    #expect(try IgnorePattern("a***b").recipeText == "re:a.*b$")
  }
  @Test(arguments: ["[", "model.[0", "*[!"])
  func `a glob with an open set is called a glob`(pattern: String) {
    let error = #expect(throws: IgnorePatternError.self) { try IgnorePattern(pattern) }
    #expect(error == .openSet(origin: "--ignore", pattern: pattern))
    #expect(error?.description.hasPrefix("--ignore '\(pattern)': not a glob, as a `[` has") == true)
  }
}
