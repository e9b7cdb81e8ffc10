// Sizes as people write them: 512MiB, 8Gi, 1.5G, 5GB.

/// A size that cannot be read, or that nobody means.
struct ByteSizeError: Error, CustomStringConvertible {
  let description: String
}

struct ByteSize: CustomStringConvertible {
  let bytes: Int

  init(bytes: Int) { self.bytes = bytes }

  private static let units: [(suffix: String, factor: Double)] = [
    ("kib", 0x1p10), ("mib", 0x1p20), ("gib", 0x1p30), ("tib", 0x1p40),
    ("ki", 0x1p10), ("mi", 0x1p20), ("gi", 0x1p30), ("ti", 0x1p40),
    ("kb", 1e3), ("mb", 1e6), ("gb", 1e9), ("tb", 1e12),
    ("k", 0x1p10), ("m", 0x1p20), ("g", 0x1p30), ("t", 0x1p40), ("b", 1),
  ]

  /// - Throws: what to write instead.
  init(_ text: String) throws(ByteSizeError) {
    let lower = text.lowercased()
    let unit = Self.units.first { lower.hasSuffix($0.suffix) }
    var digits = lower.dropLast(unit?.suffix.count ?? 0)
    while unit != nil, digits.last == " " { digits.removeLast() }
    guard digits.allSatisfy({ $0.isASCII && ($0.isNumber || $0 == ".") }),
      let number = Double(digits)
    else {
      throw ByteSizeError(
        description: digits.hasPrefix("-")
          ? "that is less than nothing; expected a size such as 512MiB or 8GiB"
          : "expected a size such as 512MiB, 8GiB, 1.5G or 5GB")
    }
    if number * (unit?.factor ?? 1) < 1 {
      throw ByteSizeError(description: "that is nothing; expected a size such as 512MiB or 8GiB")
    }
    let size = number * (unit?.factor ?? 1)
    guard size < 0x1p60 else { throw ByteSizeError(description: "more than any machine has") }
    if unit == nil, size < 1e6 {
      throw ByteSizeError(description: "that is \(digits) bytes; say \(digits)GiB or \(digits)MiB")
    }
    bytes = Int(size)
  }

  /// The default of an option in its help.
  var description: String {
    bytes % 1_000_000_000 == 0 ? "\(bytes / 1_000_000_000)GB" : "\(bytes)"
  }
}
