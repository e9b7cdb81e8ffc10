// Files packed with gzip and Zstandard, whole, in parts and damaged.

import Datasets
import JSON
import SystemIO
import Testing
import TestSupport

/// `bytes` as the ending of `name` says, without compressing them: what gzip calls stored and zstd raw.
func packed(_ bytes: [UInt8], as name: String) throws -> [UInt8] {
  if name.hasSuffix(".gz") { return gzip(bytes) }
  if name.hasSuffix(".zst") { return zstd(bytes) }
  return bytes
}

/// RFC 1952 around RFC 1951, blocks without compression.
func gzip(_ bytes: [UInt8]) -> [UInt8] {
  var result: [UInt8] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF]
  let parts = stride(from: 0, to: max(bytes.count, 1), by: 0xFFFF)
  for start in parts {
    let part = bytes[start..<min(start + 0xFFFF, bytes.count)]
    result.append(part.endIndex == bytes.count ? 1 : 0)
    result += littleEndian(UInt32(part.count), 2) + littleEndian(~UInt32(part.count), 2)
    result += part
  }
  return result + littleEndian(crc32(bytes), 4) + littleEndian(UInt32(bytes.count), 4)
}

/// RFC 8878, one frame of raw blocks without check sum and size, with a window of 128 KiB.
func zstd(_ bytes: [UInt8]) -> [UInt8] {
  var result: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x38]
  for start in stride(from: 0, to: max(bytes.count, 1), by: 1 << 17) {
    let part = bytes[start..<min(start + 1 << 17, bytes.count)]
    let isLast: UInt32 = part.endIndex == bytes.count ? 1 : 0
    result += littleEndian(UInt32(part.count) << 3 | isLast, 3)
    result += part
  }
  return result
}

private func littleEndian(_ value: UInt32, _ count: Int) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
}

private func crc32(_ bytes: [UInt8]) -> UInt32 {
  ~bytes.reduce(~UInt32(0)) { sum, byte in
    (0..<8).reduce(sum ^ UInt32(byte)) { value, _ in value >> 1 ^ (value & 1 == 1 ? 0xEDB8_8320 : 0)
    }
  }
}

@Suite struct PackedFilesTests {
  @Test(arguments: [
    "a.jsonl", "a.ndjson", "a.json", "a.jsonl.gz", "a.ndjson.gz", "a.json.gz", "a.jsonl.zst",
    "a.json.zst",
  ])
  func packedRowsAreRows(name: String) throws {
    let lines = (0..<3000).map {
      "{\"index\":\($0),\"text\":\"\(String(repeating: "z", count: $0))\"}"
    }
    try withTemporaryFolder { folder in
      try write(
        packed(Array(lines.joined(separator: "\n").utf8), as: name), to: "\(folder)/\(name)")
      let dataset = try Dataset(path: "\(folder)/\(name)")
      #expect(try rows(dataset) == lines)
      #expect(try dataset.rowCount() == 3000)
      #expect(dataset.columns == ["index", "text"])
    }
  }

  @Test(arguments: ["a.txt.gz", "a.txt.zst"])
  func packedTextsAreRows(name: String) throws {
    let text = String(repeating: "line\n", count: 500_000)
    try withTemporaryFolder { folder in
      let path = "\(folder)/\(name)"
      try write(packed(Array(text.utf8), as: name), to: path)
      let dataset = try Dataset(path: path)
      let beginning = try #require(try dataset.makeReader().next())
      #expect(beginning.isCut)
      let row = try dataset.longer(beginning, bytes: text.utf8.count)
      #expect(!row.isCut)
      #expect(try row.value.get()["text"]?.string == text)
    }
  }

  @Test(arguments: ["a.jsonl.gz", "a.jsonl.zst"])
  func partsThatWerePackedOneByOneAreOneFile(name: String) throws {
    let parts = try ["{\"a\":1}\n{\"a\"", "", ":2}\n"].map { try packed(Array($0.utf8), as: name) }
    #expect(try rows(of: Array(parts.joined()), in: name) == ["{\"a\":1}", "{\"a\":2}"])
  }

  /// Written by the programs themselves: `printf '{"a":1}\n{"a":2}\n' | gzip -9n` and `zstd -19 --check`.
  @Test func whatGzipAndZstdWriteIsRead() throws {
    let zstd: [UInt8] = [
      0x28, 0xB5, 0x2F, 0xFD, 0x24, 0x10, 0x81, 0x00, 0x00, 0x7B, 0x22, 0x61, 0x22, 0x3A, 0x31,
      0x7D, 0x0A, 0x7B, 0x22, 0x61, 0x22, 0x3A, 0x32, 0x7D, 0x0A, 0xEE, 0xED, 0xAC, 0xF2,
    ]
    let gzip: [UInt8] = [
      0x1F, 0x8B, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xAB, 0x56, 0x4A, 0x54, 0xB2,
      0x32, 0xAC, 0xE5, 0xAA, 0x06, 0xD1, 0x46, 0xB5, 0x5C, 0x00, 0x66, 0xC0, 0x5A, 0x19, 0x10,
      0x00, 0x00, 0x00,
    ]
    #expect(try rows(of: gzip, in: "a.jsonl.gz") == ["{\"a\":1}", "{\"a\":2}"])
    #expect(try rows(of: zstd, in: "a.jsonl.zst") == ["{\"a\":1}", "{\"a\":2}"])
  }

  @Test func aPackedFileThatIsNoneIsDamaged() throws {
    for name in ["a.jsonl.gz", "a.jsonl.zst"] {
      try withTemporaryFolder { folder in
        try write(Array("{\"a\":1}\n".utf8), to: "\(folder)/\(name)")
        guard case .damaged(_, "packed byte 0", _)? = readAnything("\(folder)/\(name)") else {
          Issue.record("read without error")
          return
        }
      }
    }
  }
}
