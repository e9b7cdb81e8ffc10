// Small tokenizers whose ids differ where one rule of the `tokenizers` package does. All expected ids are from 0.23.3.

import SystemIO
import Testing
import TestSupport
import Tokenization

@Suite struct JudgedCasesTests {
  private static let characters = [
    "<unk>", "▁", "a", "b", "c", "1", "_", "\u{E9}", " ", "x", ".", "\u{C5}", "½", "²", "A", "-",
    "٣",
  ]

  /// A tokenizer of single characters.
  private func ids(
    _ text: String, normalizer: String = "null", preTokenizer: String = "null", model: String? = nil
  ) throws -> [Int32] {
    let vocabulary = Self.characters.enumerated().map { "\"\($1)\": \($0)" }
    let characters =
      #"{"type": "BPE", "unk_token": "<unk>", "vocab": {\#(vocabulary.joined(separator: ", "))}, "merges": []}"#
    let json =
      #"{"version": "1.0", "added_tokens": [], "normalizer": \#(normalizer), "#
      + #""pre_tokenizer": \#(preTokenizer), "model": \#(model ?? characters)}"#
    return try withTemporaryFolder { folder in
      let path = "\(folder)/tokenizer.json"
      try replaceFile(path, with: Array(json.utf8))
      return try Tokenizer(tokenizerJSON: path).encode(text, addSpecialTokens: false)
    }
  }

