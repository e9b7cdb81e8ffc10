// Tokenizers that would take memory or time without end: each is refused, when it is read or when it is used.

import SystemIO
import Testing
import TestSupport
import Tokenization

@Suite struct BoundsTests {
  /// A tokenizer of three tokens, changed.
  private func load(_ changes: [String: String]) throws -> Tokenizer {
    let plain = [
      "version": #""1.0""#, "truncation": "null", "padding": "null", "added_tokens": "[]",
      "normalizer": "null", "pre_tokenizer": "null", "post_processor": "null", "decoder": "null",
      "model": #"{"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}"#,
    ]
    let members = plain.merging(changes) { $1 }.map { "\"\($0)\": \($1)" }
    return try withTemporaryFolder { folder in
      let path = "\(folder)/tokenizer.json"
      try replaceFile(path, with: Array("{\(members.joined(separator: ", "))}".utf8))
      return try Tokenizer(tokenizerJSON: path)
    }
  }

  private func many(_ count: Int, _ element: String) -> String {
    Array(repeating: element, count: count).joined(separator: ", ")
  }

  private func replace(_ pattern: String, by content: String) -> String {
    #"{"type": "Replace", "pattern": \#(pattern), "content": "\#(content)"}"#
  }

  private func split(_ expression: String) -> String {
    #"{"type": "Split", "pattern": {"Regex": "\#(expression)"}, "behavior": "Isolated", "invert": false}"#
  }

