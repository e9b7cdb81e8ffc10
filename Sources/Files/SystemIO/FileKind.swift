// What stands at a path: a regular file, or something that only looks like one.

import Glibc

package enum FileKind: String, Sendable {
  case regular = "a regular file"
  case folder = "a folder"
  case pipe = "a FIFO (named pipe)"
  case characterDevice = "a character device"
  case blockDevice = "a block device"
  case socket = "a socket"
  case other = "something else"

  init(_ status: stat) {
    switch status.st_mode & S_IFMT {
    case S_IFREG: self = .regular
    case S_IFDIR: self = .folder
    case S_IFIFO: self = .pipe
    case S_IFCHR: self = .characterDevice
    case S_IFBLK: self = .blockDevice
    case S_IFSOCK: self = .socket
    default: self = .other
    }
  }

  /// What `path` leads to, links followed; nil where nothing stands there.
  package init?(at path: String) {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else { return nil }
    self.init(status)
  }
}
