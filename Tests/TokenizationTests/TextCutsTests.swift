// Long texts in parts: the ids are those of the whole text, and no more of it is looked at than they need.

import SystemIO
import Testing
import TestSupport
import Tokenization

@Suite struct TextCutsTests {
  /// Where nothing that the tokenizer does reaches over a blank behind a letter.
  private static let cut = [
    "added_flags", "bailing_possessive", "deepseek3", "falcon", "glm4", "gpt2_bytelevel_nfc",
    "gpt2_prefix_space", "llama3", "missing_bytes", "missing_bytes_unknown", "o200k_isolated",
    "o200k_removed_invert", "qwen2_nfc", "qwen35_nfc", "spm_metaspace_always",
    "spm_metaspace_never_split", "starcoder_digits", "tekken", "template_both",
  ]
  /// Where it does, or may: a look at the border of a word, merged delimiters, no split at all.
  private static let uncut = ["grouped_digits", "ignored_case", "split_merged"]

  private func tokenizer(_ family: String) throws -> Tokenizer {
    try Tokenizer(tokenizerJSON: fixturePath("tokenizers/\(family).json"))
  }

  /// Words, runs, digits, marks and added tokens, with every kind of white space between them.
  private func text(_ random: inout SeededGenerator, parts: Int) -> String {
    let words = [
      "a", "The", "hello", "wörld", "don't", "x'll", "CamelCase", "12345", "3.14", "日本語",
      "e\u{301}",
      "!?", "…", "(x)", "<|user|>", "<s>", "[MASK]", "▁", "é", "aaaaaaaaaaaaaaaa",
      "\u{1100}\u{1161}", "😀",
      "I'M", "b/c", "\u{a0}", "//",
    ]
    let blanks = [" ", " ", " ", " ", "  ", "\n", "\n\n", " \n", "\n ", "\t", "", "\r\n", "   x"]
    var text = ""
    for _ in 0..<parts {
      text += words[Int(random.next() % UInt64(words.count))]
      text += blanks[Int(random.next() % UInt64(blanks.count))]
    }
    return text
  }

  /// Every tokenizer there: strings.json holds texts, and files of .ids.json hold their ids.
  private static let files = fixtures(in: "tokenizers").filter {
    $0.hasSuffix(".json") && !$0.contains(".ids.") && $0 != "strings.json"
  }

  @Test(arguments: files)
  func partsHaveTheIDsOfTheWhole(file: String) throws {
    let tokenizer = try Tokenizer(tokenizerJSON: fixturePath("tokenizers/\(file)"))
    var random = SeededGenerator(seed: 11)
    for round in 0..<60 {
      let text = text(&random, parts: 40 + round)
      for special in [false, true] {
        let whole = try tokenizer.encode(text, addSpecialTokens: special)
        for partBytes in [1, 17] {
          let parts = try tokenizer.encodeBeginning(
            text, isWhole: true, atLeast: .max, room: .max, addSpecialTokens: special,
            partBytes: partBytes)
          #expect(parts == whole, "\(text.debugDescription)")
        }
      }
      // What is told of a beginning of the text is the beginning of what the whole text has.
      let whole = try tokenizer.encode(text, addSpecialTokens: false)
      let end = text.unicodeScalars.index(
        text.startIndex, offsetBy: Int(random.next() % UInt64(text.unicodeScalars.count)))
      let wanted = 1 + Int(random.next() % 30)
      if let ids = try tokenizer.encodeBeginning(
        String(text.unicodeScalars[..<end]), isWhole: false, atLeast: wanted, room: .max,
        addSpecialTokens: false, partBytes: 5)
      {
        #expect(ids.count >= wanted)
        #expect(whole.starts(with: ids), "\(text.debugDescription)")
      }
    }
  }

  private static let long = String(
    repeating: "Some words in a row, and 2 numbers.\n", count: 10_000)

  @Test(arguments: cut)
  func theBeginningOfALongTextIsEnough(family: String) throws {
    let ids = try tokenizer(family).encodeBeginning(
      Self.long, isWhole: false, atLeast: 100, room: 1 << 20, addSpecialTokens: false)
    let whole = try tokenizer(family).encode(Self.long, addSpecialTokens: false)
    #expect(try #require(ids).count < whole.count / 2)
    #expect(whole.starts(with: try #require(ids)))
  }

