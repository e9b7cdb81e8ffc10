// Which template of a folder is taken, and with which special tokens.

import ChatTemplates
import JSON
import SystemIO
import Testing
import TestSupport

@Suite struct ChatTemplateFilesTests {
  private func withFolder(
    _ files: [String: String], _ body: (ChatTemplateFiles) throws -> Void
  ) throws {
    try withTemporaryFolder { folder in
      for (name, text) in files {
        if name.contains("/") { try FileSystem.createFolder("\(folder)/additional_chat_templates") }
        try replaceFile("\(folder)/\(name)", with: Array(text.utf8))
      }
      try body(try ChatTemplateFiles.find(folder: folder))
    }
  }

  private func rendered(
    _ files: ChatTemplateFiles, named name: String? = nil, hasTools: Bool = false
  ) throws -> String {
    try files.template(named: name, hasTools: hasTools)
      .render(messages: [], variables: files.specialTokens, date: frozen)
  }

  @Test func aTemplateFileWinsOverTheConfig() throws {
    try withFolder([
      "chat_template.jinja": "file\n", "tokenizer_config.json": #"{"chat_template": "config"}"#,
      "chat_template.json": #"{"chat_template": "legacy"}"#,
    ]) { try #expect(rendered($0) == "file") }
  }

  @Test func theConfigWinsOverTheLegacyFile() throws {
    try withFolder([
      "tokenizer_config.json": #"{"chat_template": "config"}"#,
      "chat_template.json": #"{"chat_template": "legacy"}"#,
    ]) { try #expect(rendered($0) == "config") }
    try withFolder(["chat_template.json": #"{"chat_template": "legacy"}"#]) {
      try #expect(rendered($0) == "legacy")
    }
  }

  @Test func aListHasATemplateForTools() throws {
    let config = #"""
      {"chat_template": [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"},
       {"name": "rag", "template": "documents"}]}
      """#
    try withFolder(["tokenizer_config.json": config]) { files in
      try #expect(rendered(files) == "plain")
      try #expect(rendered(files, hasTools: true) == "tools")
      try #expect(rendered(files, named: "rag", hasTools: true) == "documents")
      #expect(throws: ChatTemplateFilesError.self) { try rendered(files, named: "other") }
    }
  }

  @Test func additionalTemplatesJoinTheFile() throws {
    try withFolder([
      "chat_template.jinja": "plain", "additional_chat_templates/tool_use.jinja": "tools",
      "tokenizer_config.json": #"{"chat_template": "config"}"#,
    ]) { files in
      try #expect(rendered(files) == "plain")
      try #expect(rendered(files, hasTools: true) == "tools")
    }
  }

  @Test func severalTemplatesWithoutADefaultAreNamed() throws {
    try withFolder(["additional_chat_templates/rag.jinja": "documents"]) { files in
      let error = #expect(throws: ChatTemplateFilesError.self) { try rendered(files) }
      #expect(error?.description.hasSuffix("choose one with `--chat-template`") == true)
      #expect(error?.description.contains("`rag`") == true)
    }
  }

  @Test func aFolderWithoutTemplateNamesTheOption() throws {
    try withFolder(["tokenizer_config.json": "{}"]) { files in
      let error = #expect(throws: ChatTemplateFilesError.self) { try rendered(files) }
      #expect(error?.description.hasSuffix("give one with `--chat-template`") == true)
    }
    try withFolder([:]) { #expect($0.sources.isEmpty) }
  }

  @Test func specialTokensAreStringsOrObjects() throws {
    let config = #"""
      {"eos_token": {"__type": "AddedToken", "content": "</s>"}, "bos_token": "<s>", "unk_token": null,
       "image_token": "<image>", "add_bos_token": false, "model_max_length": 5,
       "extra_special_tokens": {"video_token": "<video>"}, "added_tokens_decoder": {}}
      """#
    let map = #"{"bos_token": "<other>", "pad_token": "<pad>"}"#
    try withFolder(["tokenizer_config.json": config, "special_tokens_map.json": map]) { files in
      let shown = files.specialTokens.map { "\($0.0)=\($0.1.string ?? "")" }
      #expect(
        shown == [
          "bos_token=<s>", "eos_token=</s>", "image_token=<image>", "video_token=<video>",
        ])
    }
    try withFolder([
      "tokenizer_config.json": #"{"bos_token": "<s>"}"#, "special_tokens_map.json": map,
    ]) { files in
      #expect(files.specialTokens.map { $0.1.string } == ["<other>", "<pad>"])
    }
  }

  @Test func malformedFilesAreNamed() throws {
    for text in ["[]", "{", #"{"chat_template": 5}"#, #"{"chat_template": [{"name": "x"}]}"#] {
      let error = #expect(throws: ChatTemplateFilesError.self, "\(text)") {
        try withFolder(["tokenizer_config.json": text]) { _ in }
      }
      #expect(error?.description.hasSuffix("; download it again") == true, "\(text)")
    }
  }

  @Test func `a template that was given and is no text names the option`() throws {
    try withTemporaryFolder { folder in
      try replaceFile("\(folder)/t.jinja", with: [0xFF])
      let error = #expect(throws: ChatTemplateFilesError.self) {
        try ChatTemplateFiles.template(file: "\(folder)/t.jinja")
      }
      let wayOut = "; give another template with `--chat-template`"
      #expect(error?.description.hasSuffix(wayOut) == true)
    }
  }
}
