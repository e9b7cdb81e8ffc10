// One process at a time in an output folder.

import Glibc

/// An advisory lock on a file, held until the last owner goes.
///
/// The kernel drops it when the process dies, so a killed run never has to be unlocked by hand. The
/// file stays: removing it would let two processes lock two files of the same name.
package final class FileLock: Sendable {
  private let descriptor: Descriptor

  /// - Returns: nil while someone else holds the lock.
  package init?(path: String) throws(SystemError) {
    let descriptor = try Descriptor(path, O_RDWR | O_CREAT)
    do {
      try check(path, "flock") { flock(descriptor.number, LOCK_EX | LOCK_NB) }
    } catch {
      if error.code == EWOULDBLOCK { return nil }
      throw error
    }
    self.descriptor = descriptor
  }
}
