// CRC-32, which can be put together from parts that were computed apart.

internal import CZlib

/// The CRC-32 of some bytes, as gzip and PNG have it.
package struct Checksum: Sendable, Equatable {
  private var value: UInt = 0
  package private(set) var byteCount = 0

  package init() {}

  package init(_ bytes: UnsafeRawBufferPointer) {
    unsafe add(bytes)
  }

  package init(_ bytes: [UInt8]) {
    self = unsafe bytes.withUnsafeBytes { unsafe Checksum($0) }
  }

  package mutating func add(_ bytes: UnsafeRawBufferPointer) {
    let base = unsafe bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
    if bytes.count > 0 { unsafe value = crc32_z(value, base, bytes.count) }
    byteCount += bytes.count
  }

  /// The checksum of these bytes and then those.
  package func followed(by other: Checksum) -> Checksum {
    var result = self
    result.value = crc32_combine(value, other.value, other.byteCount)
    result.byteCount += other.byteCount
    return result
  }

  /// What `text` was made of; nil where that is none.
  package init?(text: String, byteCount: Int) {
    guard text.utf8.count == 8, let value = UInt(text, radix: 16) else { return nil }
    self.value = value
    self.byteCount = byteCount
  }

  /// Eight hexadecimal digits.
  package var text: String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 8 - digits.count) + digits
  }
}
