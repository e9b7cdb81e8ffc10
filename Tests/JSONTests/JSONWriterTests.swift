// The text of a value, against what Python's json.dumps(…, ensure_ascii=False) prints.

import JSON
import Testing

@Suite struct JSONWriterTests {
  private let sample = JSONValue.object(
    JSONObject([
      ("a", [1, .number(JSONNumber(literal: "1e-06")), nil, true]),
      ("empty", .object(JSONObject())),
      ("none", []),
      ("inner", .object(JSONObject([("k", "v")]))),
    ]))

  @Test func theCompactFormHasNoSpaces() {
    #expect(
      sample.serialized()
        == #"{"a":[1,1e-06,null,true],"empty":{},"none":[],"inner":{"k":"v"}}"#)
  }

  @Test func theIndentedFormIsLaidOutLikePythons() {
    let expected = """
      {
        "a": [
          1,
          1e-06,
          null,
          true
        ],
        "empty": {},
        "none": [],
        "inner": {
          "k": "v"
        }
      }
      """
    #expect(sample.serialized(indent: 2) == expected)
  }

  @Test func anIndentOfZeroStillBreaksLines() {
    let value: JSONValue = [1, 2]
    #expect(value.serialized(indent: 0) == "[\n1,\n2\n]")
  }

  @Test func onlyQuotesBackslashesAndControlsAreEscaped() {
    let value: JSONValue = "\"\\/\u{8}\u{C}\n\r\t\u{0}\u{1F}\u{7F}é😀"
    #expect(value.serialized() == #""\"\\/\b\f\n\r\t\u0000\u001f"# + "\u{7F}é😀\"")
  }
}
