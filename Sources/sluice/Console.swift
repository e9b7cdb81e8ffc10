// Where text goes: results to stdout, progress and errors to stderr.

internal import Glibc
internal import JSON
internal import Pipeline
internal import Reporting
internal import Synchronization
internal import SystemIO

/// How much is told.
enum LogLevel {
  case quiet, usual, verbose
}

/// Whatever goes out here is safe for a terminal: see `TerminalText`.
enum Console {
  private static let settings = Mutex((form: LogForm.text, level: LogLevel.usual))

  static func set(_ form: LogForm, _ level: LogLevel) {
    settings.withLock { $0 = (form, level) }
  }

  static var form: LogForm { settings.withLock { $0.form } }
  static var level: LogLevel { settings.withLock { $0.level } }

  /// An event, where news are events.
  static func event(_ name: String, _ fields: [(String, JSONValue)]) {
    if form != .json { return }
    let object = JSONObject(
      [("time", .string(dateText(Int(time(nil))))), ("event", .string(name))] + fields)
    let line = JSONValue.object(object).serialized()
    _ = write(TerminalText.escaped(line, keepsLines: false) + "\n", to: STDERR_FILENO)
  }

  /// What a user need not know, and scripts have as events of their own.
  static func news(_ line: String) {
    if form == .text, level != .quiet { error(line) }
  }

  static func warning(_ text: String) {
    form == .json ? event("warning", [("message", .string(text))]) : error("warning: \(text)")
  }

  /// A run stopped because it was asked to.
  ///
  /// - Parameter command: what goes on with it.
  static func stopped(_ command: [String]) {
    if form == .json {
      event("interrupted", [("command", .array(command.map { .string($0) }))])
    } else {
      error("stopped at a commit; the same command goes on from there:")
      error(command: shellText(command))
    }
  }

  /// What ends the program.
  static func failure(_ text: String) {
    form == .json ? event("error", [("message", .string(text))]) : error("error: \(text)")
  }

  /// The errno of the first write to stdout that failed; 0 where none did.
  private static let failure = Mutex<Int32>(0)

  /// Whether a live line is on the terminal; the next line goes in its place.
  private static let hasLiveLine = Mutex(false)

  static func error(_ line: String) {
    if form == .json { return event("message", [("text", .string(line))]) }
    hasLiveLine.withLock { live in
      let text = painted(wrapped(TerminalText.line(line), for: STDERR_FILENO))
      _ = write((live ? Self.eraseLine : "") + text + "\n", to: STDERR_FILENO)
      live = false
    }
  }

  /// Text of the program's own, such as its help.
  static func error(lines text: some StringProtocol) {
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      error(String(line))
    }
  }

  /// A command to be given again: whole, however long its words are.
  static func error(command: String) {
    if form == .json { return event("message", [("text", .string(command))]) }
    _ = write("  " + TerminalText.escaped(command, keepsLines: false) + "\n", to: STDERR_FILENO)
  }

  /// Results for people: lines that are too long for a terminal go on in the next.
  static func show(_ text: String) {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    out(lines.map { wrapped(String($0), for: STDOUT_FILENO) }.joined(separator: "\n"))
  }

  /// Results: one line or more.
  static func out(_ text: String) {
    let code = write(TerminalText.escaped(text, keepsLines: true) + "\n", to: STDOUT_FILENO)
    if code != 0 { failure.withLock { $0 = $0 == 0 ? code : $0 } }
  }

  /// Fails where results could not be written. A reader that has seen enough is no failure.
  static func finish() throws(SystemError) {
    let code = failure.withLock { $0 }
    if code != 0, code != EPIPE {
      throw SystemError(path: "standard output", call: "write", code: code)
    }
  }

  private static let eraseLine = "\r\u{1B}[K"

  /// Replaces the live line of a terminal.
  static func live(_ pieces: [Piece]) {
    let line = pieces.map { painted(TerminalText.line($0.text), $0.style?.rawValue) }.joined()
    hasLiveLine.withLock { live in
      _ = write(Self.eraseLine + line, to: STDERR_FILENO)
      live = true
    }
  }

  /// Takes the live line away.
  static func endLive() {
    hasLiveLine.withLock { live in
      if live { _ = write(Self.eraseLine, to: STDERR_FILENO) }
      live = false
    }
  }

  /// Whether stderr is a terminal that can replace a line.
  static var takesEscapes: Bool {
    let name = variable("TERM")
    return isatty(STDERR_FILENO) == 1 && name != "" && name != "dumb"
  }

  /// Whether colours are wanted on stderr. Source: no-color.org.
  private static let hasColours = takesEscapes && variable("NO_COLOR").isEmpty

  /// Words at the beginning of a line that are to be seen.
  private static let marks = [
    (word: "error:", style: "1;31"), (word: "warning:", style: "33"), (word: "done:", style: "32"),
  ]

  private static func painted(_ line: String) -> String {
    guard hasColours, let mark = marks.first(where: { line.hasPrefix($0.word) }) else {
      return line
    }
    return painted(mark.word, mark.style) + line.dropFirst(mark.word.count)
  }

  private static func painted(_ text: String, _ style: String?) -> String {
    guard hasColours, let style, !text.isEmpty else { return text }
    return "\u{1B}[\(style)m\(text)\u{1B}[0m"
  }

  /// What bars are drawn with: lines where the locale knows them.
  static let cells: BarCells = {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].lazy.map(variable).first { !$0.isEmpty } ?? ""
    let name = locale.lowercased().filter { $0 != "-" }
    return name.hasSuffix("utf8") ? .lines : .ascii
  }()

  private static func variable(_ name: String) -> String {
    unsafe getenv(name).map { unsafe String(cString: $0) } ?? ""
  }

  /// Columns of the terminal behind stderr; 80 where it does not say.
  static var columns: Int { columns(of: STDERR_FILENO) }

  private static func columns(of descriptor: Int32) -> Int {
    var size = winsize()
    let known = unsafe ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0
    return known && size.ws_col > 0 ? Int(size.ws_col) : 80
  }

  /// Text for stdout or stderr, cut into lines as wide as the terminal there, where there is one.
  private static func wrapped(_ line: String, for descriptor: Int32) -> String {
    if isatty(descriptor) != 1 { return line }
    return TerminalText.wrapped(line, columns: columns(of: descriptor)).joined(separator: "\n")
  }

  /// Until a descriptor takes more.
  ///
  /// - Returns: whether it can be asked.
  private static func waits(for descriptor: Int32) -> Bool {
    var place = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
    return unsafe poll(&place, 1, -1) >= 0 || errno == EINTR
  }

  /// - Returns: 0, or the errno of what failed.
  private static func write(_ text: String, to descriptor: Int32) -> Int32 {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let written = unsafe rest.withUnsafeBytes {
        unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
      }
      if written < 0 {
        let code = errno
        if code == EINTR { continue }
        // Whoever else has the terminal or the pipe may have made it so that writes do not wait.
        if code == EAGAIN, waits(for: descriptor) { continue }
        return code
      }
      rest = rest.dropFirst(written)
    }
    return 0
  }
}
