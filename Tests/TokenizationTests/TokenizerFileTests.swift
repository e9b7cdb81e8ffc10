// Which files of a model folder are read, and what is wrong with those of the other forms.

import SystemIO
import Testing
import TestSupport
import Tokenization

private func load(_ files: [String: String]) throws -> Tokenizer {
  try withTemporaryFolder { folder in
    for (name, content) in files {
      try replaceFile("\(folder)/\(name)", with: Array(content.utf8))
    }
    return try Tokenizer(folder: folder)
  }
}

/// The sentence about what is wrong, from the name of the file on.
private func problem(_ files: [String: String]) -> String {
  do {
    _ = try load(files)
    return "nothing"
  } catch {
    let text = "\(error)"
    let name = text.split(separator: ": ")[0].split(separator: "/").last ?? ""
    return String(name) + text.drop { $0 != ":" }
  }
}

private let vocabulary = #"{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}"#
private let pairs = ["vocab.json": vocabulary, "merges.txt": "#version: 0.2\na b\n"]
private let gpt2 = ["config.json": #"{"model_type": "gpt2"}"#]
private let plain = ["config.json": #"{"model_type": "glm4_moe"}"#]

/// A tekken.json of two ranks, `a` and `b`.
private func tekken(
  config: String = "", special: String = #"[{"rank": 0, "token_str": "<s>"}]"#,
  vocabulary: String = #"[{"token_bytes": "YQ=="}, {"token_bytes": "Yg=="}]"#
) -> [String: String] {
  [
    "tekken.json":
      #"{"config": {"pattern": ".+"\#(config)}, "vocab": \#(vocabulary), "special_tokens": \#(special)}"#
  ].merging(plain) { $1 }
}

@Suite struct TokenizerFileTests {
  @Test func tokenizerJSONComesFirst() throws {
    let json = #"{"model": {"vocab": {"b": 0, "a": 1}, "merges": []}}"#
    let files = tekken().merging(pairs) { $1 }.merging(["tokenizer.json": json]) { $1 }
    #expect(try load(files).encode("ab", addSpecialTokens: false) == [1, 0])
    #expect(
      try load(files.filter { $0.key != "tokenizer.json" })
        .encode("ab", addSpecialTokens: false) == [1, 2])
  }

  @Test func vocabularyAndMergesNeedAClass() throws {
    #expect(try load(pairs.merging(gpt2) { $1 }).encode("aba", addSpecialTokens: false) == [2, 0])
    #expect(
      problem(pairs.merging(plain) { $1 })
        .hasPrefix(
          "vocab.json: no `tokenizer_class` in tokenizer_config.json says how to read it; name"))
    let config = ["tokenizer_config.json": #"{"tokenizer_class": "GemmaTokenizerFast"}"#]
    #expect(
      problem(pairs.merging(config) { $1 })
        .hasPrefix(
          "vocab.json: reading it as transformers' `GemmaTokenizer` does is not supported;"))
  }

  @Test(arguments: [
    ("gpt2", nil, true), ("qwen3_moe", nil, true), ("olmoe", "GPT2TokenizerFast", true),
    ("llama", nil, false), ("llama", "Qwen2Tokenizer", true),
    ("deepseek_v3", "GPT2Tokenizer", false),
    ("mixtral", "GPT2Tokenizer", false), ("qwen2", "GemmaTokenizer", true),
    ("qwen3", "GemmaTokenizer", false), ("qwen3", "PreTrainedTokenizerFast", false),
  ])
  func theClassIsThatOfAutoTokenizer(modelType: String, named: String?, isReadable: Bool) {
    var files = pairs
    files["config.json"] = #"{"model_type": "\#(modelType)"}"#
    if let named { files["tokenizer_config.json"] = #"{"tokenizer_class": "\#(named)"}"# }
    #expect((problem(files) == "nothing") == isReadable, "\(problem(files))")
  }

  @Test func codeOfTheModelIsNotRun() {
    let config =
      #"{"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["a.b", null]}}"#
    #expect(
      problem(pairs.merging(["tokenizer_config.json": config]) { $1 })
        .hasPrefix("tokenizer_config.json: $.auto_map: the tokenizer is Python code of the model's")
    )
  }

  @Test(arguments: [
    ("a b c", "merges.txt: line 1: expected two tokens with a blank between"),
    ("a b\n\na b", "merges.txt: line 2: expected two tokens with a blank between"),
    ("b a", "merges.txt: line 1: both parts and what they make must be in the vocabulary"),
  ])
  func aBadLineOfMergesIsNamed(text: String, expected: String) {
    #expect(problem(pairs.merging(gpt2) { $1 }.merging(["merges.txt": text]) { $1 }) == expected)
  }

  @Test func aVocabularyWithoutMergesIsRefused() {
    #expect(problem(["vocab.json": vocabulary].merging(gpt2) { $1 }).hasPrefix("merges.txt: "))
  }

  @Test func aBadTekkenFileIsRefused() throws {
    #expect(try load(tekken()).encode("b<s>a", addSpecialTokens: false) == [2, 0, 1])
    let expectations: [([String: String], String)] = [
      (["tekken.json": "[]"].merging(plain) { $1 }, "$: expected an object, found array"),
      (
        ["tekken.json": "{}"].merging(plain) { $1 },
        "$: expected `config` and `vocab`, found object"
      ),
      (tekken(config: #", "default_vocab_size": 0"#), "$.config.default_vocab_size: there are 1"),
      (
        tekken(config: #", "default_num_special_tokens": 0"#),
        "$.config.default_num_special_tokens: there are 1"
      ),
      (
        tekken(config: #", "default_num_special_tokens": 99999999"#),
        "$.config.default_num_special_tokens: expected a token id, found 99999999"
      ),
      (
        tekken(special: #"[{"rank": 1, "token_str": "<s>"}]"#),
        "$.special_tokens[0].rank: the ranks are not those from 0 to 0"
      ),
      (
        tekken(special: #"[{"rank": 0, "token_str": "x"}, {"rank": 1, "token_str": "x"}]"#),
        "$: a special token is empty or there twice"
      ),
      (
        tekken(config: #", "default_num_special_tokens": 9999999"#),
        "$.config.default_num_special_tokens: there are 1 special tokens"
      ),
      (tekken(special: "[{}]"), "$.special_tokens[0]: expected `rank` and `token_str`"),
      (tekken(vocabulary: "[{}]"), "$.vocab[0]: expected a token in base64 as `token_bytes`"),
      (tekken(vocabulary: #"[{"token_bytes": "Y"}]"#), "$.vocab[0]: expected a token in base64"),
      (
        tekken(vocabulary: #"[{"token_bytes": "YQ=="}, {"token_bytes": "YQ=="}]"#),
        "$.vocab[1]: the token is there already"
      ),
      (
        tekken(vocabulary: #"[{"token_bytes": "\#(String(repeating: "YWFh", count: 400))"}]"#),
        "$.vocab[0]: the token has more than 1024 bytes"
      ),
    ]
    for (files, expected) in expectations {
      #expect(problem(files).hasPrefix("tekken.json: \(expected)"), "\(problem(files))")
    }
  }

  /// The package panics where the white space is longer than the token.
  @Test func aTokenOfWhiteSpaceThatAnotherTookIsNotThere() throws {
    let json = #"{"model": {"vocab": {"a": 0, " ": 1}, "merges": []}}"#
    let config =
      #"{"added_tokens_decoder": {"2": {"content": "<b>", "rstrip": true}, "3": {"content": "  ", "lstrip": true}}}"#
    let tokenizer = try load(["tokenizer.json": json, "tokenizer_config.json": config])
    for blanks in 1..<7 {
      let text = "a<b>" + String(repeating: " ", count: blanks) + "a"
      #expect(try tokenizer.encode(text, addSpecialTokens: false) == [0, 2, 0])
    }
    #expect(try tokenizer.encode("a   a", addSpecialTokens: false) == [0, 3, 1, 0])
  }

  @Test(arguments: [
    (#"{"bos_token": 3}"#, "$.bos_token: expected a token, found 3"),
    (#"{"extra_special_tokens": "<x>"}"#, "$.extra_special_tokens: expected a list, found `<x>`"),
    (#"{"extra_special_tokens": [7]}"#, "$.extra_special_tokens[0]: expected a token, found 7"),
    (#"{"added_tokens_decoder": []}"#, "$.added_tokens_decoder: expected an object, found array"),
    (
      #"{"added_tokens_decoder": {"x": {}}}"#, "$.added_tokens_decoder.x: the key is not a token id"
    ),
    (
      #"{"added_tokens_decoder": {"99999999999": {}}}"#,
      "$.added_tokens_decoder.99999999999: the key is not a token id"
    ),
    (
      #"{"added_tokens_decoder": {"7": {"content": "x", "loud": true}}}"#,
      "$.added_tokens_decoder.7.loud is a key of this place"
    ),
    (
      #"{"added_tokens_decoder": {"7": {"special": true}}}"#,
      "$.added_tokens_decoder.7: expected a key `content`"
    ),
    ("[]", "$: expected an object, found array"), ("{", "not JSON: "),
  ])
  func badSettingsAreNamed(config: String, expected: String) {
    let json = #"{"model": {"vocab": {"b": 0, "a": 1}, "merges": []}}"#
    let found = problem(["tokenizer.json": json, "tokenizer_config.json": config])
    #expect(found.hasPrefix("tokenizer_config.json: \(expected)"), "\(found)")
  }
  /// Each would make a placeholder of every id up to the last.
  @Test func `ids far behind the ranks are refused`() {
    let lines = (0..<256).map { byte in
      let (high, low) = (byte >> 2, byte & 3)
      let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
      return "\(digits[high])\(digits[low << 4])== \(byte)"
    }
    let config = #"{"added_tokens_decoder": {"16777215": {"content": "x"}}}"#
    let files = ["tokenizer.model": lines.joined(separator: "\n"), "tokenizer_config.json": config]
    #expect(
      problem(files.merging(plain) { $1 }).contains("has the id 16777215"), "\(problem(files))")
  }
}
