// A terminal of a given width, and all that a program wrote to it.

import Glibc
import Synchronization
import SystemIO

final class Terminal: Sendable {
  /// For the program to open.
  let path: String
  private let master: Int32
  private let written = Mutex<[UInt8]>([])

  init(columns: Int) throws {
    let number = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK)
    guard number >= 0, grantpt(number) == 0, unlockpt(number) == 0,
      let name = unsafe ptsname(number)
    else { throw SystemError(path: "/dev/ptmx", call: "posix_openpt", code: errno) }
    master = number
    path = unsafe String(cString: name)
    var size = winsize(
      ws_row: 24, ws_col: UInt16(columns), ws_xpixel: 0, ws_ypixel: 0)
    if unsafe ioctl(number, UInt(TIOCSWINSZ), &size) != 0 {
      throw SystemError(path: path, call: "ioctl", code: errno)
    }
  }

  deinit { close(master) }

  /// All that was written so far.
  var text: String {
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = unsafe read(master, &buffer, buffer.count)
      if count <= 0 { break }
      written.withLock { $0 += buffer[..<count] }
    }
    return written.withLock { String(decoding: $0, as: UTF8.self) }
  }
}
