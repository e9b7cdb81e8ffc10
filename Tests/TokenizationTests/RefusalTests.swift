// What a tokenizer.json may not say, each with the place where it says it.

import JSON
import SystemIO
import Testing
import TestSupport
import Tokenization

/// A tokenizer that is accepted, one component a line for the tests to replace.
private let accepted = [
  "version": #""1.0""#, "truncation": "null", "padding": "null", "added_tokens": "[]",
  "normalizer": "null", "pre_tokenizer": "null", "post_processor": "null", "decoder": "null",
  "model": #"{"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}"#,
]

private func load(_ changes: [String: String]) throws -> Tokenizer {
  let members = accepted.merging(changes) { $1 }.map { "\"\($0)\": \($1)" }
  return try load("{\(members.joined(separator: ", "))}")
}

private func load(_ text: String) throws -> Tokenizer {
  try withTemporaryFolder { folder in
    let path = "\(folder)/tokenizer.json"
    try replaceFile(path, with: Array(text.utf8))
    return try Tokenizer(tokenizerJSON: path)
  }
}

/// The sentence about what is wrong, from the place in the file on.
private func problem(_ changes: [String: String]) -> String {
  do {
    _ = try load(changes)
    return "nothing"
  } catch {
    let text = "\(error)"
    return text.contains("tokenizer.json: ")
      ? String(text.split(separator: ": ", maxSplits: 1)[1]) : text
  }
}

private func split(_ regex: String) -> String {
  #"{"type": "Split", "pattern": {"Regex": "\#(regex)"}, "behavior": "Isolated", "invert": false}"#
}

private func token(_ content: String, _ id: Int) -> String {
  #"{"id": \#(id), "content": "\#(content)", "single_word": false, "lstrip": false, "#
    + #""rstrip": false, "normalized": false, "special": true}"#
}

private func modelJSON(_ members: String) -> String {
  #"{"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [], \#(members)}"#
}

private func templateJSON(_ single: String) -> String {
  #"{"type": "TemplateProcessing", "single": \#(single), "pair": [], "special_tokens": {"#
    + #""<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}"#
}

@Suite struct RefusalTests {
  @Test func theUnchangedFileIsAccepted() throws {
    #expect(try load([:]).encode("abba", addSpecialTokens: true) == [2, 1, 0])
  }

  @Test(arguments: [
    "BertNormalizer", "ByteLevel", "Lowercase", "NFD", "NFKC", "NFKD", "Nmt", "StripAccents",
  ])
  func normalizer(type: String) {
    #expect(
      problem(["normalizer": #"{"type": "\#(type)"}"#])
        == "$.normalizer.type is `\(type)`, which is not supported; "
        + "supported: `NFC`, `Precompiled`, `Prepend`, `Replace`, `Sequence`, `Strip`")
    let inSequence =
      #"{"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "\#(type)"}]}"#
    #expect(
      problem(["normalizer": inSequence])
        .hasPrefix("$.normalizer.normalizers[1].type is `\(type)`"))
  }

  @Test(arguments: [
    "BertPreTokenizer", "CharDelimiterSplit", "FixedLength", "UnicodeScripts", "Whitespace",
    "WhitespaceSplit",
  ])
  func preTokenizer(type: String) {
    #expect(
      problem(["pre_tokenizer": #"{"type": "\#(type)"}"#])
        .hasPrefix("$.pre_tokenizer.type is `\(type)`, which is not supported; supported: "))
    let inSequence =
      #"{"type": "Sequence", "pretokenizers": [\#(split("a")), {"type": "\#(type)"}]}"#
    #expect(
      problem(["pre_tokenizer": inSequence])
        .hasPrefix("$.pre_tokenizer.pretokenizers[1].type is `\(type)`"))
  }

