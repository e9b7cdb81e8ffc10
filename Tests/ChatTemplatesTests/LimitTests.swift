// Templates that would take the run down: each ends in an error, none in a crash.

import ChatTemplates
import Glibc
import JSON
import Testing

@Suite struct LimitTests {
  private func error(_ template: String) -> TemplateError? {
    do {
      _ = try render(template)
      return nil
    } catch {
      return error
    }
  }

  private func isTooLarge(_ template: String) -> Bool {
    if case .tooLarge? = error(template) { return true }
    return false
  }

  /// Whether a template ends, in an error or not, before anybody would take it for stuck.
  ///
  /// The processor's time of this thread: what other tests do at the same time does not count.
  private func endsSoon(_ template: String) -> Bool {
    func seconds() -> Double {
      var now = timespec()
      unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now)
      return Double(now.tv_sec) + Double(now.tv_nsec) * 1e-9
    }
    let start = seconds()
    _ = error(template)
    return seconds() - start < 10
  }

  @Test func endlessRecursionEnds() {
    #expect(isTooLarge("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"))
    #expect(
      isTooLarge("{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}"))
    #expect(
      isTooLarge(
        "{% macro f(x) %}{% for y in [[x]] %}{{ f(y) ~ 1 }}{% endfor %}{% endmacro %}{{ f(1) }}"))
  }

  @Test(arguments: [
    "((((", "[[[[", "{{{{", "not not ", "- - - ", "a if ", "x[x[", "f(f(", "1~(", "x is in [",
  ])
  func deepNestingEnds(_ unit: String) {
    let template = "{{ " + String(repeating: unit, count: 50_000)
    #expect(error(template) != nil)
  }

  @Test func deepBlocksEnd() {
    #expect(error(String(repeating: "{% if 1 %}", count: 50_000)) != nil)
    #expect(error(String(repeating: "{% for x in y %}", count: 50_000)) != nil)
  }

  /// Left-deep chains nest in the tree without nesting in the text.
  @Test(arguments: [
    ("x", "|upper"), ("x", ".a"), ("x", "[0]"), ("x", "()"), ("1", " + 1"), ("1", " is odd"),
    ("x", " or x"),
    ("x", " ~ x"), ("1", " if 1 else 1"), ("1", " if 1"), ("1", " * 1"), ("x", " and x"),
    ("1", " < 1"),
    ("'a'", " 'a'"),
  ])
  func longChainsEnd(_ first: String, _ more: String) {
    #expect(endsSoon("{{ " + first + String(repeating: more, count: 50_000) + " }}"))
  }

  @Test func textGrowsOnlySoFar() {
    let doubling =
      "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"
    #expect(isTooLarge(doubling))
    #expect(isTooLarge("{{ 'ab' * 9999999999 }}"))
    #expect(isTooLarge("{{ [1] * 9999999999 }}"))
    #expect(isTooLarge("{{ '%999999999d' % 1 }}") || error("{{ '%999999999d' % 1 }}") != nil)
    #expect(error("{{ 'a'.center(9999999999) }}") != nil)
    #expect(isTooLarge("{{ 9 ** (9 ** 9) }}"))
    #expect(error("{{ 2 ** 1000 }}") == nil)
  }

  @Test func loopsEnd() {
    let nested =
      "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"
    #expect(isTooLarge(nested))
    #expect(error("{{ range(100001)|list }}") != nil)
  }

  @Test func valuesThatHoldThemselvesEnd() {
    #expect(isTooLarge("{% set ns = namespace() %}{% set ns.me = [ns] %}{{ ns }}"))
    let deep =
      "{% set ns = namespace(v=[]) %}{% for i in range(5000) %}{% set ns.v = [ns.v] %}{% endfor %}"
    for use in [
      "{{ ns.v }}", "{{ ns.v == ns.v }}", "{{ ns.v|tojson }}", "{{ [ns.v, ns.v]|sort }}", "",
    ] {
      #expect(isTooLarge(deep + use))
    }
    // Every way to put a value into another, over and over.
    for step in [
      "(ns.v,)", "{1: ns.v}", "dict(a=ns.v)", "ns.v|map('upper')", "ns.v|select", "ns.v|unique",
      "ns.v|items", "[ns.v.x]",
      "[ns.v.count]", "[ns.v.copy]", "{'a': ns.v}.items()", "cycler(ns.v)", "joiner(ns.v)",
      "[ns.v]|batch(1)|list", "(ns.v, ns.v)",
      "[ns.v]|slice(1)", "ns.v|reverse|reverse", "namespace(v=ns.v)", "[ns]", "[ns.v, {}.get]",
      "[ns.v][ns.v]", "ns.v|attr('copy')",
    ] {
      let template =
        "{% set ns = namespace(v=[1]) %}{% for i in range(90000) %}{% set ns.v = \(step) %}{% endfor %}"
      _ = error(template + "{{ ns.v|string|length }}{{ ns.v|list }}")
    }
    _ = error(
      "{% set ns = namespace(v=[1]) %}{% for i in range(90000) %}{% for x in ns.v %}{% set ns.v = loop %}{% break %}{% endfor %}{% endfor %}"
    )
    _ = error(
      "{% set ns = namespace(v=[1]) %}{% for i in range(90000) %}{% macro m() %}{{ ns.v }}{% endmacro %}{% set ns.v = m %}{% endfor %}{{ ns.v() }}"
    )
    let wide =
      "{% set ns = namespace(v=[1]) %}{% for i in range(150) %}{% set ns.v = [ns.v, ns.v] %}{% endfor %}"
    for use in ["{{ ns.v }}", "{{ ns.v|tojson }}"] { #expect(isTooLarge(wide + use)) }
    let twice =
      "{% set ns = namespace(v=[1], w=[1]) %}{% for i in range(150) %}{% set ns.v = [ns.v, ns.v] %}{% set ns.w = [ns.w, ns.w] %}{% endfor %}"
    for use in ["{{ ns.v == ns.w }}", "{{ ns.v < ns.w }}", "{{ ns.v in [ns.w] }}"] {
      #expect(isTooLarge(twice + use))
    }
  }

  /// Each value holds the one before it, where no list or dict shows it.
  @Test(arguments: [
    "[1] | map('default', ns.x)", "[1] | select('eq', ns.x)", "[1] | selectattr(ns.x)",
    "[1] | unique(attribute=ns.x)", "namespace(v=[ns.x.v])",
  ])
  func `what lazy filters and namespaces hold counts as depth`(_ step: String) {
    #expect(
      isTooLarge(
        "{% set ns = namespace(x=namespace(v=1)) %}{% for i in range(100000) %}{% set ns.x = \(step) %}{% endfor %}"
      ))
  }

  @Test func `what a macro is given counts as depth`() {
    let (open, close) = (String(repeating: "[", count: 25), String(repeating: "]", count: 25))
    let deep = error("{% macro f(x) %}{{ f(\(open)x\(close)) }}{% endmacro %}{{ f(1) }}")
    #expect(deep?.message == "values nested too deep")
  }

  /// A filter of a loop holds its scope, and with it the loop before.
  @Test(arguments: [
    "{% set before = ns.x %}{% for j in [1] if true %}{% set ns.x = loop %}{% endfor %}",
    "{% for j in [1] %}{% if loop.changed(ns.x) %}{% set ns.x = loop %}{% endif %}{% endfor %}",
  ])
  func `a loop that has ended holds nothing`(_ round: String) throws {
    let (start, end) = ("{% set ns = namespace() %}{% for i in range(", ") %}\(round){% endfor %}")
    #expect(error("\(start)50000\(end)") == nil)
    #expect(try render("\(start)2\(end){{ ns.x.length }}{{ ns.x.index }}") == "11")
  }

  /// Little text that asks for much work: each ends in an error or at once.
  @Test(arguments: [
    "strftime_now('%Y' * 100000)", "strftime_now('%c' * 1000000)", "'x'.zfill(-2**63)",
    "'x'.center(-2**63)", "'x'.ljust(-10**30)", "'x'.rjust(-10**30)", "'x'|center(-2**63)",
    "('\\t' * 1000000).expandtabs(1000)|length", "('9' * 1000000)|int", "('1' * 1000000)|float",
    "('ab' * 1000000).title()|length", "('a' * 60000000)|upper|length",
    "('a' * 1000000).find('a' * 500000 + 'b')", "('a' * 1000000).rfind('b' + 'a' * 500000)",
    "('a' * 1000000).count('a' * 500000 + 'b')", "('a' * 1000000).split('a' * 500000 + 'b')|length",
    "('a' * 1000000).rsplit('b' + 'a' * 500000)|length",
    "('a' * 1000000).replace('a' * 500000 + 'b', '')|length", "'{:01000000,}'.format(1)|length",
    "range(0, 100, 50)[::2**62]|list", "range(0, 2**62, 2**61)[1:2**62:2**62]|list",
    "([('a' * 1000000)] * 100000)|sort|length", "([('a' * 1000000)] * 100000)|map('upper')|list",
    "([('a' * 1000000)] * 100000)|unique|list|length", "([('a' * 1000000)] * 100000)|join|length",
  ])
  func muchWorkEnds(_ expression: String) {
    #expect(endsSoon("{{ \(expression) }}"))
  }

  /// What is done once may be done; over and over it is too much, however few the steps.
  @Test(arguments: [
    "'a' * 10000000", "('a' * 60000000)|length", "('a' * 1000000).upper()|length",
    "('a' * 1000000)|list|length", "(10**19000) // (10**9000)", "'%s' * 1000000",
    "('a' * 1000000)|reverse", "('a' * 1000000) == ('a' * 1000000 + 'b')",
    "('a' * 1000000)|map('upper')|list|length", "range(100000)|sum", "range(100000)|last",
    "99999 in range(100000)", "range(100000).index(99999)", "range(100000).count(1)",
    "([range(100000)] * 1000)|map('list')|list|length",
  ])
  func workThatIsRepeatedEnds(_ expression: String) {
    #expect(isTooLarge("{% for i in range(100000) %}{% set x = \(expression) %}{% endfor %}"))
  }

  /// What is kept in a variable shows little of its size.
  @Test(arguments: [
    "a is eq b", "[a]|select('in', [b])|list|length", "1 in {1: a}.values()",
    "{1: a}.values() is sameas b",
  ])
  func `work inside of values that are kept ends`(_ expression: String) {
    let kept = "{% set a = ['a' * 1000000] %}{% set b = ['a' * 1000000] %}"
    #expect(
      isTooLarge("\(kept){% for i in range(100000) %}{% set x = \(expression) %}{% endfor %}"))
  }

  @Test func `many keywords are no endless search for equal ones`() {
    let keywords = "{% set d = {}.fromkeys(range(20000)|map('string'), 1) %}"
    #expect(error("\(keywords){{ dict(**d)|length }}") == nil)
  }

  @Test func `a long chat may have more work done`() throws {
    let text = String(repeating: "word ", count: 200_000)
    let chat: JSONValue = .array(
      (0..<5).map { _ in .object(JSONObject([("role", "user"), ("content", .string(text))])) })
    let template = try ChatTemplate(
      "{% for m in messages %}{% for i in range(20) %}{% set x = m.content|trim %}{% endfor %}{{ m.content|length }}{% endfor %}",
      name: "long")
    let date = try #require(TemplateDate(year: 2024, month: 1, day: 1))
    #expect(
      try template.render(messages: chat, date: date) == String(repeating: "1000000", count: 5))
  }

  @Test func bytesOfAnyKindDoNotCrash() {
    var state: UInt64 = 42
    let words = [
      "{{", "}}", "{%", "%}", "{#", "#}", "-", "+", " ", "\n", "for", "in", "if", "else", "set",
      "x", "(", ")", "[", "]",
      "{", "}", "'", "\"", "|", ".", ",", ":", "=", "~", "1", "2.5", "upper", "is", "not",
      "messages", "endfor", "endif",
      "macro", "endmacro", "raw", "endraw", "%", "*", "**", "/", "\\", "é", "loop", "range",
      "tojson", "\u{0}",
    ]
    for _ in 0..<20_000 {
      var bytes: [UInt8] = []
      for _ in 0..<12 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        bytes += Array(words[Int(state >> 33) % words.count].utf8)
      }
      if state & 64 == 0 { bytes.append(0xFF) }
      ChatTemplate.exercise(bytes)
    }
  }
}
