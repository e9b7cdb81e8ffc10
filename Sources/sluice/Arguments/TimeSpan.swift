// Spans of time as people write them: 90m, 12h, 2d, 1d12h.

/// A span that cannot be read.
struct TimeSpanError: Error, CustomStringConvertible {
  let description: String
}

struct TimeSpan {
  let seconds: Double

  private static let units: [String: Double] = [
    "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604_800,
  ]

  /// - Throws: what to write instead.
  init(_ text: String) throws(TimeSpanError) {
    func isDigit(_ character: Character) -> Bool {
      character == "." || character.isASCII && character.isNumber
    }
    var rest = text.lowercased().filter { $0 != " " }[...]
    var seconds = 0.0
    repeat {
      let digits = rest.prefix(while: isDigit)
      let unit = rest.dropFirst(digits.count).prefix { !isDigit($0) }
      guard let number = Double(digits), number > 0 else {
        throw TimeSpanError(description: "expected a time such as 90m, 12h or 2d")
      }
      guard let factor = Self.units[String(unit)] else {
        throw TimeSpanError(
          description: unit.isEmpty
            ? "\(digits) of what; say \(digits)h for hours, or m or d"
            : "no unit of time is called `\(unit)`; write it as 90m, 12h or 2d")
      }
      seconds += number * factor
      rest = rest.dropFirst(digits.count + unit.count)
    } while !rest.isEmpty
    self.seconds = seconds
  }
}
