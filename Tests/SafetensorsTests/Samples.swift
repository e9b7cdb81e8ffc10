// Files made by hand, so that they can be wrong in every way.

import Safetensors
import SystemIO

/// The bytes of a file with this header text and that many bytes of data, counting up from 0.
func fileBytes(_ header: String, data byteCount: Int = 0) -> [UInt8] {
  let text = Array(header.utf8)
  let length = (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) }
  return length + text + (0..<byteCount).map { UInt8(truncatingIfNeeded: $0) }
}

/// A header entry; JSON values are passed as text.
func entry(_ name: String, _ dtype: String, _ shape: String, _ offsets: String) -> String {
  "\"\(name)\":{\"dtype\":\"\(dtype)\",\"shape\":\(shape),\"data_offsets\":\(offsets)}"
}

func parseHeader(_ bytes: [UInt8]) throws -> Header {
  try unsafe bytes.withUnsafeBytes {
    try unsafe Header.parse(bytes: $0, fileByteCount: bytes.count, path: "f")
  }
}

func content(of tensor: StoredTensor) -> [UInt8] {
  unsafe tensor.withBytes { unsafe Array($0) }
}

func write(
  _ bytes: [UInt8], to name: String, at offset: Int = 0, _ writer: ShardWriter
) throws {
  try unsafe bytes.withUnsafeBytes { try unsafe writer.write($0, to: name, at: offset) }
}
