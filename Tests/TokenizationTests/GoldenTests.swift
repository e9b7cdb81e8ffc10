// Every family's tiny tokenizer against the ids that the `tokenizers` package 0.23.3 gave.

import JSON
import SystemIO
import Testing
import TestSupport
import Tokenization

private let families = [
  "added_flags", "bailing_possessive", "deepseek3", "falcon", "glm4", "gpt2_bytelevel_nfc",
  "gpt2_prefix_space", "grouped_digits", "ignored_case", "llama3", "missing_bytes",
  "missing_bytes_unknown",
  "o200k_isolated", "o200k_removed_invert", "qwen2_nfc", "qwen35_nfc", "split_merged",
  "spm_metaspace_always", "spm_metaspace_first", "spm_metaspace_never_split", "spm_no_fallback",
  "spm_partial_fallback", "spm_phi_rstrip", "spm_prepend_norm_added", "spm_prepend_replace",
  "spm_unfused_unknown", "starcoder_digits", "tekken", "template_both",
]

private func json(_ name: String) throws -> JSONValue {
  try JSONValue.parse(try FileSystem.readFile(fixturePath("tokenizers/\(name)")))
}

private func ids(_ value: JSONValue?) throws -> [[Int32]] {
  try #require(value?.array).map { try #require($0.array).map { Int32(try #require($0.int)) } }
}

private func compare(_ tokenizer: Tokenizer, with name: String) throws {
  let texts = try #require(try json("strings.json").array).map { try #require($0.string) }
  let golden = try #require(try json("\(name).ids.json").object)
  #expect(tokenizer.vocabularySize == golden["size"]?.int)
  let plain = try ids(golden["ids"])
  let special = try golden["special"].map { try ids($0) } ?? plain
  try #require(plain.count == texts.count && special.count == texts.count)
  for (number, text) in texts.enumerated() {
    let comment = Comment(rawValue: text.debugDescription)
    #expect(try tokenizer.encode(text, addSpecialTokens: false) == plain[number], comment)
    #expect(try tokenizer.encode(text, addSpecialTokens: true) == special[number], comment)
    let decoded = golden["decoded"]?.object?[String(number)]?.string ?? text
    #expect(try tokenizer.decode(plain[number]).utf8.elementsEqual(decoded.utf8), comment)
  }
}

@Suite struct GoldenTests {
  @Test(arguments: families)
  func everyTextHasTheIdsAndTheDecodedTextOfThePackage(family: String) throws {
    let path = fixturePath("tokenizers/\(family).json")
    try compare(try Tokenizer(tokenizerJSON: path), with: family)
  }

  @Test func aTrainedModelsTokenizerHasThemToo() throws {
    let folder = fixturePath("glm4-moe-4m")
    try compare(try Tokenizer(folder: folder), with: "glm4-moe-4m")
  }

  @Test func ranksOfTheKimiSchemeHaveTheIdsOfTheirTokenizerJSON() throws {
    try compare(try Tokenizer(folder: fixturePath("tokenizers/kimi")), with: "kimi")
  }

  /// The rows were made by transformers: chats of up to 256 ids, with all their special tokens.
  @Test func decodedCalibrationRowsEncodeToThemselves() throws {
    let tokenizer = try Tokenizer(folder: fixturePath("glm4-moe-4m"))
    let lines = try FileSystem.readFile(fixturePath("calibration.jsonl"))
      .split(separator: UInt8(ascii: "\n"))
    for line in lines {
      let row = try #require(try JSONValue.parse(Array(line)).object?["input_ids"]?.array)
      let ids = try row.map { Int32(try #require($0.int)) }
      #expect(try tokenizer.encode(tokenizer.decode(ids), addSpecialTokens: false) == ids)
    }
  }
}
