// Words that plans, reports and errors have in common: sizes, shares, and the way out where a run cannot be gone on with.

internal import JSON

/// "1.5 GiB" for people; three significant digits, rounded up.
package func bytesText(_ bytes: Int) -> String {
  var value = Double(bytes)
  var unit = "B"
  for next in ["KiB", "MiB", "GiB", "TiB"] where value >= 1000 {
    value /= 1024
    unit = next
  }
  let digits = value < 10 ? 100.0 : value < 100 ? 10.0 : 1.0
  let rounded = (value * digits).rounded(.up) / digits
  return (rounded == rounded.rounded() ? "\(Int(saturating: rounded))" : "\(rounded)") + " " + unit
}

/// A budget to advise, as it is typed: a little more than `bytes`, since what loading takes is measured, and differs by a
/// few hundred kilobytes from one process to the next.
package func budgetText(_ bytes: Int) -> String {
  bytesText(bytes + max(bytes / 50, 1 << 20)).replacing(" ", with: "")
}

/// A share of one as whole percent, rounded down: 100 % is said when all is done.
package func percentText(_ share: Double) -> String {
  share.isFinite ? "\(Int(min(max(share, 0), 1) * 100)) %" : "? %"
}

/// The way out where what a run left cannot be gone on with. `quantize` and `requantize` have the flag, and other commands
/// that read such a folder say the same.
package let startOverText =
  "start over with sluice quantize --restart (sluice requantize --restart where that makes it)"
