// Messages and tools to a prompt, as transformers' `apply_chat_template` renders it.

package import JSON

/// A parsed chat template.
///
/// Source: `transformers/utils/chat_template_utils.py` 5.17 over Jinja2 3.1.6.
package struct ChatTemplate: Sendable {
  package let name: String
  private let tree: SyntaxTree

  /// - Parameters:
  ///   - source: the template's text.
  ///   - name: what errors call it, such as its file.
  package init(_ source: String, name: String) throws(TemplateError) {
    self.name = name
    do {
      tree = try Parser.parse(source)
    } catch {
      throw error.placed(template: name, line: 1, construct: "")
    }
  }

  /// The prompt for one conversation.
  ///
  /// - Parameters:
  ///   - messages: the conversation, usually a list of objects with `role` and `content`.
  ///   - tools: a list of JSON schemas; nil, and `documents` likewise, is `none` in the template.
  ///   - variables: special tokens and the user's own; a later one of the same name wins.
  ///   - date: what `strftime_now` takes for now.
  package func render(
    messages: JSONValue, tools: JSONValue? = nil, documents: JSONValue? = nil,
    variables: [(String, JSONValue)] = [], addGenerationPrompt: Bool = false, date: TemplateDate
  ) throws(TemplateError) -> String {
    let interpreter = Interpreter(tree)
    interpreter.defineGlobals(date: date)
    interpreter.define("messages", input: messages)
    interpreter.define("tools", input: tools ?? .null)
    interpreter.define("documents", input: documents ?? .null)
    interpreter.define("add_generation_prompt", .bool(addGenerationPrompt))
    for (name, value) in variables { interpreter.define(name, input: value) }
    do {
      return try interpreter.render()
    } catch {
      throw error.placed(template: name, line: 1, construct: "")
    }
  }

  /// For fuzzing: parses and renders any bytes with a small chat; every outcome but a crash is good.
  package static func exercise(_ bytes: [UInt8]) {
    let chat: JSONValue = [
      ["role": "user", "content": "héllo <b>&\n"],
      ["role": "assistant", "content": ["a", 1, nil, true]],
    ]
    guard let date = TemplateDate(year: 2024, month: 2, day: 29),
      let template = try? ChatTemplate(String(decoding: bytes, as: UTF8.self), name: "fuzz")
    else { return }
    _ = try? template.render(
      messages: chat, tools: chat, variables: [("bos_token", "<s>")], addGenerationPrompt: true,
      date: date)
  }
}
