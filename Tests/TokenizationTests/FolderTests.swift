// Tokenizers of whole folders beside what transformers' AutoTokenizer 5.17 makes of them.

import Glibc
import JSON
import SystemIO
import Testing
import TestSupport
import Tokenization

/// The fixtures, or a folder of more that tools/fixtures/make_auto_tokenizer_fixtures.py made.
private let auto =
  unsafe getenv("SLUICE_TOKENIZER_FOLDER").map { unsafe String(cString: $0) }
  ?? fixturePath("tokenizers/auto")

private let texts: [String] = {
  let path = FileSystem.exists("\(auto)/strings.json") ? auto : fixturePath("tokenizers")
  return (try? json("\(path)/strings.json").array?.compactMap(\.string)) ?? []
}()

private func json(_ path: String) throws -> JSONValue {
  try JSONValue.parse(try FileSystem.readFile(path))
}

private func ids(_ value: JSONValue?) throws -> [[Int32]] {
  try #require(value?.array).map { try #require($0.array).map { Int32(try #require($0.int)) } }
}

private let forms = (try? json("\(auto)/forms.json").array) ?? []

/// Runs `body` on a folder with the files of a case.
private func withFolder(
  files: JSONObject?, settings: JSONObject, _ body: (_ folder: String) throws -> Void
) throws {
  try withTemporaryFolder { folder in
    for (name, path) in files?.entries ?? [] {
      try replaceFile(
        "\(folder)/\(name)", with: try FileSystem.readFile("\(auto)/\(try #require(path.string))"))
    }
    for (name, content) in settings.entries {
      try replaceFile("\(folder)/\(name)", with: Array(content.serialized().utf8))
    }
    try body(folder)
  }
}

@Suite struct FolderTests {
  @Test(arguments: forms.indices)
  func everyFormHasTheIDsOfAutoTokenizer(form: Int) throws {
    let form = try #require(forms[form].object)
    let name = try #require(form["name"]?.string)
    let golden = try #require(try json("\(auto)/\(name).ids.json").object)
    let settings = try #require(form["settings"]?.object)
    try withFolder(files: form["files"]?.object, settings: settings) { folder in
      let tokenizer = try Tokenizer(folder: folder)
      #expect(tokenizer.vocabularySize == golden["size"]?.int, "\(name)")
      let plain = try ids(golden["ids"])
      let special = try golden["special"].map { try ids($0) } ?? plain
      try #require(plain.count == texts.count && special.count == texts.count)
      for (number, text) in texts.enumerated() {
        let comment = Comment(rawValue: "\(name): \(text.debugDescription)")
        #expect(try tokenizer.encode(text, addSpecialTokens: false) == plain[number], comment)
        #expect(try tokenizer.encode(text, addSpecialTokens: true) == special[number], comment)
        let decoded = golden["decoded"]?.object?[String(number)]?.string ?? text
        #expect(try tokenizer.decode(plain[number]).utf8.elementsEqual(decoded.utf8), comment)
      }
    }
  }

  @Test func theFormsAreThere() {
    #expect(forms.count >= 17 && texts.count >= 200)
  }

  @Test func tokensThatOnlySettingsNameHaveTheIDsOfAutoTokenizer() throws {
    let all = try #require(try json("\(auto)/settings.json").object)
    let base = try #require(all["base"])
    let cases = try #require(all["cases"]?.array)
    #expect(cases.count >= 150)
    for (number, value) in cases.enumerated() {
      let value = try #require(value.object)
      let settings = try #require(value["settings"]?.object)
      let files = JSONObject(settings.entries.map { ($0.0, $0.1) } + [("tokenizer.json", base)])
      try withFolder(files: nil, settings: files) { folder in
        let tokenizer = try Tokenizer(folder: folder)
        let plain = try ids(value["ids"])
        let special = try ids(value["special"])
        for (index, text) in try #require(value["texts"]?.array).enumerated() {
          let text = try #require(text.string)
          let comment = Comment(rawValue: "case \(number): \(text.debugDescription)")
          #expect(try tokenizer.encode(text, addSpecialTokens: false) == plain[index], comment)
          #expect(try tokenizer.encode(text, addSpecialTokens: true) == special[index], comment)
        }
      }
    }
  }

  @Test(arguments: [
    (
      "tokenizer_config.json",
      #"{"added_tokens_decoder": {"40": {"content": "<|x|>", "special": true}}}"#
    ),
    ("tokenizer_config.json", #"{"extra_special_tokens": ["<|x|>"]}"#),
    ("tokenizer_config.json", #"{"additional_special_tokens": ["<|x|>"]}"#),
    ("tokenizer_config.json", #"{"extra_special_tokens": {"x_token": "<|x|>"}}"#),
    ("tokenizer_config.json", #"{"x_token": "<|x|>"}"#),
    ("tokenizer_config.json", #"{"bos_token": "<|x|>", "eos_token": null}"#),
    ("tokenizer_config.json", #"{"pad_token": {"__type": "AddedToken", "content": "<|x|>"}}"#),
    ("special_tokens_map.json", #"{"sep_token": {"content": "<|x|>", "lstrip": false}}"#),
    ("special_tokens_map.json", #"{"additional_special_tokens": ["<|x|>"]}"#),
    ("added_tokens.json", #"{"<|x|>": 40}"#),
  ])
  func aTokenThatStandsInOneOtherFileIsOneToken(name: String, content: String) throws {
    let base = try #require(
      try json("\(fixturePath("tokenizers/auto"))/settings.json").object?["base"])
    try withFolder(files: nil, settings: JSONObject([("tokenizer.json", base)])) { folder in
      let text = "a<|x|>b"
      let before = try Tokenizer(folder: folder).encode(text, addSpecialTokens: false)
      #expect(before.count > 3)
      try replaceFile("\(folder)/\(name)", with: Array(content.utf8))
      // 37 tokens of the vocabulary, three of tokenizer.json's own.
      #expect(try Tokenizer(folder: folder).encode(text, addSpecialTokens: false) == [0, 40, 1])
    }
  }
}