  @Test(arguments: uncut)
  func whatCannotBeCutIsTokenizedWholeOrNotAtAll(family: String) throws {
    let tokenizer = try tokenizer(family)
    #expect(
      try tokenizer.encodeBeginning(
        Self.long, isWhole: false, atLeast: 100, room: .max, addSpecialTokens: false) == nil)
    #expect(
      try tokenizer.encodeBeginning(
        Self.long, isWhole: true, atLeast: 100, room: .max, addSpecialTokens: false)
        == tokenizer.encode(Self.long, addSpecialTokens: false))
    #expect(throws: UncutText.self) {
      try tokenizer.encodeBeginning(
        Self.long, isWhole: true, atLeast: 100, room: 1 << 20, addSpecialTokens: false)
    }
  }

  @Test func aTextWithoutABlankIsRefusedWhereItTakesTooMuch() throws {
    let text = String(repeating: "a", count: 1 << 20)
    let error = try #require(throws: UncutText.self) {
      try tokenizer("glm4").encodeBeginning(
        text, isWhole: true, atLeast: 1, room: 64 << 20, addSpecialTokens: false)
    }
    #expect(error.byteCount == 1 << 20 && error.neededBytes == 128 << 20)
  }

  /// The slices of the Kimi scheme are cuts of their own: a text is told as far as whole slices go.
  @Test func slicesAreParts() throws {
    let tokenizer = try Tokenizer(folder: fixturePath("tokenizers/kimi"))
    let text = String(repeating: "word ", count: 200_000)
    let whole = try tokenizer.encode(text, addSpecialTokens: false)
    for (isWhole, wanted) in [(true, Int.max), (true, 1), (false, 1)] {
      let ids = try tokenizer.encodeBeginning(
        text, isWhole: isWhole, atLeast: wanted, room: .max, addSpecialTokens: false)
      #expect(whole.starts(with: try #require(ids)))
      #expect((ids == whole) == (wanted == .max))
    }
  }

  private static let letters =
    #"{"type": "BPE", "unk_token": "<unk>", "vocab": {"<unk>": 0, "▁": 1, "a": 2, "b": 3, "c": 4, "e": 5, "o": 6, "#
    + #""r": 7, "s": 8, "u": 9, "Ġ": 10, " ": 11}, "merges": []}"#
  private static let prepended =
    #"{"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, "#
    + #"{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}"#
  private static let metaspace =
    #"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true}"#

  private func check(
    _ text: String, _ expected: [Int32], added: String = "", normalizer: String = "null",
    preTokenizers: String = ""
  ) throws {
    let json =
      #"{"version": "1.0", "added_tokens": [\#(added)], "normalizer": \#(normalizer), "pre_tokenizer": "#
      + #"{"type": "Sequence", "pretokenizers": [\#(preTokenizers)]}, "model": \#(Self.letters)}"#
    let tokenizer = try withTemporaryFolder { folder in
      try replaceFile("\(folder)/tokenizer.json", with: Array(json.utf8))
      return try Tokenizer(tokenizerJSON: "\(folder)/tokenizer.json")
    }
    #expect(try tokenizer.encode(text, addSpecialTokens: false) == expected)
    let parts = try tokenizer.encodeBeginning(
      text, isWhole: true, atLeast: .max, room: .max, addSpecialTokens: false, partBytes: 1)
    #expect(parts == expected)
  }

  /// The ids are from tokenizers 0.23.3.
  private static let atBlanks: [(String, String, [Int32])] = [
    (" ", "ab oc", [2, 3, 11, 1, 6, 4]), (" o", "ab oc", [2, 3, 12, 1, 4]),
    ("@user", "ab@user ob", [2, 3, 12, 1, 1, 6, 3]),
  ]

  @Test(arguments: atBlanks)
  func `a token next to a blank that a prefix stands for is not cut off from it`(
    content: String, text: String, expected: [Int32]
  ) throws {
    // The model knows the blank by itself.
    let id = content == " " ? 11 : 12
    let token =
      #"{"id": \#(id), "content": "\#(content)", "single_word": false, "lstrip": false, "rstrip": false, "#
      + #""normalized": false, "special": false}"#
    try check(text, [1] + expected, added: token, normalizer: Self.prepended)
  }

  /// The ids are from tokenizers 0.23.3.
  @Test func `what is done to the first piece alone is not done at a cut`() throws {
    let byteLevel =
      #"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}"#
    try check("ab ba", [1, 2, 3, 10, 3, 2], preTokenizers: "\(byteLevel), \(Self.metaspace)")
    let split =
      #"{"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated", "invert": false}"#
    try check(
      "ab ba", [1, 1, 2, 3, 1, 3, 2], normalizer: #"{"type": "Prepend", "prepend": " "}"#,
      preTokenizers: "\(split), \(Self.metaspace)")
  }
}
