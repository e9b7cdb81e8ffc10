// Files of ranks: the scheme that their name tells, and what is wrong with a line.

import SystemIO
import Testing
import TestSupport
import Tokenization

/// The 256 bytes in base64, one a line; a token of one byte takes two digits and two pads.
private func byteRanks() -> [String] {
  let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
  return (0..<256).map { "\(digits[$0 / 4])\(digits[$0 % 4 * 16])== \($0)" }
}

private func problem(_ lines: [String], name: String = "tiktoken.model") throws -> String {
  try withTemporaryFolder { folder in
    try replaceFile("\(folder)/\(name)", with: Array(lines.joined(separator: "\n").utf8))
    do {
      _ = try Tokenizer(folder: folder)
      return "nothing"
    } catch {
      return String("\(error)".split(separator: "/").last!)
    }
  }
}

@Suite struct RankFileTests {
  @Test func hunyuanRanksAreFollowedByItsSpecialTokens() throws {
    try withTemporaryFolder { folder in
      // "he" and "hel", which can only be made by way of "he".
      let lines = byteRanks() + ["aGU= 256", "aGVs 257", ""]
      try replaceFile("\(folder)/hy.tiktoken", with: Array(lines.joined(separator: "\n").utf8))
      let tokenizer = try Tokenizer(folder: folder)
      #expect(tokenizer.vocabularySize == 258 + 210)
      let text = "<|startoftext|>hello<|extra_204|><|pad|>"
      let ids = try tokenizer.encode(text, addSpecialTokens: true)
      #expect(ids == [259, 257, 108, 111, 467, 262])
      #expect(try tokenizer.decode(ids) == text)
    }
  }

  @Test func hunyuanTokensAreCountedAsTheyComeAndRepeatedOnesPassedOver() throws {
    try withTemporaryFolder { folder in
      let lines = byteRanks() + ["aGU= 256", "YQ== 257", "aGU= 258", "aGVs 300", ""]
      try replaceFile("\(folder)/hy.tiktoken", with: Array(lines.joined(separator: "\n").utf8))
      let tokenizer = try Tokenizer(folder: folder)
      #expect(tokenizer.vocabularySize == 258 + 210)
      #expect(
        try tokenizer.encode("hela<|endoftext|>", addSpecialTokens: true) == [257, 97, 258])
    }
  }

  @Test func badLinesAreNamed() throws {
    let ranks = byteRanks()
    #expect(try problem(ranks) == "nothing")
    #expect(
      try problem(ranks.dropLast())
        == "tiktoken.model: line 255: the file ends without a token of the byte 255")
    #expect(
      try problem(ranks + ["aGU= 300"]) == "tiktoken.model: line 257: expected rank 256, found 300")
    #expect(
      try problem(ranks + ["YQ== 256"]) == "tiktoken.model: line 257: the token has a rank already")
    for line in ["aGU=", "aGU 256", "a!U= 256", "aGU= x", "==== 256", "aGU= 256 1"] {
      #expect(
        try problem(ranks + [line])
          == "tiktoken.model: line 257: expected a token in base64 and its rank", "\(line)")
    }
  }

  @Test func namesThatAreNotThereOrNotNamesAreRefused() throws {
    try withTemporaryFolder { folder in
      try replaceFile(
        "\(folder)/tiktoken.model", with: Array(byteRanks().joined(separator: "\n").utf8))
      #expect(
        try Tokenizer(folder: folder).encode("<|reserved_token_511|>", addSpecialTokens: false)
          == [511])
      try replaceFile(
        "\(folder)/tokenizer_config.json",
        with: Array(#"{"added_tokens_decoder": {"256": {"content": 3}}}"#.utf8))
      #expect(throws: TokenizerError.self) { try Tokenizer(folder: folder) }
    }
  }
}
