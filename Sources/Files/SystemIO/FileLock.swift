// One process at a time in an output folder.

internal import CLinux
import Glibc

/// An advisory lock on a file, held until the last owner goes.
///
/// The kernel drops it when the process dies, so a killed run never has to be unlocked by hand. The
/// file stays: removing it would let two processes lock two files of the same name.
/// Source: fcntl(2), open file description locks. Unlike those of flock(2) they can be asked for without being taken.
package final class FileLock: Sendable {
  private let descriptor: Descriptor

  /// - Returns: nil while someone else holds the lock.
  package init?(path: String) throws(SystemError) {
    let descriptor = try Descriptor(path, O_RDWR | O_CREAT)
    var wish = Self.whole
    do {
      try check(path, "lock") { unsafe fcntl(descriptor.number, sluice_set_lock, &wish) }
    } catch {
      if error.code == EAGAIN || error.code == EACCES { return nil }
      throw error
    }
    self.descriptor = descriptor
  }

  /// Whether someone holds the lock now; takes nothing and makes nothing.
  package static func isHeld(path: String) -> Bool {
    guard let descriptor = try? Descriptor(path, O_RDONLY) else { return false }
    var wish = whole
    let answer = unsafe fcntl(descriptor.number, sluice_get_lock, &wish)
    return answer == 0 && wish.l_type != Int16(F_UNLCK)
  }

  /// A lock on the whole file that only one can hold.
  private static var whole: flock {
    var lock = flock()
    lock.l_type = Int16(F_WRLCK)
    lock.l_whence = Int16(SEEK_SET)
    return lock
  }
}
