// Patterns that leave the end of a number open, and those that only look so.

import CompressedTensors
import Testing

@Suite struct PatternNumberTests {
  private let modules =
    (0..<92).flatMap { layer in
      ["self_attn.q_proj", "mlp.shared_experts.up_proj"].map { "model.layers.\(layer).\($0)" }
        + (0..<16).map { "model.layers.\(layer).mlp.experts.\($0).down_proj" }
    } + ["lm_head"]

  private func found(_ pattern: String) throws -> [OpenNumber] {
    try IgnorePattern(pattern).openNumbers(among: modules)
  }

  @Test(arguments: [
    ("re:model.layers.1.*", Array(10...19), "re:model\\.layers\\.1\\..*"),
    ("re:model\\.layers\\.1", Array(10...19), "re:model\\.layers\\.1\\..*"),
    ("re:.*layers.0.*", [], ""),
    ("model.layers.1*", Array(10...19), "model.layers.1.*"),
    ("re:model.layers.[0-2].*", Array(10...29), "re:model\\.layers\\.[0-2]\\..*"),
    ("re:.*layers.(3|5).*", Array(30...39) + Array(50...59), "re:.*layers\\.(3|5)\\..*"),
  ])
  func `an open number is told with what it catches and a pattern that closes it`(
    pattern: String, caught: [Int], remedy: String
  ) throws {
    let found = try found(pattern)
    if caught.isEmpty {
      #expect(found.isEmpty)
      return
    }
    #expect(found.count == 1 && found[0].noun == "layers", "\(found)")
    #expect(found.first?.caught == caught)
    #expect(found.first?.remedy == remedy)
    #expect(found.first?.description.contains("'\(remedy)'") == true)
    #expect(try self.found(remedy).isEmpty, "the remedy is closed")
  }

  @Test func `numbers of experts count as those of layers do`() throws {
    let open = try found("re:.*experts.1.*")
    #expect(open.map(\.noun) == ["experts"])
    #expect(open.first?.caught == Array(10...15))
  }

  @Test func `a number whose beginning is open is told, too`() throws {
    let open = try found("re:.*1\\.self_attn.*")
    #expect(open.first?.caught == [11, 21, 31, 41, 51, 61, 71, 81, 91])
    #expect(open.first?.remedy == nil)
  }

  @Test(arguments: [
    "re:model\\.layers\\.1\\..*", "re:model.layers.1[0-9]?\\..*", "re:model\\.layers\\.1\\d\\.",
    "re:model\\.layers\\.(1|2)[0-9]\\.", "re:model\\.layers\\.(1|2)?[0-9]\\.", "model.layers.1?.*",
    "re:.*layers\\.(0|1|2)\\..*experts\\..*", "re:.*layers\\.\\d+\\.mlp.*", "re:.*mlp.*", "*",
    "model.layers.[0-2].*", "re:.*layers\\.[0-9]{2}\\.self_attn.*", "lm_head",
    "re:.*layers\\.(0|1|2|3|4|5|6|7|8|9)\\..*", "re:.*experts\\.[0-9]+\\.down_proj", "re:.*",
  ])
  func `a pattern that says which numbers it means gets no warning`(pattern: String) throws {
    #expect(try found(pattern) == [])
  }
  @Test func `a pattern of any length is looked through in time`() throws {
    #expect(
      try found("re:.*layers.(" + (0..<20_000).map { "\($0)|1" }.joined(separator: "|") + ").*")
        == [])
  }
}
