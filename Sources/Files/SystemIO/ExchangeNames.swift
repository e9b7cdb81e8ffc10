// Two folders that change places at once, so that there is one of either name at every moment.

internal import CLinux
import Glibc

extension FileSystem {
  /// Two files or folders get each other's names, at once and durably.
  ///
  /// Source: renameat2(2), `RENAME_EXCHANGE`.
  ///
  /// - Returns: false where the file system cannot do that.
  package static func exchange(_ path: String, _ other: String) throws(SystemError) -> Bool {
    if unsafe sluice_exchange(path, other) != 0 {
      let code = errno
      if [EINVAL, ENOSYS, EOPNOTSUPP].contains(code) { return false }
      throw SystemError(path: path, call: "rename", code: code)
    }
    try synchronizeFolder(parent(path))
    try synchronizeFolder(parent(other))
    return true
  }
}
