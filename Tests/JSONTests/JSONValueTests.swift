// Numbers keep their spelling, objects their order.

import JSON
import Testing

@Suite struct JSONValueTests {
  @Test func `literals keep the order of members`() {
    let value: JSONValue = ["b": 1, "a": ["x", nil, true], "c": [:], "d": .double(0.5)]
    #expect(value.serialized() == #"{"b":1,"a":["x",null,true],"c":{},"d":0.5}"#)
  }

  @Test(arguments: [
    ("0", 0), ("-0", 0), ("-7", -7), ("9223372036854775807", Int.max),
    ("-9223372036854775808", Int.min), ("9223372036854775808", nil), ("1e3", nil), ("5.0", nil),
  ])
  func onlyIntegerLiteralsThatFitAreIntegers(literal: String, expected: Int?) throws {
    let value = try JSONValue.parse(Array(literal.utf8))
    #expect(value.int == expected)
    #expect(value.serialized() == literal)
  }

  @Test(arguments: [
    ("1e-06", 1e-06), ("-0", -0.0), ("10000.0", 10000.0),
    ("9007199254740993", 9_007_199_254_740_992),
    ("18446744073709551616", 18_446_744_073_709_551_616), ("1e400", nil), ("1E+2", 100),
  ])
  func numbersAreDoublesWhereTheyFit(literal: String, expected: Double?) throws {
    let value = try JSONValue.parse(Array(literal.utf8))
    #expect(value.double == expected)
    #expect(value.serialized() == literal)
  }

  @Test func numbersAreEqualWhenTheirLiteralsAre() {
    #expect(JSONNumber(12) == JSONNumber(literal: "12"))
    #expect(JSONNumber(1) != JSONNumber(literal: "1.0"))
  }

  @Test func aLiteralOutsideTheGrammarIsAProgrammersError() async {
    await #expect(processExitsWith: .failure) { _ = JSONNumber(literal: "1, 2") }
    await #expect(processExitsWith: .failure) { _ = JSONNumber(literal: " 1") }
  }

  @Test func eachAccessorAnswersForItsKindOnly() {
    let values: [JSONValue] = [nil, true, 1, "x", [1], .object(JSONObject())]
    #expect(values.map(\.kind) == ["null", "boolean", "number", "string", "array", "object"])
    #expect(values.map { $0.bool != nil } == [false, true, false, false, false, false])
    #expect(values.map { $0.int != nil } == [false, false, true, false, false, false])
    #expect(values.map { $0.double != nil } == [false, false, true, false, false, false])
    #expect(values.map { $0.string != nil } == [false, false, false, true, false, false])
    #expect(values.map { $0.array != nil } == [false, false, false, false, true, false])
    #expect(values.map { $0.object != nil } == [false, false, false, false, false, true])
  }

  // 8 keys are scanned, 9 and more are looked up in a dictionary.
  @Test(arguments: [0, 1, 7, 8, 9, 10, 100])
  func anObjectKeepsOrderThroughSettingAndRemoving(count: Int) {
    var object = JSONObject()
    for number in 0..<count { object["k\(number)"] = .number(JSONNumber(number)) }
    #expect(object.count == count)
    #expect(object.keys == (0..<count).map { "k\($0)" })
    object["new"] = "x"
    #expect(object.keys.last == "new")
    object["new"] = "y"
    #expect(object.keys.count == count + 1)
    #expect(object["new"] == "y")
    object["absent"] = nil
    #expect(object.keys.count == count + 1)
    for number in stride(from: 0, to: count, by: 2) { object["k\(number)"] = nil }
    #expect(object.keys == stride(from: 1, to: count, by: 2).map { "k\($0)" } + ["new"])
    for number in 0..<count {
      #expect(object["k\(number)"]?.int == (number % 2 == 0 ? nil : number))
    }
    #expect(object.entries.map(\.key) == object.keys)
  }

  @Test func orderIsPartOfEquality() {
    #expect(JSONObject([("a", 1), ("b", 2)]) != JSONObject([("b", 2), ("a", 1)]))
    #expect(JSONObject([("a", 1)]) == JSONObject([("a", 1)]))
  }

  @Test func keysOfOneSpellingAreEqualByTheirBytes() {
    // One letter with its accent, and a letter and an accent behind it.
    #expect(JSONObject([("\u{e9}", 1)]) != JSONObject([("e\u{301}", 1)]))
  }
}
