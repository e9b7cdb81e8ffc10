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
        == "test.jinja line 3 in `.y`: 'x' is undefined; give another template with `--chat-template`"
    )
    #expect(
      error("{% for x in 5 %}{% endfor %}")
        == "test.jinja line 1 in {% for %}: 'int' object is not iterable; "
        + "give another template with `--chat-template`")
    #expect(
      error("\n\n{{ range|tojson }}")
        == "test.jinja line 3 in filter `tojson`: object of type type is not JSON serializable; "
        + "give another template with `--chat-template`")
  }

  @Test func aMalformedTemplateSaysSo() {
    #expect(
      error("{% if x %}\n{% endfor %}")
        == "test.jinja line 2 in {% if %}: the template is malformed: unknown tag `endfor`; "
        + "expected `elif` or `else` or `endif`; "
        + "download it again, or give another template with `--chat-template`")
  }

  @Test func aRefusedChatIsACaseOfItsOwn() {
    let place = TemplatePlace(template: "test.jinja", line: 2, construct: "{{ }}")
    #expect(throws: TemplateError.raised(place, "no system role")) {
      try render("\n{{ raise_exception('no system role') }}")
    }
    #expect(
      error("{{ raise_exception('no system role') }}")
        == "test.jinja line 1 in {{ }}: the template refuses this chat: no system role; "
        + "leave the chat out, or give another template with `--chat-template`")
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

  /// Judged by Python 3.11.
  @Test(arguments: [
    (
      "3 in r, 3.0 in r, 2.5 in r, 9 in r, 10 in r, -3 in r",
      "(True, True, False, True, False, False)"
    ),
    (
      "true in range(2), false in r, true in r, 'a' in r, none in r",
      "(True, True, False, False, False)"
    ),
    ("4 in down, 9 in down, -1 in down, 5 in down", "(True, True, False, False)"),
    ("r.index(6), down.index(4), r.index(9.0), range(2).index(true)", "(2, 1, 3, 1)"),
    ("r.count(6), r.count(7), down.count(-1), range(0).count(0)", "(1, 0, 0, 0)"),
    (
      "2**62 in w, -2**63 in w, 2**63 in w, 2**70 in w, 1e300 in w, 1 in w",
      "(True, True, False, False, False, False)"
    ),
    ("6 in r[1:3], 9 in r[1:3], 6 in r[::2], 3 in r[::2]", "(True, False, True, False)"),
  ])
  func `a range holds what Python's does`(_ expression: String, _ expected: String) throws {
    let ranges =
      "{% set r = range(0, 10, 3) %}{% set down = range(9, -1, -5) %}{% set w = range(-2**63, 2**63 - 1, 2**62) %}"
    #expect(try render("\(ranges){{ (\(expression)) }}") == expected)
  }

  @Test func `what a range does not hold has no place in it`() {
    #expect(error("{{ range(5).index(7) }}").contains(": 7 is not in range; "))
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
