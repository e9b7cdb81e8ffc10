// Templates with what transformers' renderer made of them, from tools/fixtures/make_template_fixtures.py.

import ChatTemplates
import JSON
import SystemIO
import Testing
import TestSupport

/// What a render gave: text, or the class of its error and the line.
struct Outcome: Equatable, CustomStringConvertible {
  var text: String?
  var error: String?
  var line: Int?
  var message = ""

  init(_ body: () throws(TemplateError) -> String) {
    do {
      text = try body()
    } catch {
      self.error =
        switch error {
        case .syntax: "syntax"
        case .raised: "raised"
        case .undefined: "undefined"
        case .refused: "refused"
        case .failed: "failed"
        case .tooLarge: "tooLarge"
        }
      line = error.place.line
      message = error.description
    }
  }

  /// As the fixtures have it.
  init(golden: JSONObject) {
    text = golden["ok"]?.string
    error = golden["error"]?.string
    line = golden["line"]?.int
  }

  /// Text to the byte; of errors the class, and the line but for one: Jinja2 takes some from the
  /// token after the expression.
  func agrees(with golden: Outcome) -> Bool {
    guard error == golden.error else { return false }
    if let text, let other = golden.text { return text.utf8.elementsEqual(other.utf8) }
    guard let line, let other = golden.line else { return text == nil && golden.text == nil }
    return abs(line - other) <= 1
  }

  var description: String {
    text.map { "\($0.debugDescription)" } ?? "\(error ?? "?") on line \(line ?? 0): \(message)"
  }
}

func readJSON(_ path: String) throws -> JSONObject {
  try #require(try JSONValue.parse(try FileSystem.readFile(path)).object)
}

func pairs(_ value: JSONValue?) -> [(String, JSONValue)] {
  value?.object?.entries.map { ($0.key, $0.value) } ?? []
}

/// The moment every golden was made at.
let frozen = TemplateDate(year: 2024, month: 7, day: 31, hour: 14, minute: 5, second: 9)!

func render(
  _ template: String, _ variables: [(String, JSONValue)] = [], messages: JSONValue = []
) throws(TemplateError) -> String {
  try ChatTemplate(template, name: "test.jinja")
    .render(messages: messages, variables: variables, date: frozen)
}
