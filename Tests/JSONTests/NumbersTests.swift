// Numbers that `Int` or JSON has none for.

import JSON
import Testing

@Suite struct NumbersTests {
  @Test func `every double becomes a whole number`() {
    #expect(Int(saturating: 2.9) == 2 && Int(saturating: -2.9) == -2)
    #expect(Int(saturating: .nan) == 0)
    for large in [Double.infinity, 1e300, 0x1p63] {
      #expect(Int(saturating: large) == .max)
      #expect(Int(saturating: -large) == .min)
    }
    #expect(Int(saturating: 0x1p62) == 1 << 62)
  }

  @Test func `what is no number in JSON is null`() {
    #expect(JSONValue.double(1.5).serialized() == "1.5")
    for value in [Double.nan, .infinity, -.infinity] { #expect(JSONValue.double(value) == .null) }
    #expect(JSONValue.double(1e300).double == 1e300)
  }

  @Test func `what is absent is null`() {
    #expect(JSONValue.int(nil) == .null && JSONValue.int(-3).serialized() == "-3")
    #expect(JSONValue.double(nil) == .null && JSONValue.text(nil) == .null)
    #expect(JSONValue.text("a") == "a")
  }

  @Test func `counts have their thousands in groups`() {
    let texts = [0, 999, 1000, -100, -1000, 1_234_567].map(grouped)
    #expect(texts == ["0", "999", "1 000", "-100", "-1 000", "1 234 567"])
    #expect(counted(1, "Linear") == "1 Linear" && counted(2000, "Linear") == "2 000 Linears")
  }

  @Test func `durations have two units at most`() {
    let texts = [-1, 0.04, 9.94, 10, 59.4, 61, 3600, 7499, 90_000, 1e300, .nan].map(durationText)
    #expect(
      texts == [
        "0.0 s", "0.0 s", "9.9 s", "10 s", "59 s", "1 min 01 s", "1 h 00 min", "2 h 04 min",
        "1 d 01 h", "for ever", "for ever",
      ])
  }

  @Test func `a size is a whole number that can be computed with`() {
    #expect((5 as JSONValue).size == 5 && (0 as JSONValue).size == 0)
    for other: JSONValue in [-1, 9_223_372_036_854_775_807, "5", .null, .double(1.5)] {
      #expect(other.size == nil)
    }
  }
}
