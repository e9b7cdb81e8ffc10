// Damaged and hostile files: rows or an error, and never a crash.

import Datasets
import JSON
import SystemIO
import Testing
import TestSupport

/// Reads all of a file that may be anything. Rows or an error: both are fine, a crash is not.
func readAnything(_ path: String) -> DatasetError? {
  do throws(DatasetError) {
    let reader = try Dataset(path: path).makeReader()
    while try reader.next() != nil {}
    return nil
  } catch {
    return error
  }
}

private let small = [
  "chats.none-v1-dictionary", "chats.none-v2-delta", "chats.none-v2-plain",
  "chats.snappy-v1-dictionary",
  "chats.gzip-v2-delta", "chats.fallback-v1", "nested.none-v1-delta", "nested.none-v1-dictionary",
  "nested.none-v2-plain", "nested.zstd-v2-dictionary", "nested.groups", "numbers.none-v1-delta",
  "numbers.none-v2-dictionary", "numbers.zstd-v1-plain", "text.snappy-v2-dictionary",
]

/// A parquet file whose footer is `footer`.
private func parquet(footer: [UInt8]) -> [UInt8] {
  let length = UInt32(footer.count)
  return Array("PAR1".utf8) + footer + (0..<4).map { UInt8(truncatingIfNeeded: length >> ($0 * 8)) }
    + Array("PAR1".utf8)
}

@Suite struct HostileFilesTests {
  @Test(arguments: ["text.zstd-v2-delta", "text.snappy-v1-dictionary"])
  func everyTruncationIsAnError(name: String) throws {
    let whole = try FileSystem.readFile(fixturePath("datasets/\(name).parquet"))
    try withTemporaryFolder { folder in
      for length in 0..<whole.count {
        try write(Array(whole[..<length]), to: "\(folder)/a.parquet")
        #expect(readAnything("\(folder)/a.parquet") != nil)
      }
    }
  }

  /// The footer stays, so that every page gets its turn of ending too early.
  @Test(arguments: [
    "text.zstd-v2-delta", "text.snappy-v1-dictionary", "required.snappy-v2-dictionary",
  ])
  func zeroedPagesAreAnErrorOrRows(name: String) throws {
    let whole = try FileSystem.readFile(fixturePath("datasets/\(name).parquet"))
    let footer = whole.suffix(8).prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
    try withTemporaryFolder { folder in
      for length in 4..<whole.count - 8 - footer {
        var bytes = whole
        for index in length..<whole.count - 8 - footer { bytes[index] = 0 }
        try write(bytes, to: "\(folder)/a.parquet")
        _ = readAnything("\(folder)/a.parquet")
      }
    }
  }

  @Test(arguments: small)
  func flippedBytesAreAnErrorOrRows(name: String) throws {
    let whole = try FileSystem.readFile(fixturePath("datasets/\(name).parquet"))
    var generator = SeededGenerator(seed: UInt64(whole.count))
    try withTemporaryFolder { folder in
      for _ in 0..<150 {
        var bytes = whole
        for _ in 0..<Int.random(in: 1...3, using: &generator) {
          let index = Int.random(in: 4..<whole.count - 4, using: &generator)
          bytes[index] =
            [0, 1, 0x7F, 0x80, 0xFF, UInt8.random(in: 0...255, using: &generator)]
            .randomElement(using: &generator) ?? 0
        }
        try write(bytes, to: "\(folder)/a.parquet")
        _ = readAnything("\(folder)/a.parquet")
      }
    }
  }

  /// Field 2, the schema, is a list whose length says more than there are bytes.
  @Test func hugeCountsAreRefusedBeforeMemoryIsTaken() throws {
    let huge: [UInt8] = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F]
    for footer in [
      [0x29, 0xFC] + huge, [0x29, 0xF5] + huge, [0x1B] + huge + [0x55], [0x18] + huge,
      [0x19, 0xF1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
    ] {
      try expectDamaged(parquet(footer: footer))
    }
  }

  @Test func deepNestingIsRefusedBeforeTheStackEnds() throws {
    // Field 1 of field 1 of …; a list of a list of …; a map in a map.
    for unit: [UInt8] in [[0x1C], [0x19, 0x19], [0x1B, 0x01, 0xBB]] {
      try expectDamaged(parquet(footer: Array(repeatElement(unit, count: 200_000).joined())))
    }
    // The schema: root and 100 000 groups, each inside the one before it.
    let group: [UInt8] = [0x48, 0x01, 0x61, 0x15, 0x02, 0x00]
    let groups = Array(repeatElement(group, count: 100_000).joined())
    try expectDamaged(
      parquet(footer: [0x29, 0xFC, 0xA0, 0x8D, 0x06] + groups + [0x16, 0x00, 0x19, 0x0C, 0x00]))
  }

  @Test func memoryStaysBoundedWhereARunClaimsBillionsOfValues() throws {
    // The levels of `input_ids` in one page: each longest possible run in turn.
    let whole = try FileSystem.readFile(
      fixturePath("datasets/required.snappy-v2-dictionary.parquet"))
    try withTemporaryFolder { folder in
      for index in 4..<whole.count - 8 {
        var bytes = whole
        bytes.replaceSubrange(
          index..<min(index + 5, whole.count - 8),
          with: repeatElement(0xFE, count: min(5, whole.count - 8 - index)))
        try write(bytes, to: "\(folder)/a.parquet")
        _ = readAnything("\(folder)/a.parquet")
      }
    }
    #expect(ResidentMemory.current().peakBytes < 2 << 30)
  }