  /// A head ends within the mark that took its place.
  @Test func `marks that change places at the beginning are composed again`() throws {
    let twice = #"{"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFC"}]}"#
    #expect(try ids("\u{301}\u{F71}a", normalizer: twice) == [0, 0, 2])
    let metaspace =
      #"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true}"#
    #expect(
      try ids("\u{301}\u{F71}a", normalizer: twice, preTokenizer: metaspace) == [1, 0, 0, 2])
  }

  private func removing(_ expression: String) -> String {
    #"{"type": "Split", "pattern": {"Regex": "\#(expression)"}, "behavior": "Removed", "invert": false}"#
  }

  /// As JSON has them. What they match is left away.
  private static let bracketed: [(String, String, [Int32])] = [
    (#"[\\w-]+"#, "\u{C5}½-\u{C5}", [12]), (#"[\\w-]+"#, "a²b", [13]),
    (#"[^\\W]+"#, "\u{C5}½-\u{C5}", [12, 15]), (#"[^\\W]+"#, "a²b", [13]),
    (#"[\\w&&\\D]+"#, "\u{C5}½-\u{C5}", [12, 15]), (#"[\\w&&\\D]+"#, "a²b", [13]),
    (#"[\\W\\d]+"#, "\u{C5}½-\u{C5}", [11, 11]), (#"[\\W\\d]+"#, "a²b", [2, 3]),
    (#"\\w+"#, "\u{C5}½-\u{C5}", [15]), (#"\\w+"#, "a²b", []),
    (#"\\W+"#, "\u{C5}½-\u{C5}", [11, 12, 11]), (#"\\W+"#, "a²b", [2, 13, 3]),
  ]

  @Test(arguments: bracketed)
  func `word characters in brackets are fewer than outside`(
    expression: String, text: String, expected: [Int32]
  ) throws {
    #expect(try ids(text, preTokenizer: removing(expression)) == expected)
  }

  private static let named: [(String, [Int32])] = [
    (#"\\p{Uppercase_Letter}"#, [2, 12, 5, 15, 8, 10]),
    (#"\\p{Decimal_Number}"#, [2, 11, 12, 15, 8, 14, 10]),
    (#"\\p{LC}"#, [12, 5, 15, 8, 10]), (#"\\p{Other}"#, [2, 11, 12, 5, 15, 8, 14, 10]),
    (#"\\P{Cased_Letter}"#, [2, 11, 14]),
    (#"\\p{Dash_Punctuation}"#, [2, 11, 12, 5, 8, 14, 10]), (#"\\p{^Space_Separator}"#, [8]),
    (#"\\p{Other_Number}"#, [2, 11, 5, 15, 8, 14, 10]),
  ]

  @Test(arguments: named)
  func `categories have long names`(expression: String, expected: [Int32]) throws {
    #expect(try ids("a\u{C5}½1- A.", preTokenizer: removing(expression)) == expected)
  }

  private static let unknown: [(String, [Int32])] = [
    ("a\u{E9}b", [1, 3, 4, 2]), ("a\u{E8}b", [1, 0, 2]), ("\u{E9}\u{E9}a", [3, 4, 3, 4, 1]),
    ("\u{E9}\u{E8}a", [0, 1]),
  ]

  @Test(arguments: unknown)
  func `unknown texts fall back to bytes where all of theirs have tokens`(
    text: String, expected: [Int32]
  ) throws {
    let model =
      #"{"type": "Unigram", "unk_id": 0, "byte_fallback": true, "vocab": "#
      + #"[["<unk>", 0.0], ["a", -1.0], ["b", -2.0], ["<0xC3>", -5.0], ["<0xA9>", -5.0]]}"#
    #expect(try ids(text, model: model) == expected)
  }

  private static let strip = #"{"type": "Strip", "strip_left": true, "strip_right": false}"#
  private static let digits = #"{"type": "Digits", "individual_digits": true}"#
  private static let punctuation = #"{"type": "Punctuation", "behavior": "Isolated"}"#
  private static let byteLevel =
    #"{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": false}"#

  private static func prepend(_ text: String) -> String {
    #"{"type": "Prepend", "prepend": "\#(text)"}"#
  }

  private static func replace(_ text: String, _ content: String) -> String {
    #"{"type": "Replace", "pattern": {"String": "\#(text)"}, "content": "\#(content)"}"#
  }

  private static func metaspace(_ prefix: String, _ replacement: String = "▁") -> String {
    #"{"type": "Metaspace", "replacement": "\#(replacement)", "prepend_scheme": "\#(prefix)", "split": true}"#
  }

  struct FirstCase: CustomTestStringConvertible, Sendable {
    let normalizers: [String]
    var preTokenizers: [String] = []
    let text: String
    let expected: [Int32]
    var testDescription: String { "\(normalizers) \(preTokenizers) \(text)" }
  }

  /// The package asks where in the text as it was given a piece begins.
  private static let firstCases = [
    // What is taken away from the beginning.
    FirstCase(normalizers: [strip], text: " ab", expected: [2, 3]),
    FirstCase(normalizers: [strip], text: "ab", expected: [1, 2, 3]),
    FirstCase(normalizers: [replace("c", "")], text: "cab", expected: [2, 3]),
    FirstCase(normalizers: [replace("c", "")], text: "ccab", expected: [2, 3]),
    FirstCase(normalizers: [replace("c", "")], text: "acb", expected: [1, 2, 3]),
    FirstCase(
      normalizers: [replace("c", "_b"), replace("_", "")], text: "cab", expected: [1, 3, 2, 3]),
    FirstCase(normalizers: [strip, prepend("x")], text: " ab", expected: [9, 2, 3]),
    FirstCase(normalizers: [strip, prepend("x")], text: "ab", expected: [1, 9, 2, 3]),
    // What is replaced there.
    FirstCase(normalizers: [replace("c", "x")], text: "cab", expected: [1, 9, 2, 3]),
    FirstCase(normalizers: [replace("ca", "x")], text: "cab", expected: [9, 3]),
    // What is put before it, and may be taken away again.
    FirstCase(normalizers: [prepend(" "), strip], text: "ab", expected: [1, 2, 3]),
    FirstCase(normalizers: [prepend(" "), strip], text: " ab", expected: [2, 3]),
    FirstCase(normalizers: [prepend("_"), replace("_", "")], text: "ab", expected: [1, 2, 3]),
    // Two pieces and more from the first character.
    FirstCase(
      normalizers: [prepend("1")], preTokenizers: [digits], text: "ab", expected: [1, 5, 1, 2, 3]),
    FirstCase(
      normalizers: [prepend("1")], preTokenizers: [digits], text: "1b",
      expected: [1, 5, 1, 5, 3]),
    FirstCase(
      normalizers: [prepend(".1")], preTokenizers: [punctuation, digits], text: "ab",
      expected: [1, 10, 1, 5, 1, 2, 3]),
    FirstCase(
      normalizers: [prepend("."), #"{"type": "NFC"}"#], preTokenizers: [punctuation],
      text: "e\u{301}.b", expected: [1, 10, 1, 7, 10, 3]),
    FirstCase(
      normalizers: [replace("c", ".1")], preTokenizers: [punctuation, digits], text: "cab",
      expected: [1, 10, 1, 5, 2, 3]),
    FirstCase(
      normalizers: [replace("a", ".a")], preTokenizers: [punctuation], text: "ab",
      expected: [1, 10, 1, 2, 3]),
    FirstCase(
      normalizers: [], preTokenizers: [byteLevel, digits], text: "1b", expected: [1, 0, 1, 5, 3]),
    FirstCase(
      normalizers: [], preTokenizers: [metaspace("always", "_"), punctuation], text: "ab c",
      expected: [1, 6, 1, 2, 3, 6, 4]),
  ]

  @Test(arguments: firstCases)
  func `a piece is the first one where the text as it was given begins`(
    _ one: FirstCase
  ) throws {
    let preTokenizers = one.preTokenizers + [Self.metaspace("first")]
    let found = try ids(
      one.text,
      normalizer:
        #"{"type": "Sequence", "normalizers": [\#(one.normalizers.joined(separator: ", "))]}"#,
      preTokenizer:
        #"{"type": "Sequence", "pretokenizers": [\#(preTokenizers.joined(separator: ", "))]}"#)
    #expect(found == one.expected)
  }
}
