// Rows as users have them to sequences of token ids: columns, choices, and what becomes of bad rows.

import Calibration
import ChatTemplates
import Datasets
import JSON
import SystemIO
import Testing
import TestSupport

@Suite struct CalibrationSourceTests {
  /// A folder with the tokenizer and the chat template of a small GLM-4.
  private let model = fixturePath("glm4-moe-4m")

  private func load(
    _ text: String, samples: Int = 10, length: Int = 100, vocabularySize: Int = 2048,
    model: String? = nil, configure: (inout CalibrationSource) -> Void = { _ in }
  ) throws -> CalibrationData {
    try withTemporaryFolder { folder in
      let path = folder + "/data.jsonl"
      try replaceFile(path, with: Array(text.utf8))
      var source = CalibrationSource(
        path: path, selection: RowSelection(samples: samples, sequenceLength: length))
      configure(&source)
      return try source.load(model: model ?? self.model, vocabularySize: vocabularySize)
    }
  }

  /// The ids that the fixture's tokenizer gives a text, by the text column.
  private func ids(_ text: String) throws -> [Int32] {
    let row = JSONValue.object(JSONObject([("text", .string(text))])).serialized()
    return try load(row, length: 10_000).sequences[0]
  }

  // MARK: Columns

  @Test func `every line of ids is a sequence`() throws {
    let data = try load("{\"input_ids\":[1,2,3]}\n{\"input_ids\":[4],\"other\":null}\n")
    #expect(data.sequences == [[1, 2, 3], [4]])
    #expect(data.tokens == 4 && data.longest == 3 && data.rowsRead == 2)
  }

  @Test func `a chat is what its template makes of it`() throws {
    let data = try load(
      #"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":" Hello. "}]}"#)
    #expect(data.sequences == [try ids("[gMASK]<sop><|user|>\nHi<|assistant|>\n\nHello.")])
  }

  @Test func `turns of from and value are the same chat`() throws {
    let messages = try load(
      #"{"messages":[{"role":"system","content":"S"},{"role":"user","content":"Hi"},{"role":"assistant","content":"A"}]}"#
    )
    let conversations = try load(
      #"{"conversations":[{"from":"system","value":"S"},{"from":"human","value":"Hi"},{"from":"gpt","value":"A"}]}"#
    )
    #expect(messages.sequences == conversations.sequences)
  }

  @Test func `another column of text can be named`() throws {
    let data = try load("{\"body\":\"Hi there\",\"id\":7}") { $0.textColumn = "body" }
    #expect(data.sequences == [try ids("Hi there")])
  }

  @Test func `a named column that is not there is refused with the ones that are`() {
    let error = #expect(throws: CalibrationError.self) {
      try load("{\"body\":\"Hi\",\"id\":7}") { $0.textColumn = "content" }
    }
    #expect("\(error!)".contains("no column `content`; the columns are `body`, `id`"))
  }

  @Test func `columns that are not known are refused by their names`() {
    let error = #expect(throws: CalibrationError.self) { try load("{\"body\":\"Hi\",\"id\":7}") }
    #expect("\(error!)".contains("the columns are `body`, `id`; name the one with text"))
  }

