// Sizes as people write them: 512MiB, 8GiB, 5GB.

import ArgumentParser

struct ByteSize: ExpressibleByArgument {
  let bytes: Int

  init(bytes: Int) { self.bytes = bytes }

  var defaultValueDescription: String {
    bytes % 1_000_000_000 == 0 ? "\(bytes / 1_000_000_000)GB" : "\(bytes)"
  }

  init?(argument: String) {
    let units: [(suffix: String, factor: Double)] = [
      ("kib", 0x1p10), ("mib", 0x1p20), ("gib", 0x1p30), ("tib", 0x1p40),
      ("kb", 1e3), ("mb", 1e6), ("gb", 1e9), ("tb", 1e12),
      ("k", 0x1p10), ("m", 0x1p20), ("g", 0x1p30), ("t", 0x1p40), ("b", 1),
    ]
    let text = argument.lowercased()
    let unit = units.first { text.hasSuffix($0.suffix) } ?? ("", 1)
    guard let number = Double(text.dropLast(unit.suffix.count)), number > 0,
      number * unit.factor < 0x1p60
    else { return nil }
    bytes = Int(number * unit.factor)
  }
}