  @Test(arguments: ["BertProcessing", "RobertaProcessing"])
  func postProcessor(type: String) {
    #expect(
      problem(["post_processor": #"{"type": "\#(type)"}"#])
        .hasPrefix("$.post_processor.type is `\(type)`, which is not supported"))
  }

  @Test(arguments: ["BPEDecoder", "CTC", "WordPiece"])
  func decoder(type: String) {
    #expect(
      problem(["decoder": #"{"type": "\#(type)"}"#])
        .hasPrefix("$.decoder.type is `\(type)`, which is not supported"))
  }

  @Test(arguments: ["WordLevel", "WordPiece"])
  func model(type: String) {
    #expect(
      problem(["model": #"{"type": "\#(type)", "vocab": {}}"#])
        == "$.model.type is `\(type)`, which is not supported; supported: `BPE`, `Unigram`")
  }

  @Test(arguments: [
    (#""dropout": 0.1"#, "$.model.dropout is 0.1"),
    (#""continuing_subword_prefix": "@@""#, "$.model.continuing_subword_prefix is `"),
    (#""end_of_word_suffix": "</w>""#, "$.model.end_of_word_suffix is `</w>`"),
    (#""max_length": 3"#, "$.model.max_length is a key of this place, which is not supported"),
    (#""unk_token": "<unk>""#, "$.model.unk_token: `<unk>` is not in the vocabulary"),
    (#""byte_fallback": "yes""#, "$.model.byte_fallback: expected true or false, found `yes`"),
  ])
  func modelOption(option: String, expected: String) {
    #expect(problem(["model": modelJSON(option)]).hasPrefix(expected))
  }

  @Test(arguments: [
    (
      #"[["a", "c"]]"#, "$.model.merges[0]: both parts and what they make must be in the vocabulary"
    ),
    (#"[["a", "b"], ["b", "a"]]"#, "$.model.merges[1]: both parts"),
    (#"["a b", "a  b"]"#, "$.model.merges[1]: expected two tokens with a blank between"),
    (#"["ab"]"#, "$.model.merges[0]: expected two tokens with a blank between, found `ab`"),
    (#"[["a", "b", "c"]]"#, "$.model.merges[0]: expected two tokens, found array"),
    (#"[["a", 1]]"#, "$.model.merges[0]: expected two tokens, found array"),
    (##"["#version: 0.2"]"##, "$.model.merges[0]: expected two tokens"),
    (#"{}"#, "$.model.merges: expected a list, found object"),
  ])
  func merges(list: String, expected: String) {
    let model = #"{"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": \#(list)}"#
    #expect(problem(["model": model]).hasPrefix(expected))
  }

  @Test(arguments: [
    (#"{"a": 0, "b": 0}"#, "$.model.vocab.b: the id belongs to another token already"),
    (#"{"a": -1}"#, "$.model.vocab.a: expected a token id, found -1"),
    (#"{"a": 5000000000}"#, "$.model.vocab.a: expected a token id, found 5000000000"),
    (#"[]"#, "$.model.vocab: expected an object, found array"),
  ])
  func vocabulary(object: String, expected: String) {
    #expect(problem(["model": #"{"vocab": \#(object), "merges": []}"#]) == expected)
  }

  @Test func addedTokenWithAnotherIDThanThePackageGives() {
    #expect(
      problem(["added_tokens": "[\(token("<x>", 3)), \(token("<y>", 7))]"])
        == "$.added_tokens[1].id: `<y>` declares id 7, but the tokenizers package gives it 4; "
        + "ids in this file mean nothing until they agree; save the tokenizer again with "
        + "`AutoTokenizer.from_pretrained(MODEL).save_pretrained(MODEL)`")
    #expect(
      problem(["added_tokens": "[\(token("ab", 3))]"])
        .hasPrefix(
          "$.added_tokens[0].id: `ab` declares id 3, but the tokenizers package gives it 2"))
  }

  @Test func addedTokenTwiceOrEmptyOrUnknownlyFlagged() {
    #expect(
      problem(["added_tokens": "[\(token("<x>", 3)), \(token("<x>", 3))]"])
        == "$.added_tokens[1]: `<x>` is declared twice")
    #expect(
      problem(["added_tokens": "[\(token("", 3))]"])
        == "$.added_tokens[0]: the content is empty")
    #expect(
      problem(["added_tokens": #"[{"id": 3, "content": "<x>", "loud": true}]"#])
        .hasPrefix("$.added_tokens[0].loud is a key of this place"))
    #expect(
      problem(["added_tokens": #"[{"id": 3, "content": "<x>"}]"#])
        == "$.added_tokens[0]: expected a key `single_word`, found none")
  }

  @Test func addedTokenThatNormalizationLeavesNothingOf() {
    let erase = #"{"type": "Replace", "pattern": {"String": "x"}, "content": ""}"#
    let added = token("x", 3).replacing(#""normalized": false"#, with: #""normalized": true"#)
    #expect(
      problem(["normalizer": erase, "added_tokens": "[\(added)]"])
        == "nothing is left of the added token `x` when it is normalized; save the tokenizer again "
        + "without it")
  }

  @Test(arguments: [
    ("(", "end pattern with unmatched parenthesis"),
    (#"\\p{Greek_Extended}"#, "property `Greek_Extended` is not supported"),
    (#"\\pL"#, #"`\p` without a name in braces"#), (#"[[:alpha:]]"#, "POSIX brackets"),
    (#"\\X"#, #"`\X` is not supported"#),
    ("(?W:a)", "the options `D`, `P` and `W` are not supported"),
    ("(?i-mP:a)|(?iD)a", "the options `D`, `P` and `W` are not supported"),
    ("a(?P)b", "the options `D`, `P` and `W` are not supported"),
  ])
  func regex(pattern: String, expected: String) {
    #expect(
      problem(["pre_tokenizer": split(pattern)])
        .hasPrefix(
          "$.pre_tokenizer.pattern.Regex: the regular expression cannot be used: \(expected)"))
  }

  @Test func splitWithAnUnknownBehaviorOrPattern() {
    #expect(
      problem(["pre_tokenizer": split("a").replacing("Isolated", with: "Glued")])
        .hasPrefix("$.pre_tokenizer.behavior is `Glued`, which is not supported"))
    #expect(
      problem(["pre_tokenizer": split("a").replacing("Regex", with: "Glob")])
        .hasPrefix("$.pre_tokenizer.pattern.Glob is a key of this place"))
    #expect(
      problem(["pre_tokenizer": split("").replacing("Regex", with: "String")])
        == "$.pre_tokenizer.pattern.String: expected text to look for, found ``")
    #expect(
      problem(["pre_tokenizer": split("a").replacing(#", "invert": false"#, with: "")])
        == "$.pre_tokenizer: expected a key `invert`, found none")
  }

  @Test(arguments: [
    (
      #"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "last"}"#,
      "$.pre_tokenizer.prepend_scheme is `last`"
    ),
    (
      #"{"type": "Metaspace", "replacement": "__"}"#,
      "$.pre_tokenizer.replacement: expected one character"
    ),
    (
      #"{"type": "Metaspace", "replacement": "▁", "add_prefix_space": false}"#,
      "$.pre_tokenizer.add_prefix_space: false, but"
    ),
    (
      #"{"type": "ByteLevel", "add_prefix_space": false}"#,
      "$.pre_tokenizer: expected a key `trim_offsets`"
    ),
    (#"{"type": "Digits"}"#, "$.pre_tokenizer: expected a key `individual_digits`, found none"),
    (#"{"type": "Digits", "count": 3}"#, "$.pre_tokenizer.count is a key of this place"),
    (#"{"pretokenizers": []}"#, "$.pre_tokenizer: expected a key `type`, found none"),
    (#""ByteLevel""#, "$.pre_tokenizer: expected an object, found `ByteLevel`"),
  ])
  func preTokenizerOption(component: String, expected: String) {
    #expect(problem(["pre_tokenizer": component]).hasPrefix(expected))
  }

  @Test(arguments: [
    (
      #"[{"SpecialToken": {"id": "<s>", "type_id": 0}}]"#,
      "$.post_processor.single: the text itself is missing"
    ),
    (
      #"[{"Sequence": {"id": "B", "type_id": 0}}]"#, "$.post_processor.single[0].Sequence.id is `B`"
    ),
    (
      #"[{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]"#,
      "$.post_processor.single[1]: the text appears twice"
    ),
    (
      #"[{"SpecialToken": {"id": "</s>", "type_id": 0}}]"#,
      "$.post_processor.single[0].SpecialToken.id: not among the special tokens"
    ),
    (#"["$A"]"#, "$.post_processor.single[0]: expected an object, found `$A`"),
  ])
  func template(single: String, expected: String) {
    #expect(problem(["post_processor": templateJSON(single)]).hasPrefix(expected))
  }

  @Test func aSecondTemplate() {
    let single = #"[{"Sequence": {"id": "A", "type_id": 0}}]"#
    let twice = "\(templateJSON(single)), \(templateJSON(single))"
    #expect(
      problem(["post_processor": #"{"type": "Sequence", "processors": [\#(twice)]}"#])
        == "$.post_processor.processors[1]: a second template")
  }

  @Test func anotherVersionOrKeyOfTheFile() {
    #expect(problem(["version": #""2.0""#]).hasPrefix("$.version is `2.0`, which is not supported"))
    #expect(problem(["lattice": "1"]).hasPrefix("$.lattice is a key of this place"))
  }

  @Test func aFileThatIsNotThereOrNotJSON() throws {
    #expect(throws: TokenizerError.self) { try Tokenizer(tokenizerJSON: "/does/not/exist.json") }
    #expect(throws: TokenizerError.self) { try load("{") }
    #expect(throws: TokenizerError.self) { try load(#"{"version": "1.0"}"#) }
  }

  @Test(arguments: [
    (#"[]"#, 0, "$.model.unk_id: there are 0 tokens"),
    (#"[["a", 0], ["b", -1]]"#, 2, "$.model.unk_id: there are 2 tokens"),
    (#"[["a", 0], ["a", -1]]"#, 0, "$.model.vocab[1]: the token is there already"),
    (#"[["", 0]]"#, 0, "$.model.vocab[0]: the token is empty"),
    (#"[["a", 1e999]]"#, 0, "$.model.vocab[0]: expected a token and its score, found array"),
    (#"["a"]"#, 0, "$.model.vocab[0]: expected a token and its score, found `a`"),
    (#"{"a": 0}"#, 0, "$.model.vocab: expected a list, found object"),
  ])
  func unigram(vocabulary: String, unknown: Int, expected: String) {
    let model = #"{"type": "Unigram", "unk_id": \#(unknown), "vocab": \#(vocabulary)}"#
    #expect(problem(["model": model]) == expected)
  }

  @Test func aUnigramModelWithoutUnknownToken() {
    let model = #"{"type": "Unigram", "unk_id": null, "vocab": [["a", 0]]}"#
    #expect(problem(["model": model]) == "$.model.unk_id: expected a token id, found null")
  }

  @Test func aFolderWithoutTokenizer() throws {
    try withTemporaryFolder { folder in
      #expect(
        throws: TokenizerError.noTokenizer(
          folder: folder,
          problem: "no tokenizer: tokenizer.json, tekken.json, tokenizer.model, tiktoken.model, "
            + "hy.tiktoken, vocab.json were looked for; copy the tokenizer there")
      ) { try Tokenizer(folder: folder) }
    }
  }
}

extension String {
  /// Without Foundation.
  fileprivate func replacing(_ old: String, with new: String) -> String {
    guard let range = utf8.firstRange(of: old.utf8) else { return self }
    return String(self[..<range.lowerBound]) + new + String(self[range.upperBound...])
  }
}
