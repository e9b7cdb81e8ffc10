// Errors as the user reads them, dates, and what a render is given.

import ChatTemplates
import JSON
import Testing

@Suite struct ChatTemplateTests {
  private func error(_ template: String, messages: JSONValue = []) -> String {
    do {
      return "no error: " + (try render(template, messages: messages))
    } catch {
      return error.description
    }
  }

  @Test func anErrorNamesTemplateLineAndConstruct() {
    #expect(
      error("a\n{% if true %}\n{{ x.y }}{% endif %}")
        == "test.jinja line 3 in `.y`: 'x' is undefined")
    #expect(
      error("{% for x in 5 %}{% endfor %}")
        == "test.jinja line 1 in {% for %}: 'int' object is not iterable")
    #expect(
      error("\n\n{{ range|tojson }}")
        == "test.jinja line 3 in filter `tojson`: object of type type is not JSON serializable")
  }

  @Test func aMalformedTemplateSaysSo() {
    #expect(
      error("{% if x %}\n{% endfor %}")
        == "test.jinja line 2 in {% if %}: the template is malformed: unknown tag `endfor`; "
        + "expected `elif` or `else` or `endif`")
  }

  @Test func aRefusedChatIsACaseOfItsOwn() {
    let place = TemplatePlace(template: "test.jinja", line: 2, construct: "{{ }}")
    #expect(throws: TemplateError.raised(place, "no system role")) {
      try render("\n{{ raise_exception('no system role') }}")
    }
    #expect(
      error("{{ raise_exception('no system role') }}")
        == "test.jinja line 1 in {{ }}: the template refuses this chat: no system role")
  }

  @Test func theSandboxRefusesChangesAndPrivateAttributes() {
    #expect(error("{{ messages.append(1) }}").contains("not allowed in a template"))
    #expect(error("{{ ''.__class__.__mro__ }}").contains("not allowed in a template"))
  }

  @Test func aLaterVariableOfTheSameNameWins() throws {
    let text = try render("{{ bos_token }}", [("bos_token", "<a>"), ("bos_token", "<b>")])
    #expect(text == "<b>")
  }

  @Test func numbersKeepTheirKind() throws {
    let value = try JSONValue.parse(
      Array(#"[1, 1.0, 1e3, 12345678901234567890, 1E400, -0, -0.0, 0.1]"#.utf8))
    try #expect(
      render("{{ v }} {{ v|tojson }}", [("v", value)])
        == "[1, 1.0, 1000.0, 12345678901234567890, inf, 0, -0.0, 0.1] "
        + "[1, 1.0, 1000.0, 12345678901234567890, Infinity, 0, -0.0, 0.1]")
  }

  @Test func rendersDoNotShareState() throws {
    let template = try ChatTemplate(
      "{% set ns = namespace(n=0) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ x is defined }}{% set x = 1 %}",
      name: "test.jinja")
    for _ in 0..<2 {
      try #expect(template.render(messages: [], date: frozen) == "1False")
    }
  }

  @Test(arguments: [
    ("2024-02-29", "29.02.2024 00:00:00 060 4 09 08 09 2024"),
    ("2027-01-01T23:59", "01.01.2027 23:59:00 001 5 53 00 00 2026"),
    ("2024-12-31T01:02:03", "31.12.2024 01:02:03 366 2 01 52 53 2025"),
    ("2000-12-31T12:00:00", "31.12.2000 12:00:00 366 7 52 53 52 2000"),
  ])
  func datesCountDaysAndWeeks(_ date: String, _ expected: String) throws {
    let date = try #require(TemplateDate(date))
    let template = try ChatTemplate(
      "{{ strftime_now('%d.%m.%Y %H:%M:%S %j %u %V %U %W %G') }}", name: "test.jinja")
    try #expect(template.render(messages: [], date: date) == expected)
  }

  @Test(arguments: [
    "2024-02-30", "2024-13-01", "24-01-01", "2024-01-01T25:00", "2024-01-01T", "now", "",
  ])
  func whatIsNoDateIsRefused(_ text: String) {
    #expect(TemplateDate(text) == nil)
  }
}
