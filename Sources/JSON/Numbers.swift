// Numbers that were measured or read from a file, where not every one will do.

extension Int {
  /// The nearest whole number that there is: `Int(_:)` stops the program where a double has none. NaN becomes 0; who shows
  /// a number asks for that first.
  package init(saturating value: Double) {
    self =
      value.isNaN ? 0 : Int(exactly: value.rounded(.towardZero)) ?? (value < 0 ? .min : .max)
  }
}

extension JSONValue {
  /// A number, or null where JSON has none: for NaN and infinities.
  package static func finite(_ value: Double) -> JSONValue {
    value.isFinite ? .number(JSONNumber(literal: "\(value)")) : .null
  }

  /// A whole number of at least 0, and of a size that can be added to others and multiplied with a few.
  package var size: Int? { int.flatMap { (0...1 << 48).contains($0) ? $0 : nil } }
}
