// SentencePiece models as bytes: what is read of them, and what is wrong with damaged and hostile ones.

import SystemIO
import Testing
import TestSupport
import Tokenization

/// Messages of protocol buffers, written by hand.
private func varint(_ value: UInt64) -> [UInt8] {
  var value = value
  var bytes: [UInt8] = []
  while value >= 0x80 {
    bytes.append(UInt8(value & 0x7F) | 0x80)
    value >>= 7
  }
  return bytes + [UInt8(value)]
}

private func field(_ number: UInt64, _ bytes: [UInt8]) -> [UInt8] {
  varint(number << 3 | 2) + varint(UInt64(bytes.count)) + bytes
}

private func field(_ number: UInt64, _ value: Int) -> [UInt8] {
  varint(number << 3) + varint(UInt64(bitPattern: Int64(value)))
}

private func field(_ number: UInt64, _ value: Float) -> [UInt8] {
  varint(number << 3 | 5) + (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> ($0 * 8)) }
}

private func piece(_ text: String, _ score: Float = 0, _ type: Int = 1) -> [UInt8] {
  field(1, field(1, Array(text.utf8)) + field(2, score) + field(3, type))
}

private let start = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3)

/// A trainer of byte pairs, so that the pieces need no more than their order.
private let bytePairs = field(2, field(3, 2))

private func tokenizer(
  _ model: [UInt8], config: String = #"{"model_type": "glm4_moe"}"#
) throws -> Tokenizer {
  try withTemporaryFolder { folder in
    try replaceFile("\(folder)/tokenizer.model", with: model)
    try replaceFile("\(folder)/config.json", with: Array(config.utf8))
    return try Tokenizer(folder: folder)
  }
}

private func problem(_ model: [UInt8]) -> String {
  do {
    _ = try tokenizer(model)
    return "nothing"
  } catch {
    let text = "\(error)"
    return text.contains("tokenizer.model: ")
      ? String(text.split(separator: "tokenizer.model: ", maxSplits: 1)[1]) : text
  }
}

/// A charsmap: the trie's units, then the replacements.
private func charsmap(_ units: [UInt32], _ replacements: [UInt8], size: Int? = nil) -> [UInt8] {
  func little(_ value: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
  }
  return little(UInt32(size ?? units.count * 4)) + units.flatMap(little) + replacements
}

/// A trie of one text, `a`, whose replacement starts at `value`.
private func trie(value: UInt32 = 0, offset: UInt32 = 1, count: Int = 512) -> [UInt32] {
  var units = [UInt32](repeating: 0, count: count)
  let base: UInt32 = 256
  units[0] = base << 10
  let a = UInt32(UInt8(ascii: "a"))
  if base ^ a < count { units[Int(base ^ a)] = offset << 10 | 1 << 8 | a }
  let next = base ^ a ^ offset
  if next < count { units[Int(next)] = value | 1 << 31 }
  return units
}

private func model(charsmap: [UInt8]) -> [UInt8] {
  start + piece("b") + piece("▁") + bytePairs + field(3, field(2, charsmap))
}

@Suite struct SentencePieceTests {
  @Test func piecesAreMergedInTheirOrder() throws {
    let pieces = ["a", "b", "▁", "ab", "▁a", "▁ab"].map { piece($0) }.joined()
    let tokenizer = try tokenizer(start + pieces + bytePairs)
    #expect(try tokenizer.encode("ab ab", addSpecialTokens: true) == [6, 8])
    #expect(try tokenizer.encode(" x", addSpecialTokens: true) == [5, 0])
  }

  @Test func unknownFieldsOfEveryTypeArePassedOver() throws {
    let unknown =
      field(9, 7) + field(10, [1, 2]) + field(11, Float(1)) + varint(12 << 3 | 1)
      + [UInt8](repeating: 0, count: 8)
    let more = field(1, unknown + field(1, Array("c".utf8)) + unknown)
    let tokenizer = try tokenizer(unknown + start + more + bytePairs + unknown)
    #expect(try tokenizer.encode("c", addSpecialTokens: false) == [3])
  }