  @Test(arguments: ["rows.jsonl.gz", "rows.jsonl.zst", "rows.json", "rows.json.gz"])
  func truncatedAndFlippedTextFilesAreAnErrorOrRows(name: String) throws {
    let content = (0..<40).map { "{\"index\":\($0),\"text\":\"é\\u00e9 \\ud83d\\ude00\"}" }
    let text =
      name.hasPrefix("rows.json.") || name == "rows.json"
      ? "{\"rows\":[\(content.joined(separator: ","))]}" : content.joined(separator: "\n")
    let whole = try packed(Array(text.utf8), as: name)
    var generator = SeededGenerator(seed: 1)
    try withTemporaryFolder { folder in
      for length in 0..<whole.count {
        try write(Array(whole[..<length]), to: "\(folder)/\(name)")
        // An empty file is an empty data set; every other part of these is an error.
        #expect(
          (readAnything("\(folder)/\(name)") != nil)
            == (length > 0 || name == "rows.json" || name == "rows.json.gz"))
      }
      for _ in 0..<200 {
        var bytes = whole
        bytes[Int.random(in: 0..<whole.count, using: &generator)] = UInt8.random(
          in: 0...255, using: &generator)
        try write(bytes, to: "\(folder)/\(name)")
        _ = readAnything("\(folder)/\(name)")
      }
    }
  }

  private func expectDamaged(_ bytes: [UInt8]) throws {
    try withTemporaryFolder { folder in
      try write(bytes, to: "\(folder)/a.parquet")
      guard case .damaged? = readAnything("\(folder)/a.parquet") else {
        Issue.record("read without error")
        return
      }
    }
    #expect(ResidentMemory.current().peakBytes < 2 << 30)
  }
  // MARK: Parquet that is short to write and large in memory

  private func varint(_ value: Int) -> [UInt8] {
    var (rest, bytes) = (value, [UInt8]())
    while rest >= 128 {
      bytes.append(UInt8(rest & 127 | 128))
      rest >>= 7
    }
    return bytes + [UInt8(rest)]
  }

  private func zigzag(_ value: Int) -> [UInt8] { varint(value * 2) }

  /// A group of the schema: its name and the number of its fields.
  private func group(_ name: String, _ fields: Int) -> [UInt8] {
    [0x48] + varint(name.utf8.count) + Array(name.utf8) + [0x15] + zigzag(fields) + [0x00]
  }

  @Test func `columns below a long name share it`() throws {
    let columns = 20_000
    let leaves = (0..<columns).flatMap { index -> [UInt8] in
      let name = Array("\(index)".utf8)
      return [0x15] + zigzag(1) + [0x38] + varint(name.count) + name + [0x00]
    }
    let schema =
      group("r", 1) + group(String(repeating: "n", count: 1 << 20), columns) + leaves
    let footer: [UInt8] =
      [0x29, 0xFC] + varint(columns + 2) + schema + [0x16, 0x00, 0x19, 0x0C, 0x00]
    try withTemporaryFolder { folder in
      try write(parquet(footer: footer), to: "\(folder)/a.parquet")
      #expect(readAnything("\(folder)/a.parquet") == nil)
    }
    #expect(ResidentMemory.current().peakBytes < 2 << 30)
  }

  @Test func `structures inside of structures count as the memory that they take`() throws {
    let (values, depth) = (2_000_000, 50)
    func little(_ count: Int) -> [UInt8] { (0..<4).map { UInt8(count >> (8 * $0) & 255) } }
    // A list of one row: all its items are structures around a null.
    let repetitions = [2, 0] + varint((values - 1) << 1) + [1]
    let definitions = varint(values << 1) + [1]
    let page = little(repetitions.count) + repetitions + little(definitions.count) + definitions
    let header: [UInt8] =
      [0x15, 0x00, 0x15] + zigzag(page.count) + [0x15] + zigzag(page.count) + [0x2C, 0x15]
      + zigzag(values) + [0x15, 0x00, 0x15, 0x06, 0x15, 0x06, 0x00, 0x00]
    let list: [UInt8] = [0x35, 0x04, 0x18, 0x01, 0x6C, 0x15, 0x02, 0x00]
    let leaf: [UInt8] = [0x15, 0x02, 0x25, 0x02, 0x18, 0x01, 0x76, 0x00]
    let groups = (0..<depth).flatMap { _ in group("g", 1) }
    let schema = group("r", 1) + list + groups + leaf
    let chunk: [UInt8] =
      [0x3C, 0x15, 0x02, 0x35, 0x00, 0x16] + zigzag(values) + [0x26]
      + zigzag(header.count + page.count) + [0x26] + zigzag(4) + [0x00, 0x00]
    let footer: [UInt8] =
      [0x29, 0xFC] + varint(depth + 3) + schema
      + [0x16, 0x02, 0x19, 0x1C, 0x19, 0x1C] + chunk + [0x26, 0x02, 0x00, 0x00]
    try withTemporaryFolder { folder in
      let whole = parquet(footer: footer)
      try write(Array(whole[..<4]) + header + page + whole[4...], to: "\(folder)/a.parquet")
      let error = readAnything("\(folder)/a.parquet")
      guard case .unsupported(_, _, let expected, _, _)? = error, expected.hasPrefix("rows of at")
      else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
    #expect(ResidentMemory.current().peakBytes < 2 << 30)
  }
}
