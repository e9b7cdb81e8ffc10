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

  @Test func `a size is a whole number that can be computed with`() {
    #expect((5 as JSONValue).size == 5 && (0 as JSONValue).size == 0)
    for other: JSONValue in [-1, 9_223_372_036_854_775_807, "5", .null, .double(1.5)] {
      #expect(other.size == nil)
    }
  }
}