  @Test(arguments: [
    ("an empty file", [UInt8](), "a SentencePiece model without pieces"),
    ("text", Array("not a model".utf8), "at byte 0: wire type 6 does not exist here"),
    (
      "cut off in a piece", Array(start.dropLast(3)),
      "at byte 30: a field of 13 bytes, but 10 follow"
    ),
    ("cut off in a number", start + [0x0A, 0x80], "at byte 46: a number is cut off"),
    ("a length of 2^63", start + [0x0A] + varint(1 << 63), "at byte 45: a field of"),
    (
      "a number without end", [UInt8](repeating: 0xFF, count: 20),
      "at byte 0: a number has more than"
    ),
    ("field number 0", [0x02, 0x00], "at byte 0: field number 0 does not exist"),
    ("a group", [0x0B], "at byte 0: wire type 3 does not exist here"),
    ("a piece as a number", field(1, 5), "at byte 0: `pieces` is not bytes"),
    ("a text as a float", field(1, field(1, Float(1))), "at byte 2: `piece` is not bytes"),
    ("a score as text", field(1, field(2, [1])), "at byte 2: `score` is not a float"),
    ("a type as text", field(1, field(3, [1])), "at byte 2: `type` is not an integer"),
    ("a type of the future", piece("a", 0, 9), "at byte 0: piece 0 has the unknown type 9"),
    ("no UTF-8", field(1, field(1, [0xC3, 0x28])), "at byte 2: `piece` is not UTF-8"),
    ("an empty piece", start + field(1, field(2, Float(1))), "at byte 45: piece 3 is empty"),
    (
      "a score that is no number", start + piece("a", .nan), "at byte 45: piece 3 has the score nan"
    ),
    ("an infinite score", start + piece("a", .infinity), "at byte 45: piece 3 has the score inf"),
    ("a piece twice", start + piece("<s>"), "piece 3 is there already: `<s>`"),
    (
      "a long piece", piece(String(repeating: "a", count: 1025)),
      "at byte 0: piece 0 has 1025 bytes, more than 1024"
    ),
    ("model type word", start + field(2, field(3, 3)), "at byte 47: model type 3, expected 1"),
    (
      "no such unknown piece", start + field(2, field(40, 7)),
      "the unknown piece is number 7, but there are 3 pieces"
    ),
    (
      "a negative unknown piece", start + field(2, field(40, -1)),
      "the unknown piece is number -1, but there are 3 pieces"
    ),
    (
      "byte pairs without unknown piece", piece("a") + bytePairs, "`<unk>` is not among the pieces"
    ),
  ])
  func aHostileModelIsRefusedByWhatIsWrong(name: String, bytes: [UInt8], expected: String) {
    #expect(problem(bytes).hasPrefix(expected), "\(name): \(problem(bytes))")
  }

  @Test func everyTruncationOfAModelIsRefusedOrRead() throws {
    let bytes = try FileSystem.readFile(fixturePath("tokenizers/auto/bpe_rules.model"))
    for length in stride(from: 0, to: bytes.count, by: 37) {
      // Between two fields a shorter file is a smaller model.
      if let tokenizer = try? tokenizer(Array(bytes[..<length])) {
        _ = try tokenizer.encode("a text", addSpecialTokens: true)
      }
    }
  }

  // MARK: Charsmaps

  @Test func aCharsmapReplacesWhatItHas() throws {
    let tokenizer = try tokenizer(model(charsmap: charsmap(trie(), Array("bb\0".utf8))))
    #expect(try tokenizer.encode("ab", addSpecialTokens: false) == [3, 3, 3])
  }

  @Test func aMatchOfTheStartOfAShortCharacterReplacesAllOfIt() throws {
    let tokenizer = try tokenizer(model(charsmap: charsmap(trie(), Array("b\0".utf8))))
    #expect(try tokenizer.encode("a\u{301}", addSpecialTokens: false) == [3])
    #expect(try tokenizer.encode("a\u{301}\u{301}\u{301}", addSpecialTokens: false) == [3, 0])
  }

  @Test(arguments: [
    ("too short", [1, 2], "ends before its size"),
    (
      "longer than the field", charsmap([], [], size: 400),
      "says that its trie has 400 bytes, but 0"
    ),
    (
      "no multiple of four", charsmap([0, 0], [], size: 6), "says that its trie has 6 bytes, but 8"
    ),
    ("no trie", charsmap([], [0]), "says that its trie has 0 bytes, but 1 follow"),
    ("no UTF-8", charsmap(trie(), [0xFF, 0]), "its replacements are not UTF-8"),
    ("a root outside", charsmap(trie(count: 256), [0]), "its trie leads out of itself"),
    ("a link outside", charsmap(trie(offset: 1 << 20), [0]), "its trie leads out of itself"),
    ("a value outside", charsmap(trie(value: 9), [0]), "a replacement starts at 9, outside"),
    (
      "a long replacement", charsmap(trie(), [UInt8](repeating: 98, count: 256) + [0]),
      "the replacement at 0 has more than 128 bytes"
    ),
    ("a replacement without end", charsmap(trie(), [98]), "the replacement at 0 has more than 128"),
    (
      "a value in a character", charsmap(trie(value: 1), Array("é\0".utf8)),
      "a replacement starts at 1"
    ),
  ])
  func aHostileCharsmapIsRefused(name: String, charsmap: [UInt8], expected: String) {
    let found = problem(model(charsmap: charsmap))
    #expect(found.hasPrefix("precompiled_charsmap: \(expected)"), "\(name): \(found)")
  }

  @Test func aTrieInACircleEnds() throws {
    // `a` leads back to where it was looked up, so any number of them is in the trie; none has a replacement.
    var units = trie()
    let a = UInt32(UInt8(ascii: "a"))
    units[Int(256 ^ a)] = a << 10 | a
    let tokenizer = try tokenizer(model(charsmap: charsmap(units, Array("b\0".utf8))))
    #expect(
      try tokenizer.encode(String(repeating: "a\u{301}", count: 1000), addSpecialTokens: false)
        == [0])
  }
}