  @Test func `text that grows without end is refused`() throws {
    let long = String(repeating: "a", count: 1000)
    let longer = String(repeating: "a", count: 1_000_000)
    let prepend = #"{"type": "Prepend", "prepend": "\#(longer)"}"#
    for normalizers in [
      many(6, replace(#"{"String": "a"}"#, by: long)),
      many(6, replace(#"{"Regex": "a"}"#, by: long)),
      many(6, replace(#"{"Regex": ""}"#, by: long)),
      many(2, replace(#"{"String": "a"}"#, by: longer)),
      many(60, prepend),
    ] {
      let tokenizer = try load([
        "normalizer": #"{"type": "Sequence", "normalizers": [\#(normalizers)]}"#
      ])
      let error = #expect(throws: TokenizerError.self) {
        try tokenizer.encode(String(repeating: "a", count: 10_000), addSpecialTokens: false)
      }
      #expect(
        error?.description.contains("tokenizer.json: the tokenizer's normalizers make more than")
          == true)
    }
    // A sound one may make a text longer.
    let spelled = try load(["normalizer": replace(#"{"String": "b"}"#, by: "aaaaaaaaaa")])
    let text = String(repeating: "b", count: 100_000)
    #expect(try spelled.encode(text, addSpecialTokens: false).count == 1_000_000)
  }

  @Test(arguments: ["((a+)+)+b", "(a+)+c|.", "(a+a+)+b|.", "(?:a|b|ab)*c|."])
  func `an expression that would try for ever is named`(expression: String) throws {
    let tokenizer = try load(["pre_tokenizer": split(expression)])
    let error = #expect(throws: TokenizerError.self) {
      try tokenizer.encode(String(repeating: "a", count: 100_000), addSpecialTokens: false)
    }
    #expect(
      error?.description.contains(
        "tokenizer.json: the tokenizer's regular expression `\(expression)` cannot be used on a text: "
          + "it tries") == true, "\(String(describing: error))")
  }

  /// What all pieces of a text may take counts together.
  @Test func `slow searches of many pieces end`() throws {
    let steps = split("a{1,30}") + ", " + split("(a+)+c|.")
    let tokenizer = try load([
      "pre_tokenizer": #"{"type": "Sequence", "pretokenizers": [\#(steps)]}"#
    ])
    #expect(throws: TokenizerError.self) {
      try tokenizer.encode(String(repeating: "a", count: 100_000), addSpecialTokens: false)
    }
    let short = try tokenizer.encode("ab", addSpecialTokens: false)
    #expect(short == [0, 1])
  }

  @Test func `more steps and longer texts than any tokenizer has are refused`() {
    let long = String(repeating: "a", count: 5000)
    let token =
      #"[{"id": 3, "content": "\#(long)", "single_word": false, "lstrip": false, "rstrip": false, "#
      + #""normalized": false, "special": true}]"#
    let changes = [
      ["normalizer": #"{"type": "Sequence", "normalizers": [\#(many(100, #"{"type": "NFC"}"#))]}"#],
      ["pre_tokenizer": #"{"type": "Sequence", "pretokenizers": [\#(many(100, split("a")))]}"#],
      ["decoder": #"{"type": "Sequence", "decoders": [\#(many(100, #"{"type": "Fuse"}"#))]}"#],
      ["normalizer": replace(#"{"String": "\#(long)"}"#, by: "")],
      ["pre_tokenizer": split("a").replacing(#""Regex": "a""#, with: #""String": "\#(long)""#)],
      ["decoder": replace(#"{"String": "\#(long)"}"#, by: "")], ["added_tokens": token],
    ]
    for change in changes {
      let error = #expect(throws: TokenizerError.self) { try load(change) }
      #expect(error?.description.contains(", more than ") == true, "\(String(describing: error))")
    }
  }

  @Test func `counts of a decoder end`() throws {
    let tokenizer = try load([
      "decoder": #"{"type": "Strip", "content": "a", "start": 16777215, "stop": 16777215}"#
    ])
    for _ in 0..<100 { #expect(try tokenizer.decode([0, 1, 2]) == "bb") }
  }
  /// Short to write, large in memory.
  @Test func `what would take far more memory than its file is refused`() {
    let words = #"{"type": "BPE", "vocab": {"a": 0, "b": 1000000}, "merges": []}"#
    let ids = many(1000, "1")
    let template =
      #"{"type": "TemplateProcessing", "single": [\#(many(100, #"{"SpecialToken": {"id": "s", "type_id": 0}}"#))], "#
      + #""pair": [], "special_tokens": {"s": {"id": "s", "ids": [\#(ids)], "tokens": []}}}"#
    for (change, part) in [
      (
        ["pre_tokenizer": split(String(repeating: "\\\\w", count: 10_000))],
        "more than 4194304 bytes"
      ),
      (
        ["pre_tokenizer": split(String(repeating: "\\\\b", count: 10_000))],
        "more than 4194304 bytes"
      ),
      (
        [
          "pre_tokenizer":
            #"{"type": "Sequence", "pretokenizers": [\#(many(50_000, split("\\\\w")))]}"#
        ],
        "has 65 pre-tokenizers, more than 64"
      ),
      (["model": words], "the id is 1000000, and there are 2 tokens"),
      (["post_processor": template], "adds more than 65536 tokens"),
    ] {
      let error = #expect(throws: TokenizerError.self) { try load(change) }
      #expect(error?.description.contains(part) == true, "\(String(describing: error))")
    }
  }

  /// What one decoder makes need not be text any more.
  @Test(arguments: [
    #"{"type": "ByteLevel"}"#, #"{"type": "ByteFallback"}"#, #"{"type": "Fuse"}"#,
    #"{"type": "Replace", "pattern": {"Regex": "[^a]"}, "content": "b"}"#,
    #"{"type": "Strip", "content": "a", "start": 1, "stop": 1}"#,
  ])
  func `bytes that are no text may come to any decoder`(second: String) throws {
    let first =
      #"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}"#
    let second = second.contains("ByteLevel") ? first : second
    // `ð` spells the first byte of four, and nothing follows.
    let tokenizer = try load([
      "decoder": #"{"type": "Sequence", "decoders": [\#(first), \#(second)]}"#,
      "model": #"{"type": "BPE", "vocab": {"ð": 0, "a": 1}, "merges": []}"#,
    ])
    #expect(try tokenizer.decode([0]).isEmpty == false)
    #expect(try tokenizer.decode([1, 0]).isEmpty == false)
  }

  @Test func `white space in which every place is a token is looked through once`() throws {
    let token =
      #"{"id": 3, "content": " ", "single_word": false, "lstrip": \#("LEFT"), "rstrip": \#("RIGHT"), "#
      + #""normalized": false, "special": true}"#
    let text = "a" + String(repeating: " ", count: 400_000) + "b"
    for (left, right) in [(true, false), (false, true), (true, true)] {
      let tokenizer = try load([
        "added_tokens":
          "[\(token.replacing("LEFT", with: "\(left)").replacing("RIGHT", with: "\(right)"))]"
      ])
      let ids = try tokenizer.encode(text, addSpecialTokens: false)
      #expect(ids.first == 0 && ids.last == 1 && ids.contains(3))
    }
  }

  /// Each is short in its file.
  @Test func `an added token that normalizers make long is refused`() {
    let token =
      #"[{"id": 3, "content": "ac", "single_word": false, "lstrip": false, "rstrip": false, "#
      + #""normalized": true, "special": false}]"#
    let longer = replace(#"{"String": "a"}"#, by: String(repeating: "b", count: 60_000))
    let error = #expect(throws: TokenizerError.self) {
      try load(["normalizer": longer, "added_tokens": token])
    }
    #expect(
      error?.description.contains(
        "tokenizer.json: the tokenizer's normalizers make 60001 bytes of the added token `ac`, more "
          + "than 1024") == true, "\(String(describing: error))")
  }

  @Test func `memory is told of a file however it is written`() throws {
    func memory(_ text: String) throws -> Int {
      try withTemporaryFolder { folder in
        try replaceFile("\(folder)/tokenizer.json", with: Array(text.utf8))
        return try Tokenizer.memory(folder: folder)
      }
    }
    func unigram(_ type: String) -> String {
      #"{"type": "\#(type)", "vocab": "\#(String(repeating: "a", count: 10_000))"}"#
    }
    let plain = try memory(unigram("Unigram"))
    for type in [#"\u0055nigram"#, #"Unigra\u006d"#, #"Unigra\u006D"#] {
      #expect(try memory(unigram(type)) >= plain, "\(type)")
    }
    #expect(try memory(unigram(#"BPE \u00e9"#)) < plain / 2)
    for bracket in ["[", #"{"a":"#] {
      let nested = String(repeating: bracket, count: 10_000)
      #expect(try memory(nested) >= 96 * 10_000 + 4 * nested.utf8.count)
    }
  }

  /// With the golden ratio, which anyone can guess, all of them would lie in a hundredth of the table.
  @Test(
    arguments: [0xD6E8_FEB8_6659_FD93, 0xA076_1D64_78BD_642F, 0xE703_7ED1_A0B4_28DB] as [UInt64])
  func `keys that were chosen for one multiplier spread out with another`(multiplier: UInt64) {
    let (size, hundredth) = (1 << 17, 1 << 17 / 100)
    var counts = [Int](repeating: 0, count: 101)
    var all = 0
    for left in 0..<2000 as Range<UInt64> {
      for right in 0..<2000 as Range<UInt64> {
        let key = left << 32 | right
        if HashSeed.slot(key, 0x9E37_79B9_7F4A_7C15, size) >= hundredth { continue }
        counts[HashSeed.slot(key, multiplier, size) / hundredth] += 1
        all += 1
      }
    }
    #expect(all > 30_000)
    #expect(counts.allSatisfy { $0 < all / 20 }, "\(counts)")
    #expect(HashSeed.multiplier % 2 == 1)
  }
}
