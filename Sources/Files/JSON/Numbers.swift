// Numbers that were measured or read from a file, where not every one will do; and counts as text.

extension Int {
  /// The nearest whole number that there is: `Int(_:)` stops the program where a double has none. NaN becomes 0; who shows
  /// a number asks for that first.
  package init(saturating value: Double) {
    self =
      value.isNaN ? 0 : Int(exactly: value.rounded(.towardZero)) ?? (value < 0 ? .min : .max)
  }
}

extension JSONValue {
  /// A whole number of at least 0, and of a size that can be added to others and multiplied with a few.
  package var size: Int? { int.flatMap { (0...1 << 48).contains($0) ? $0 : nil } }
}

/// Thousands in groups: 13 964.
package func grouped(_ value: Int) -> String {
  var digits = Substring(String(value))
  var groups: [Substring] = []
  while digits.count > 3 {
    groups.append(digits.suffix(3))
    digits = digits.dropLast(3)
  }
  return ([digits] + groups.reversed()).joined(separator: " ")
}

/// "3 Linears", "1 Linear".
package func counted(_ count: Int, _ noun: String) -> String {
  "\(grouped(count)) \(noun)\(count == 1 ? "" : "s")"
}