  @Test func `a text with a run of millions of characters is one row`() throws {
    let run = String(repeating: " ", count: 3_000_000)
    let data = try load("{\"text\":\"Hi\"}\n{\"text\":\"a\(run)b\"}\n{\"text\":\"Hi\"}\n")
    #expect(data.sequences == [try ids("Hi"), try ids("Hi")])
    #expect(data.failedRows.count == 1)
    #expect(data.failedRows[0].place.hasSuffix("data.jsonl: line 2"))
    #expect(
      data.failedRows[0].problem.contains("tokenizer.json: the tokenizer's regular expression"))
    #expect(data.failedRows[0].problem.contains("more than 2 million places to come back to"))
  }

  // MARK: Choice

  @Test func `rows are cut and counted`() throws {
    let data = try load("{\"input_ids\":[1,2,3,4]}\n{\"input_ids\":[5,6]}\n", length: 2)
    #expect(data.sequences == [[1, 2], [5, 6]])
    #expect(data.cutRows == 1)
  }

  @Test func `reading ends with the last sample`() throws {
    let data = try load("{\"input_ids\":[1]}\n{\"input_ids\":[2]}\nnot JSON\n", samples: 2)
    #expect(data.sequences == [[1], [2]])
    #expect(data.rowsRead == 2 && data.failedRows.isEmpty)
  }

  @Test func `packed rows make full sequences`() throws {
    let text = "{\"input_ids\":[1,2,3]}\n{\"input_ids\":[4]}\n{\"input_ids\":[5,6,7,8]}\n"
    let data = try load(text, length: 3) { $0.selection.packs = true }
    #expect(data.sequences == [[1, 2, 3], [4, 5, 6]])
    let short = try load(text, samples: 1, length: 3) { $0.selection.packs = true }
    #expect(short.sequences == [[1, 2, 3]] && short.rowsRead == 1)
  }

  @Test func `a seed chooses rows, the same ones every time`() throws {
    let text = (0..<200).map { "{\"input_ids\":[\($0)]}\n" }.joined()
    func choice(_ seed: UInt64) throws -> [Int32] {
      try load(text) { $0.selection.shuffleSeed = seed }.sequences.map { $0[0] }
    }
    let first = try choice(1)
    #expect(first.count == 10 && Set(first).count == 10)
    #expect(try choice(1) == first)
    #expect(try choice(2) != first)
    #expect(first != first.sorted())
    // Every row has its chance: over many seeds all parts of the file are drawn from.
    let drawn = Set(try (0..<40).flatMap { try choice(UInt64($0)) })
    #expect(drawn.count > 150)
  }

  @Test func `the built-in chats need nothing but a model`() throws {
    let source = CalibrationSource(
      path: nil, selection: RowSelection(samples: 600, sequenceLength: 64))
    let data = try source.load(model: model, vocabularySize: 2048)
    #expect(data.sequences.count == 600)
    #expect(data.failedRows.isEmpty && data.emptyRows == 0)
  }

  // MARK: Bad rows

  @Test func `rows that cannot be used are counted with place and reason`() throws {
    let data = try load(
      """
      {"input_ids":[1]}
      not JSON
      {"input_ids":[5000]}
      {"input_ids":"1 2"}
      {"other":1}
      {"input_ids":[]}
      {"input_ids":[2]}
      """)
    #expect(data.sequences == [[1], [2]])
    #expect(data.emptyRows == 1)
    let problems = data.failedRows.map(\.description)
    #expect(problems.count == 4)
    #expect(problems[0].contains("data.jsonl: line 2"))
    #expect(problems[1].contains("token 0 is 5000, expected a whole number below 2048"))
    #expect(problems[2].contains("`input_ids` is string, not a list"))
    #expect(problems[3].contains("no `input_ids`"))
  }

  @Test(arguments: ["-1", "1.5", "\"a\"", "null", "1e1", "9223372036854775808"])
  func `what is no token id is refused`(value: String) {
    #expect(throws: CalibrationError.self) { try load("{\"input_ids\":[\(value)]}") }
  }

  @Test func `no usable row is an error with the first reason`() {
    let error = #expect(throws: CalibrationError.self) {
      try load("{\"input_ids\":[9999]}\n{\"input_ids\":[]}\n")
    }
    #expect("\(error!)".contains("none of 2 rows gives tokens; the first: "))
  }

  @Test func `a chat that the template refuses is one row, and an error only when none is left`()
    throws
  {
    try withTemporaryFolder { folder in
      let template = folder + "/t.jinja"
      try replaceFile(
        template,
        with: Array(
          "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}{{ m.content }}{% endfor %}"
            .utf8))
      let good = #"{"messages":[{"role":"user","content":"Hi"}]}"#
      let bad = #"{"messages":[{"role":"tool","content":"Hi"}]}"#
      let data = try load(bad + "\n" + good) { $0.chatTemplate = template }
      #expect(data.sequences == [try ids("Hi")])
      #expect(data.failedRows[0].problem.contains("refuses it (line 1): no tools"))
      #expect(throws: CalibrationError.self) { try load(bad) { $0.chatTemplate = template } }
    }
  }

  /// Python raises TypeError, UndefinedError and others on the same rows.
  @Test(arguments: [
    ("{{ m.content + '!' }}", #"{"role":"user","content":null}"#),
    ("{{ m.content + '!' }}", #"{"role":"user"}"#),
    ("{{ m.content | length }}", #"{"role":"user","content":7}"#),
    ("{{ m.content.strip() }}", #"{"role":"user","content":["a"]}"#),
    ("{% for c in m.calls %}{{ c.function.name }}{% endfor %}", #"{"content":"","calls":"ab"}"#),
    ("{% for k, v in m.content.items() %}{{ k }}{% endfor %}", #"{"role":"a","content":"text"}"#),
    ("{% if m.content %}{{ m.content | no_such_filter }}{% endif %}", #"{"content":"x"}"#),
    ("{% if m.content > 1 %}{% endif %}", #"{"content":"x"}"#),
  ])
  func `a chat that the template fails on, for whatever reason, is one row`(
    template: String, message: String
  ) throws {
    try withTemporaryFolder { folder in
      let file = folder + "/t.jinja"
      let whole =
        "{% for m in messages %}{% if m.good %}Hi{% else %}\(template){% endif %}{% endfor %}"
      try replaceFile(file, with: Array(whole.utf8))
      let good = #"{"messages":[{"role":"user","good":true}]}"#
      let bad = #"{"messages":[\#(message)]}"#
      let data = try load([good, bad, good].joined(separator: "\n")) { $0.chatTemplate = file }
      #expect(data.sequences == [try ids("Hi"), try ids("Hi")])
      #expect(data.failedRows.count == 1)
      #expect(data.failedRows[0].place.hasSuffix("data.jsonl: line 2"))
      #expect(data.failedRows[0].problem.hasPrefix("the chat template fails on it (line 1): "))
      let error = #expect(throws: CalibrationError.self) {
        try load(bad) { $0.chatTemplate = file }
      }
      #expect("\(error!)".contains("none of 1 row gives tokens; the first: "))
      #expect("\(error!)".contains("the chat template fails on it (line 1): "))
    }
  }

  @Test func `a template that comes to its limits on many chats ends the run`() throws {
    try withTemporaryFolder { folder in
      let file = folder + "/t.jinja"
      let loops = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
      try replaceFile(file, with: Array(loops.utf8))
      let rows = Array(repeating: #"{"messages":[{"role":"user"}]}"#, count: 40)
      let error = #expect(throws: CalibrationError.self) {
        try load(rows.joined(separator: "\n")) { $0.chatTemplate = file }
      }
      #expect(
        "\(error!)".contains("came to a limit on 8 rows; give another one by --chat-template"))
      #expect("\(error!)".contains("line 1"))
    }
  }

  @Test(arguments: [
    "{% for m in messages %}{{ m.content }}", "{{ messages | no_such_filter }}",
    "{% trans %}x{% endtrans %}", "{% endfor %}", "{{ 'x' is no_such_test }}",
  ])
  func `a template that is wrong for every chat is an error at once`(template: String) throws {
    try withTemporaryFolder { folder in
      let file = folder + "/t.jinja"
      try replaceFile(file, with: Array(template.utf8))
      #expect(throws: TemplateError.self) {
        try load(#"{"messages":[{"role":"user","content":"Hi"}]}"#) { $0.chatTemplate = file }
      }
    }
  }

  // MARK: Files

  @Test func `columns beside the one that is read may be of any type`() throws {
    let source = CalibrationSource(
      path: fixturePath("datasets/refused.types.parquet"),
      selection: RowSelection(samples: 1, sequenceLength: 8))
    #expect(
      try source.load(model: model, vocabularySize: 2048).sequences == [try ids("a")])
  }

  @Test func `tools are read where a later chat brings them`() throws {
    try withTemporaryFolder { folder in
      let template = folder + "/t.jinja"
      try replaceFile(template, with: Array("{{ tools[0].name if tools else 'none' }}".utf8))
      let plain = #"{"messages":[{"role":"user","content":"Hi"}]}"# + "\n"
      let last = #"{"messages":[{"role":"user","content":"Hi"}],"tools":[{"name":"look"}]}"#
      let text = String(repeating: plain, count: 120) + last
      let data = try load(text, samples: 200) { $0.chatTemplate = template }
      #expect(data.sequences.last == (try ids("look")))
      #expect(data.sequences.first == (try ids("none")))
    }
  }

  private func problem(of bytes: [UInt8], named name: String) throws -> String {
    try withTemporaryFolder { folder in
      try replaceFile("\(folder)/\(name)", with: bytes)
      let source = CalibrationSource(
        path: "\(folder)/\(name)", selection: RowSelection(samples: 1, sequenceLength: 8))
      let error = try #require(throws: CalibrationError.self) {
        try source.load(model: model, vocabularySize: 2048)
      }
      return "\(error)".replacing(folder + "/", with: "")
    }
  }

  private let latin1 = Array("{\"text\":\"caf".utf8) + [0xE9] + Array("\"}\n".utf8)

  @Test(arguments: ["t.txt", "t.jsonl", "t.json"])
  func `what is no UTF-8 is refused as that, with the place`(name: String) throws {
    let bytes = name == "t.json" ? Array("[".utf8) + latin1 + Array("]".utf8) : latin1
    let problem = try problem(of: bytes, named: name)
    #expect(problem.hasPrefix("\(name): ") && problem.contains("UTF-8"), "\(problem)")
    #expect(problem.contains(" 1: ") && problem.contains("at byte 1"), "\(problem)")
    #expect(!problem.contains("column"), "\(problem)")
  }

  @Test(arguments: ["t.jsonl", "t.json"], ["", "\n \n"])
  func `what has no rows is refused as that`(name: String, text: String) throws {
    let content = name == "t.json" ? "[\(text)]" : text
    #expect(
      try problem(of: Array(content.utf8), named: name)
        == "\(name): no rows in it; give a file with chats, text or token ids")
  }

  @Test(arguments: ["t.txt", "t.jsonl", "t.json"])
  func `a byte order mark before data is passed over`(name: String) throws {
    let text = ["t.txt": "Hi", "t.jsonl": "{\"text\":\"Hi\"}", "t.json": "[{\"text\":\"Hi\"}]"][
      name]
    try withTemporaryFolder { folder in
      try replaceFile("\(folder)/\(name)", with: Array("\u{FEFF}\(text!)".utf8))
      let source = CalibrationSource(
        path: "\(folder)/\(name)", selection: RowSelection(samples: 1, sequenceLength: 8))
      #expect(try source.load(model: model, vocabularySize: 2048).sequences == [try ids("Hi")])
    }
  }

  @Test func `a template sees its arguments, its date and the special tokens`() throws {
    try withTemporaryFolder { folder in
      let template = folder + "/t.jinja"
      try replaceFile(
        template, with: Array("{{ eos_token }}{{ strftime_now('%Y') }}{{ mode }}{{ n + 1 }}".utf8))
      let data = try load(#"{"messages":[{"role":"user","content":"Hi"}]}"#) {
        $0.chatTemplate = template
        $0.templateArguments = [("mode", "x"), ("n", 2)]
      }
      #expect(data.sequences == [try ids("<|endoftext|>2025x3")])
    }
  }

  @Test func `a template sees the special tokens of the tokenizer's class`() throws {
    try withTemporaryFolder { folder in
      try FileSystem.copyFile(
        from: fixturePath("tokenizers/auto/bpe.model"), to: folder + "/tokenizer.model")
      let settings = #"{"tokenizer_class": "LlamaTokenizer", "eos_token": null}"#
      try replaceFile(folder + "/tokenizer_config.json", with: Array(settings.utf8))
      try replaceFile(
        folder + "/chat_template.jinja", with: Array("{{ bos_token }}{{ eos_token }}".utf8))
      let chat = #"{"messages":[{"role":"user","content":"Hi"}]}"#
      #expect(try load(chat, model: folder).sequences == [[1]])
    }
  }

  @Test
  func `a row with a token beyond the model's vocabulary is not used, and the token is named`()
    throws
  {
    try withTemporaryFolder { folder in
      try FileSystem.copyFile(from: model + "/tokenizer.json", to: folder + "/tokenizer.json")
      try replaceFile(
        folder + "/tokenizer_config.json", with: Array(#"{"pad_token": "<|x|>"}"#.utf8))
      let data = try load("{\"text\":\"Hi\"}\n{\"text\":\"a<|x|>\"}\n", model: folder)
      #expect(data.sequences == [try ids("Hi")])
      let problem = "`<|x|>`, is beyond the model's vocabulary of 2048"
      #expect(data.failedRows.count == 1 && data.failedRows[0].problem.contains(problem))
    }
  }

  @Test func `chats for a model without a template are refused with the option`() throws {
    try withTemporaryFolder { folder in
      try FileSystem.copyFile(from: model + "/tokenizer.json", to: folder + "/tokenizer.json")
      let chat = #"{"messages":[{"role":"user","content":"Hi"}]}"#
      let error = #expect(throws: (any Error).self) { try load(chat, model: folder) }
      #expect("\(error!)".contains("`--chat-template`"))
      // Text needs no template.
      #expect(try load("{\"text\":\"Hi\"}", model: folder).sequences == [try ids("Hi")])
    }
  }
  /// A config.json without weights may say anything, or nothing.
  @Test(arguments: [1 << 33, Int.max])
  func `an id beyond 32 bits is the row's fault`(vocabularySize: Int) throws {
    for id in [1 << 31, 1 << 32, Int.max - 1] {
      let data = try load(
        "{\"input_ids\":[\(id)]}\n{\"input_ids\":[1]}", vocabularySize: vocabularySize)
      #expect(data.sequences == [[1]] && data.failedRows.count == 1)
      #expect(data.failedRows.first?.problem.contains("\(id)") == true)
    }
  }
}
