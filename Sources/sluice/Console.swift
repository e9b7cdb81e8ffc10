// Where text goes: results to stdout, progress and errors to stderr.

internal import Glibc
import Synchronization

enum Console {
  /// Whether a live line is on the terminal; the next line goes in its place.
  private static let hasLiveLine = Mutex(false)

  static func error(_ line: String) {
    hasLiveLine.withLock { live in
      write((live ? "\r\u{1B}[K" : "") + line + "\n", to: STDERR_FILENO)
      live = false
    }
  }

  static func out(_ line: String) { write(line + "\n", to: STDOUT_FILENO) }

  /// Replaces the live line of a terminal.
  static func live(_ line: String) {
    hasLiveLine.withLock { live in
      write("\r\u{1B}[K" + line, to: STDERR_FILENO)
      live = true
    }
  }

  /// Takes the live line away.
  static func endLive() {
    hasLiveLine.withLock { live in
      if live { write("\r\u{1B}[K", to: STDERR_FILENO) }
      live = false
    }
  }

  /// Whether stderr is a terminal that can replace a line.
  static var takesEscapes: Bool {
    let name = unsafe getenv("TERM").map { unsafe String(cString: $0) } ?? ""
    return isatty(STDERR_FILENO) == 1 && name != "" && name != "dumb"
  }

  /// Columns of the terminal behind stderr; 80 where it does not say.
  static var columns: Int {
    var size = winsize()
    let known = unsafe ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0
    return known && size.ws_col > 0 ? Int(size.ws_col) : 80
  }

  private static func write(_ text: String, to descriptor: Int32) {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let written = unsafe rest.withUnsafeBytes {
        unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
      }
      if written < 0 {
        if errno == EINTR { continue }
        // A closed pipe: nobody reads any more, which is no failure of the work.
        return
      }
      rest = rest.dropFirst(written)
    }
  }
}
