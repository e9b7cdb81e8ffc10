// The other half of tools/judges/check_tokenizer.py: our ids beside the package's, and our time.

import Glibc
import JSON
import SystemIO
import Testing
import Tokenization

private let checkPath = unsafe getenv("SLUICE_TOKENIZER_CHECK").map { unsafe String(cString: $0) }

@Suite struct CheckTests {
  @Test(.enabled(if: checkPath != nil, "tools/judges/check_tokenizer.py runs it"))
  func everyTextOfTheCheckHasTheIDsOfThePackage() throws {
    let check = try #require(try JSONValue.parse(try FileSystem.readFile(checkPath!)).object)
    let path = try #require(check["tokenizer"]?.string)
    let texts = try #require(check["texts"]?.array).map { Array(try #require($0.string).utf8) }
    let clock = ContinuousClock()
    let start = clock.now
    let tokenizer = try Tokenizer(tokenizerJSON: path)
    let loaded = clock.now
    var found: [[Int32]] = []
    for text in texts { found.append(try tokenizer.encode(text, addSpecialTokens: false)) }
    let encoded = clock.now
    let bytes = texts.reduce(0) { $0 + $1.count }
    print("ours: loaded in \(loaded - start), \(bytes) bytes encoded in \(encoded - loaded)")

    let plain = try #require(check["ids"]?.array)
    let special = try #require(check["special"]?.array)
    let decoded = try #require(check["decoded"]?.array)
    for (number, text) in texts.enumerated() {
      let comment = Comment(rawValue: "text \(number)")
      #expect(found[number].map(Int.init) == plain[number].array?.map(\.int), comment)
      let withSpecial = try tokenizer.encode(text, addSpecialTokens: true)
      #expect(withSpecial.map(Int.init) == special[number].array?.map(\.int), comment)
      let back = try tokenizer.decode(found[number])
      #expect(back.utf8.elementsEqual(decoded[number].string!.utf8), comment)
    }
  }
}
