// What lies in the files of kept states: what each block of a file is, and the small file that says which are whole.

internal import JSON
internal import SystemIO

/// Some blocks of a file that belong together: one of sums, then those of matrices.
struct KeptEntry: Equatable, Sendable {
  let name: String
  let hasLargest: Bool
  let gramBlocks: Int
  let magnitudeBlocks: Int

  /// One row of numbers, or one matrix.
  static func single(_ name: String) -> KeptEntry {
    KeptEntry(name: name, hasLargest: false, gramBlocks: 0, magnitudeBlocks: 0)
  }

  var blocks: Int { 1 + gramBlocks + magnitudeBlocks }

  /// Whether all that another one holds is here, under the same name.
  func covers(_ other: KeptEntry) -> Bool {
    name == other.name && (hasLargest || !other.hasLargest)
      && (other.gramBlocks == 0 || gramBlocks == other.gramBlocks)
      && (other.magnitudeBlocks == 0 || magnitudeBlocks == other.magnitudeBlocks)
  }
}

extension KeptEntry {
  /// More than any matrix has.
  private static let mostBlocks = 1 << 24

  fileprivate var json: JSONValue {
    .array([
      .string(name), .int(hasLargest ? 1 : 0), .int(gramBlocks), .int(magnitudeBlocks),
    ])
  }

  fileprivate init?(_ json: JSONValue) {
    guard let values = json.array, values.count == 4, let name = values[0].string,
      let largest = values[1].size, let grams = values[2].size, let magnitudes = values[3].size,
      grams < Self.mostBlocks, magnitudes < Self.mostBlocks
    else { return nil }
    self.init(
      name: name, hasLargest: largest == 1, gramBlocks: grams, magnitudeBlocks: magnitudes)
  }
}

/// A file as far as it is whole.
struct KeptFile: Equatable, Sendable {
  let byteCount: Int
  /// CRC-32 of these bytes.
  let checksum: Checksum
  /// One after the other; none where every block is one of tokens.
  var entries: [KeptEntry] = []

  var blocks: Int { entries.reduce(0) { $0 + $1.blocks } }

  /// What covers an entry, and where it begins.
  func find(_ wanted: KeptEntry) -> (entry: KeptEntry, block: Int)? {
    var block = 0
    for entry in entries {
      if entry.covers(wanted) { return (entry, block) }
      block += entry.blocks
    }
    return nil
  }
}

extension KeptFile {
  var json: JSONValue {
    [
      "bytes": .int(byteCount), "crc32": .string(checksum.text),
      "entries": .array(entries.map(\.json)),
    ]
  }

  init?(_ json: JSONValue) {
    guard let object = json.object, let bytes = object["bytes"]?.size,
      let checksum = object["crc32"]?.string.flatMap({ Checksum(text: $0, byteCount: bytes) }),
      let entries = object["entries"]?.array
    else { return nil }
    self.init(
      byteCount: bytes, checksum: checksum, entries: entries.compactMap { KeptEntry($0) })
    if self.entries.count != entries.count { return nil }
  }
}
