// What the goldens cannot say: threads, bytes that are no text, long texts.

import Dispatch
import JSON
import SystemIO
import Testing
import TestSupport
import Tokenization

@Suite struct TokenizerTests {
  private let tokenizer: Tokenizer

  init() throws {
    tokenizer = try Tokenizer(tokenizerJSON: fixturePath("tokenizers/qwen2_nfc.json"))
  }

  @Test func anEmptyTextHasNoIDs() throws {
    #expect(try tokenizer.encode("", addSpecialTokens: false) == [])
    #expect(try tokenizer.encode([UInt8](), addSpecialTokens: true) == [])
    #expect(try tokenizer.decode([]) == "")
  }

  @Test func bytesThatAreNotUTF8BecomeReplacementCharacters() throws {
    let broken: [UInt8] = [0x61, 0xFF, 0xE6, 0x97, 0x62, 0xED, 0xA0, 0x80]
    #expect(
      try tokenizer.encode(broken, addSpecialTokens: false)
        == tokenizer.encode(String(decoding: broken, as: UTF8.self), addSpecialTokens: false))
  }

  @Test func idsOfNoTokenAreLeftOut() throws {
    let ids = try tokenizer.encode("abc", addSpecialTokens: false)
    #expect(try tokenizer.decode([-1, 999_999] + ids + [Int32.max]) == "abc")
  }

  @Test func bytesOfHalfACharacterAreKept() throws {
    let ids = try tokenizer.encode("𝐁", addSpecialTokens: false)
    let parts = try ids.map { try tokenizer.decodeBytes([$0]) }
    #expect(parts.count > 1)
    #expect(String(decoding: parts.joined(), as: UTF8.self) == "𝐁")
  }

  @Test func threadsShareATokenizer() throws {
    let texts = try #require(
      try JSONValue.parse(try FileSystem.readFile(fixturePath("tokenizers/strings.json"))).array)
    let tokenizer = self.tokenizer
    let expected = try texts.map { try tokenizer.encode($0.string!, addSpecialTokens: true) }
    DispatchQueue.concurrentPerform(iterations: 7 * texts.count) { index in
      let number = index * 13 % texts.count
      let ids = try? tokenizer.encode(texts[number].string!, addSpecialTokens: true)
      #expect(ids == expected[number])
    }
  }

  @Test func aPieceIsTheSameWhetherItWasMetBeforeOrNot() throws {
    let text = "The quick brown fox, the quick brown fox"
    let first = try tokenizer.encode(text, addSpecialTokens: false)
    // More different pieces than are remembered.
    var many = ""
    for number in 0..<70_000 { many += " w\(String(number, radix: 26))" }
    _ = try tokenizer.encode(many, addSpecialTokens: false)
    #expect(try tokenizer.encode(text, addSpecialTokens: false) == first)
  }

  @Test func manyLettersInARowTakeNoQuadraticTime() throws {
    let text = [UInt8](repeating: UInt8(ascii: "a"), count: 200_000)
    let ids = try tokenizer.encode(text, addSpecialTokens: false)
    #expect(try tokenizer.decodeBytes(ids) == text)
  }

  @Test func kimiCutsLongRunsAndLongTexts() throws {
    let kimi = try Tokenizer(folder: fixturePath("tokenizers/kimi"))
    func ids(_ text: String) throws -> [Int32] { try kimi.encode(text, addSpecialTokens: false) }
    let letters = String(repeating: "token", count: 5_001)
    #expect(
      try ids(letters)
        == ids(String(letters.prefix(25_000))) + ids(String(letters.dropFirst(25_000))))
    #expect(
      try ids(" " + letters) == ids(" " + String(letters.prefix(25_000)))
        + ids(String(letters.dropFirst(25_000))))
    let words = String(repeating: "many words ", count: 40_000)
    #expect(
      try ids(words)
        == ids(String(words.prefix(400_000))) + ids(String(words.dropFirst(400_000))))
  }
}
