// A preallocated file written with pwrite and made durable with fdatasync.

import Glibc

/// A file of known size, written at planned offsets.
///
/// Writes to separate ranges may run at the same time; the class holds no cursor.
package final class OutputFile: Sendable {
  package let byteCount: Int
  package var path: String { descriptor.path }

  private let descriptor: KeptDescriptor

  /// Creates or empties the file and reserves its blocks, so that a full disk shows now and not
  /// hours into a run. When they cannot be had, nothing is left behind.
  package init(creating path: String, byteCount: Int) throws(SystemError) {
    precondition(byteCount >= 0, "negative file size")
    let descriptor = try Descriptor(path, O_RDWR | O_CREAT | O_TRUNC)
    do {
      try Self.reserve(byteCount, descriptor)
    } catch {
      unsafe unlink(path)
      throw error
    }
    self.descriptor = try KeptDescriptor(descriptor, O_RDWR)
    self.byteCount = byteCount
  }

  /// Opens an existing file for more writes.
  package init(opening path: String, byteCount: Int) throws(SystemError) {
    let descriptor = try Descriptor(path, O_RDWR)
    let found = try descriptor.status().st_size
    guard found == byteCount else {
      throw SystemError(
        path: path, call: "reopening \(byteCount) bytes (found \(found))", code: EINVAL)
    }
    self.descriptor = try KeptDescriptor(descriptor, O_RDWR)
    self.byteCount = byteCount
  }

  package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(SystemError) {
    precondition(
      offset >= 0 && bytes.count <= byteCount && offset <= byteCount - bytes.count,
      "write beyond the planned end of \(path)")
    try unsafe descriptor.open().write(bytes, at: offset)
  }

  /// Returns when everything written before is on the disk.
  ///
  /// After a failure the file must be counted as lost: the kernel reports a failed write once.
  package func synchronize() throws(SystemError) {
    // The kernel also tells whoever opens the file next of a failure that nobody was told of.
    try descriptor.open().synchronize()
  }

  private static func reserve(_ byteCount: Int, _ descriptor: Descriptor) throws(SystemError) {
    var code: Int32
    repeat {
      code = posix_fallocate(descriptor.number, 0, byteCount)
    } while code == EINTR
    switch code {
    case 0: return
    // Not every file system can reserve, and none reserves 0 bytes; a sparse file does as well.
    case EOPNOTSUPP, EINVAL:
      try check(descriptor.path, "ftruncate") { ftruncate(descriptor.number, byteCount) }
    default: throw SystemError(path: descriptor.path, call: "posix_fallocate", code: code)
    }
  }
}
