// What the parser takes, and that it refuses everything else where it goes wrong.

import JSON
import Testing

private func parse(_ text: String) throws -> JSONValue {
  try JSONValue.parse(Array(text.utf8))
}

@Suite struct JSONParserTests {
  @Test func everyKindOfValueIsRead() throws {
    let value = try parse(
      #" { "a" : [ 1 , -2.5e3 , true , false , null , "x" ] , "b" : { } , "c":[]} "#)
    let array: JSONValue = [1, .number(JSONNumber(literal: "-2.5e3")), true, false, nil, "x"]
    #expect(
      value
        == .object(JSONObject([("a", array), ("b", .object(JSONObject())), ("c", [])])))
  }

  /// 100,000 times the same: more than 1 MiB of memory for each, and less than 64 MiB for all.
  @Test(arguments: [
    "0", "1.5", "\"\"", "\"\\n\"", "[]", "{}", "[0]", "{\"a\":0}", "\"sixteen letters!\"",
    "1.000000000000000000",
  ])
  func aValueThatTakesMoreMemoryThanItMayIsRefused(value: String) throws {
    let list = Array("[\(repeatElement(value, count: 100_000).joined(separator: ","))]".utf8)
    let error = try #require(throws: JSONError.self) { try JSONValue.parse(list, limit: 1 << 20) }
    #expect(error.isTooLarge && error.problem == "takes more than 1 MiB of memory")
    #expect(error.offset < list.count / 2)
    #expect(try JSONValue.parse(list, limit: 64 << 20).array?.count == 100_000)
    let keys = (0..<100_000).map { "\"\($0)\":\(value)" }.joined(separator: ",")
    #expect(throws: JSONError.self) {
      try JSONValue.parse(Array("{\(keys)}".utf8), limit: 4 << 20)
    }
  }

  @Test func theTextOfALongNumberCounts() throws {
    let number = Array("1.\(String(repeating: "0", count: 200_000))".utf8)
    #expect(throws: JSONError.self) { try JSONValue.parse(number, limit: 150_000) }
    #expect(try JSONValue.parse(number, limit: 2_000_000).double == 1)
  }

  @Test func aLongTextCountsWithAllThatItGrowsThrough() throws {
    let text = Array("\"\(String(repeating: "a\\n", count: 100_000))\"".utf8)
    #expect(throws: JSONError.self) { try JSONValue.parse(text, limit: 300_000) }
    #expect(try JSONValue.parse(text, limit: 2_000_000).string?.utf8.count == 200_000)
  }

  @Test func `a byte order mark before the text is passed over`() throws {
    #expect(try parse("\u{FEFF} [1]") == [1])
    #expect(try parse("\u{FEFF}7") == 7)
  }

  @Test(arguments: ["null", "7", "\"x\"", " true\r\n\t"])
  func aScalarIsADocument(text: String) throws {
    #expect(throws: Never.self) { try parse(text) }
  }

  @Test(arguments: [
    (#""\" \\ \/ \b \f \n \r \t""#, "\" \\ / \u{8} \u{C} \n \r \t"),
    (#""\u0041\u00e9\u20AC""#, "Aé€"),
    (#""\ud83d\ude00x\uD834\uDD1E""#, "😀x𝄞"),
    (#""\u0000""#, "\0"),
    (#""日本 é 😀""#, "日本 é 😀"),
    (#""a\nb\nc""#, "a\nb\nc"),
    ("\"\u{7F}\"", "\u{7F}"),
  ])
  func stringsAreDecoded(text: String, expected: String) throws {
    #expect(try parse(text) == .string(expected))
  }

  @Test(arguments: [
    ("", 0, "expected a value"),
    ("  ", 2, "expected a value"),
    ("nul", 0, "expected a value"),
    ("nulL", 0, "expected a value"),
    ("True", 0, "expected a value"),
    ("NaN", 0, "expected a value"),
    ("+1", 0, "expected a value"),
    (".5", 0, "expected a value"),
    ("'x'", 0, "expected a value"),
    ("1\u{FEFF}", 1, "expected the end of the text"),
    ("[\u{FEFF}1]", 1, "expected a value"),
    ("1 2", 2, "expected the end of the text"),
    ("{} x", 3, "expected the end of the text"),
    ("1\0", 1, "expected the end of the text"),
    ("1//", 1, "expected the end of the text"),
    ("[1,]", 3, "expected a value"),
    ("[1 2]", 3, "expected `,` or `]`"),
    ("[1", 2, "expected `,` or `]`"),
    ("[", 1, "expected a value"),
    ("{", 1, "expected a key in quotes"),
    ("{1:2}", 1, "expected a key in quotes"),
    (#"{"a":1,}"#, 7, "expected a key in quotes"),
    (#"{"a" 1}"#, 5, "expected `:` after the key `a`"),
    (#"{"a":}"#, 5, "expected a value"),
    (#"{"a":1 "b":2}"#, 7, "expected `,` or `}`"),
    ("01", 0, "a number starts with a superfluous zero"),
    ("-00", 0, "a number starts with a superfluous zero"),
    ("-", 1, "expected a digit"),
    ("1.", 2, "expected a digit"),
    ("1.e5", 2, "expected a digit"),
    ("1e", 2, "expected a digit"),
    ("1e+", 3, "expected a digit"),
    ("0x10", 1, "expected the end of the text"),
    ("\"abc", 0, "string without closing quote"),
    ("\"a\nb\"", 2, "control character in a string; it must be escaped"),
    ("\"\u{1F}\"", 1, "control character in a string; it must be escaped"),
    (#""\x""#, 1, "unknown escape"),
    (#""\"#, 1, "unfinished escape"),
    (#""\u12"#, 5, "expected four hexadecimal digits"),
    (#""\u12g4""#, 5, "expected four hexadecimal digits"),
    (#""\ud83d""#, 1, "lone surrogate in an escape"),
    (#""\ud83dx""#, 1, "lone surrogate in an escape"),
    (#""\ud83d\n""#, 1, "lone surrogate in an escape"),
    (#""\ud83d\ud83d""#, 1, "lone surrogate in an escape"),
    (#""\ud83d\u0041""#, 1, "lone surrogate in an escape"),
    (#""\ude00""#, 1, "lone surrogate in an escape"),
    (#""\udc00\udc00""#, 1, "lone surrogate in an escape"),
  ])
  func malformedTextIsRefusedWhereItGoesWrong(text: String, offset: Int, problem: String) {
    #expect(throws: JSONError(offset: offset, problem: problem)) { try parse(text) }
  }

  @Test(
    arguments: [
      ([0x22, 0x61, 0xFF, 0x22], 2),
      ([0x22, 0xC0, 0x80, 0x22], 1),
      ([0x22, 0xED, 0xA0, 0x80, 0x22], 1),
      ([0x22, 0xF5, 0x80, 0x80, 0x80, 0x22], 1),
      ([0x22, 0x61, 0xE2, 0x82, 0x22], 2),
      ([0x22, 0x5C, 0x6E, 0x62, 0x80, 0x22], 4),
    ] as [([UInt8], Int)])
  func bytesThatAreNotUTF8AreRefused(bytes: [UInt8], offset: Int) {
    #expect(throws: JSONError(offset: offset, problem: "invalid UTF-8")) {
      try JSONValue.parse(bytes)
    }
  }

  @Test(arguments: [2, 9, 10, 40])
  func aDuplicateKeyIsRefusedByNameInSmallAndLargeObjects(count: Int) throws {
    let keys = (0..<count).map { "\"k\($0)\":\($0)" }
    let text = "{" + keys.joined(separator: ",") + ",\"\\u006b1\":0}"
    let offset = text.utf8.count - #""\u006b1":0}"#.utf8.count
    let expected = JSONError(
      offset: offset, problem: "key `k1` appears twice", duplicateKey: "k1")
    #expect(throws: expected) { try parse(text) }
  }

  @Test func keysThatDifferOnlyInUnicodeSpellingAreTwoKeys() throws {
    let object = try #require(parse("{\"\u{E9}\":1,\"e\u{301}\":2}").object)
    #expect(object["\u{E9}"] == 1)
    #expect(object["e\u{301}"] == 2)
  }

  @Test func nestingIsAllowedTo128AndRefusedBeyond() throws {
    func nested(_ depth: Int) -> String {
      String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    }
    #expect(throws: Never.self) { try parse(nested(128)) }
    #expect(throws: JSONError(offset: 128, problem: "nested more than 128 deep")) {
      try parse(nested(129))
    }
    #expect(throws: JSONError(offset: 128, problem: "nested more than 128 deep")) {
      try parse(String(repeating: "[", count: 1_000_000))
    }
  }

  @Test func siblingsDoNotCountAsDepth() throws {
    let text = "[" + Array(repeating: "[]", count: 500).joined(separator: ",") + "]"
    #expect(try parse(text).array?.count == 500)
  }

  @Test func bytesOfABufferAreReadLikeAnArray() throws {
    let text: [UInt8] = Array(#"{"a":[1,2]}"#.utf8)
    let value = try unsafe text.withUnsafeBytes { try unsafe JSONValue.parse($0) }
    #expect(try value == JSONValue.parse(text))
    #expect(throws: JSONError(offset: 0, problem: "expected a value")) {
      try unsafe JSONValue.parse(UnsafeRawBufferPointer(start: nil, count: 0))
    }
  }

  @Test func theMessageNamesProblemAndOffset() {
    let error = JSONError(offset: 17, problem: "expected a digit")
    #expect(error.description == "expected a digit at byte 17")
  }

  @Test func corruptedTextNeverTrapsAndWhatParsesIsWrittenBackTheSame() throws {
    let source = Array(
      #"{"model":{"é":[1,-2.5e-3,true,null,"a\u00e9\ud83d\ude00\n"],"b":{}},"z":[[],[{}]]}"#.utf8)
    var random = SystemRandomNumberGenerator()
    var accepted = 0
    for _ in 0..<20_000 {
      var bytes = source
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let position = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes[position] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.remove(at: position)
        default: bytes.insert(bytes.randomElement(using: &random)!, at: position)
        }
      }
      guard let value = try? JSONValue.parse(bytes) else { continue }
      accepted += 1
      #expect(try parse(value.serialized()) == value)
    }
    #expect(accepted > 0 && accepted < 20_000)
  }

  @Test func `numbers that only Python writes are read where that is asked for, and written again`()
    throws
  {
    let text = "{\"a\": Infinity, \"b\": [-Infinity, NaN, -1]}"
    let value = try JSONValue.parse(Array(text.utf8), allowsNonFinite: true)
    #expect(value.serialized() == "{\"a\":Infinity,\"b\":[-Infinity,NaN,-1]}")
    #expect(value.object?["a"]?.double == nil && value.object?["a"]?.int == nil)
    for bad in ["Infinit", "Nan", "-Inf", "-NaN", "infinity", "+Infinity"] {
      #expect(throws: JSONError.self, "\(bad)") {
        try JSONValue.parse(Array(bad.utf8), allowsNonFinite: true)
      }
    }
    for strict in ["Infinity", "-Infinity", "NaN"] {
      #expect(throws: JSONError.self) { try JSONValue.parse(Array(strict.utf8)) }
    }
  }
  /// `String` takes all of these for equal: a table that trusts it would compare each with each.
  @Test func `spellings of one key are told apart in any number`() throws {
    let members = (0..<1 << 16).map { number in
      let key = (0..<16).map { number >> $0 & 1 == 1 ? "\u{e9}" : "e\u{301}" }.joined()
      return "\"\(key)\":\(number)"
    }
    let object = try JSONValue.parse(Array("{\(members.joined(separator: ","))}".utf8)).object
    #expect(object?.count == 1 << 16)
    #expect(object?[String(repeating: "\u{e9}", count: 16)] == .number(JSONNumber(65_535)))
  }
}
