// Numbers as text.

internal import JSON
internal import Reporting

/// Four significant digits.
func rounded(_ value: Double) -> String {
  if value == 0 || !value.isFinite { return "\(value)" }
  let result = significant(value, digits: 4)
  return result == result.rounded() && abs(result) < 1e15
    ? "\(Int(saturating: result))" : "\(result)"
}

func seconds(_ duration: Duration) -> Double {
  Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
}
