// A file that only grows, with a known durable length.

internal import CLinux
import Glibc

/// A file written from front to back.
package final class AppendedFile {
  package private(set) var byteCount: Int
  package var path: String { descriptor.path }

  private let descriptor: Descriptor

  /// Creates or empties the file.
  package init(creating path: String) throws(SystemError) {
    descriptor = try Descriptor(path, O_RDWR | O_CREAT | O_TRUNC)
    byteCount = 0
  }

  /// Opens an existing file and cuts it to its first `byteCount` bytes; what came later was never committed.
  package init(continuing path: String, at byteCount: Int) throws(SystemError) {
    let descriptor = try Descriptor(path, O_RDWR | O_CREAT)
    guard try descriptor.status().st_size >= byteCount else {
      throw SystemError(path: path, call: "reopening \(byteCount) bytes", code: EINVAL)
    }
    try check(path, "ftruncate") { ftruncate(descriptor.number, byteCount) }
    self.descriptor = descriptor
    self.byteCount = byteCount
  }

  package func append(_ bytes: [UInt8]) throws(SystemError) {
    try unsafe bytes.span.bytes.withUnsafeBytes { raw throws(SystemError) in
      try unsafe append(raw)
    }
  }

  package func append(_ bytes: UnsafeRawBufferPointer) throws(SystemError) {
    try unsafe descriptor.write(bytes, at: byteCount)
    byteCount += bytes.count
  }

  /// Lets the kernel begin to write what was appended from `offset` on; returns at once, and promises nothing.
  package func startWriting(from offset: Int) {
    sync_file_range(
      descriptor.number, Int64(offset), Int64(byteCount - offset),
      UInt32(sluice_sync_file_range_write))
  }

  /// Returns when everything appended before is on the disk.
  package func synchronize() throws(SystemError) { try descriptor.synchronize() }
}
