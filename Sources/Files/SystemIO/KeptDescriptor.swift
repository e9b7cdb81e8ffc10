// Files that stay in use for long, of which there may be more than descriptors.

import Glibc
import Synchronization

/// A descriptor that is kept open where the limit has room for it, and opened again for each use where not.
///
/// A model may have more shards than a process may have files open: a quarter of what it may have is for these, the rest
/// for all that is open for a moment, and for what signals and threads take.
final class KeptDescriptor: Sendable {
  let path: String
  private let flags: Int32
  private let kept: Descriptor?
  private let device: UInt
  private let inode: UInt

  private static let count = Atomic<Int>(0)

  /// - Parameter flags: to open it again with; nothing that creates or empties a file.
  init(_ descriptor: Descriptor, _ flags: Int32) throws(SystemError) {
    let status = try descriptor.status()
    path = descriptor.path
    self.flags = flags
    device = UInt(status.st_dev)
    inode = UInt(status.st_ino)
    let open = Self.count.add(1, ordering: .relaxed).newValue
    kept = open <= ProcessLimits.files / 4 ? descriptor : nil
  }

  deinit { Self.count.subtract(1, ordering: .relaxed) }

  func open() throws(SystemError) -> Descriptor {
    if let kept { return kept }
    let descriptor = try Descriptor(path, flags)
    let status = try descriptor.status()
    // Another file of that name is not the one that was looked at.
    if UInt(status.st_dev) != device || UInt(status.st_ino) != inode {
      throw SystemError(path: path, call: "opening it again", code: ESTALE)
    }
    return descriptor
  }
}
