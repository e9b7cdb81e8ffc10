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
    // What posix_openpt, unlockpt and ptsname do; Swift's Glibc module does not show them.
    let (unlocks, tellsNumber) = (UInt(0x4004_5431), UInt(0x8004_5430))
    let number = unsafe open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK)
    var (lock, terminal) = (Int32(0), Int32(0))
    guard number >= 0, unsafe ioctl(number, unlocks, &lock) == 0,
      unsafe ioctl(number, tellsNumber, &terminal) == 0
    else { throw SystemError(path: "/dev/ptmx", call: "opening a terminal", code: errno) }
    master = number
    path = "/dev/pts/\(terminal)"
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
