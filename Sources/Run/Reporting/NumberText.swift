// Numbers as a reader wants them: three digits that count, with their unit.

internal import Glibc
internal import JSON
internal import Planning

/// A space that neither breaks nor spreads.
private let thinSpace = "\u{202F}"

/// Three significant digits.
func figure(_ value: Double) -> String {
  if !value.isFinite { return "–" }
  if value == 0 { return "0" }
  let exponent = Int(saturating: log10(abs(value)).rounded(.down))
  if exponent < -6 { return "< 0.000001" }
  let rounded = significant(value, digits: 3)
  if rounded == rounded.rounded(), abs(rounded) < 1e15 { return whole(Int(saturating: rounded)) }
  return abs(rounded) < 1e-4 ? plain(rounded) : "\(rounded)"
}

/// The value with so many digits that count.
///
/// - Parameter value: finite, and not 0.
package func significant(_ value: Double, digits: Int) -> Double {
  let places = digits - 1 - Int(saturating: log10(abs(value)).rounded(.down))
  // A power of ten below 1 is not exact, and would show in the digits behind.
  let power = pow(10, Double(abs(places)))
  return places < 0
    ? (value / power).rounded() * power : (value * power).rounded() / power
}

/// A number below 1 without an exponent.
private func plain(_ value: Double) -> String {
  let digits = String(Int(saturating: (abs(value) * 1e9).rounded()))
  var text = String(repeating: "0", count: max(0, 9 - digits.count)) + digits
  while text.hasSuffix("0") { text.removeLast() }
  return (value < 0 ? "-" : "") + "0." + text
}

/// A share of one as a percentage.
func percent(_ share: Double) -> String { figure(share * 100) + thinSpace + "%" }

/// `text` with spaces that keep a number and its unit on one line.
private func unbroken(_ text: String) -> String { text.replacing(" ", with: thinSpace) }

/// Thousands in groups: 13 964.
func whole(_ value: Int) -> String { unbroken(grouped(value)) }

/// "1.5 GiB"; three significant digits, rounded up.
func size(_ bytes: Int) -> String { unbroken(bytesText(bytes)) }

/// "2 h 05 min", "3 min 20 s", "0.4 s".
func duration(_ seconds: Double) -> String {
  if seconds > 0, seconds < 0.05 { return unbroken("< 0.1 s") }
  let words = durationText(seconds).split(separator: " ")
  // A line may break between two units.
  return stride(from: 0, to: words.count, by: 2).map {
    words[$0..<min($0 + 2, words.count)].joined(separator: thinSpace)
  }.joined(separator: " ")
}

/// "3 Linears", "1 Linear".
func counted(_ count: Int, _ noun: String) -> String {
  "\(whole(count)) \(noun)\(count == 1 ? "" : "s")"
}

/// 2026-01-31T12:00:00Z. Source of the calendar: Howard Hinnant, "chrono-compatible low-level date algorithms".
package func dateText(_ seconds: Int) -> String {
  // Some thirty thousand years to both sides.
  let seconds = max(-1_000_000_000_000, min(1_000_000_000_000, seconds))
  let days = Int(saturating: (Double(seconds) / 86400).rounded(.down))
  let time = seconds - days * 86400
  let shifted = days + 719_468
  let era = Int(saturating: (Double(shifted) / 146_097).rounded(.down))
  let dayOfEra = shifted - era * 146_097
  let yearOfEra =
    (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
  let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
  let shiftedMonth = (5 * dayOfYear + 2) / 153
  let day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
  let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
  let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
  func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
  return "\(year)-\(two(month))-\(two(day))T"
    + [time / 3600, time / 60 % 60, time % 60].map(two).joined(separator: ":") + "Z"
}
