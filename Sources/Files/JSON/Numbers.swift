// Numbers that were measured or read from a file, where not every one will do; counts and durations as text.

extension Int {
  /// The whole number that is nearest to `value` towards zero, and 0 for NaN. `Int(_:)` would stop the program at a double
  /// that is out of range.
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
  var digits = Substring(String(value.magnitude))
  var groups: [Substring] = []
  while digits.count > 3 {
    groups.append(digits.suffix(3))
    digits = digits.dropLast(3)
  }
  return (value < 0 ? "-" : "") + ([digits] + groups.reversed()).joined(separator: " ")
}

/// "3 Linears", "1 Linear".
package func counted(_ count: Int, _ noun: String) -> String {
  "\(grouped(count)) \(noun)\(count == 1 ? "" : "s")"
}

/// "2 h 05 min", "3 min 20 s", "12 s".
package func durationText(_ seconds: Double) -> String {
  // More than a hundred years, or no number at all.
  guard seconds < 3e9 else { return "for ever" }
  let whole = Int(saturating: max(0, seconds).rounded())
  func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
  if whole >= 86400 { return "\(whole / 86400) d \(two(whole % 86400 / 3600)) h" }
  if whole >= 3600 { return "\(whole / 3600) h \(two(whole % 3600 / 60)) min" }
  if whole >= 60 { return "\(whole / 60) min \(two(whole % 60)) s" }
  return seconds < 10 ? "\((max(0, seconds) * 10).rounded() / 10) s" : "\(whole) s"
}
