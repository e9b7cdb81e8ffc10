// The program as a user runs it: arguments in, exit code and text out.

import Glibc
import JSON
import SystemIO
import Testing
import TestSupport

/// How a process ended and what it said.
struct Outcome: CustomStringConvertible {
  enum End: Equatable {
    case exit(Int32)
    case signal(Int32)
  }

  let end: End
  let stdout: String
  let stderr: String

  /// Lines of stderr that are not empty.
  var messages: [Substring] { stderr.split(separator: "\n") }

  var description: String { "\(end)\nstdout: \(stdout)\nstderr: \(stderr)" }
}

/// A `sluice` process that runs.
final class Program {
  /// Beside the test bundle: the build that is being tested, whatever its folder is called.
  static let path: String = {
    let bundle = FileSystem.resolved("/proc/self/exe")
    return bundle.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" } + "/sluice"
  }()

  private let folder: String
  private let pid: pid_t

  /// - Parameters:
  ///   - workingFolder: the process's own; that of the tests where none is named.
  ///   - environment: `NAME=VALUE`, beside that of the tests.
  ///   - errors: a file or a terminal for stderr, where it is none of the program's own.
  ///   - script: what a shell does instead of running the program, which is `"$@"` there.
  init(
    _ arguments: [String], in workingFolder: String? = nil, environment: [String] = [],
    errors: String? = nil, script: String? = nil
  ) throws {
    folder = try makeFolder()
    let shell = script.map { ["/bin/sh", "-c", $0, "sh"] } ?? []
    pid = try Self.spawn(
      arguments, output: folder, workingFolder, environment + shell, errors)
  }

  deinit { try? FileSystem.remove(folder) }

  /// Runs to the end.
  static func run(
    _ arguments: [String], in workingFolder: String? = nil, environment: [String] = [],
    script: String? = nil
  ) throws -> Outcome {
    try Program(arguments, in: workingFolder, environment: environment, script: script).wait()
  }

  func send(_ signal: Int32) { _ = Glibc.kill(pid, signal) }

  /// Whether the process has ended; its end is left for `wait`.
  var hasEnded: Bool {
    var information = unsafe siginfo_t()
    unsafe waitid(P_PID, id_t(pid), &information, WEXITED | WNOHANG | WNOWAIT)
    return unsafe information.si_signo != 0
  }

  /// Halts the process until SIGCONT comes, or its end.
  ///
  /// SIGSTOP alone is only asked for: a thread on another core goes on for a while.
  func halt() {
    send(SIGSTOP)
    var information = unsafe siginfo_t()
    while unsafe waitid(P_PID, id_t(pid), &information, WSTOPPED | WEXITED | WNOWAIT) < 0,
      errno == EINTR
    {}
  }

  /// Waits until `condition` holds or the process has ended.
  ///
  /// - Returns: whether it holds. The limit is for a program that hangs, not for one that is slow.
  @discardableResult
  func waitUntil(_ condition: () throws -> Bool) throws -> Bool {
    let start = ContinuousClock.now
    while ContinuousClock.now - start < .seconds(600) {
      // What was done before the end counts.
      let hasEnded = hasEnded
      if try condition() { return true }
      if hasEnded { return false }
      usleep(1000)
    }
    return false
  }

  /// What was written to stderr so far.
  var stderr: String { get throws { try text("stderr") } }

  /// Until quantize or evaluate has told that layer 0 is done.
  func waitForFirstLayer() throws {
    let isDone = try waitUntil {
      let told = try stderr
      return told.contains("\nlayer 0 of ") || told.contains(": layer 0 of ")
    }
    let told = try stderr
    if !isDone { Issue.record("no layer was done: \(told)") }
  }

  /// A quantize or evaluate of the fixture model that was halted when its first layer was done, with another one to do.
  ///
  /// - Parameter output: a folder that the program writes, and nobody else.
  static func halted(_ arguments: [String], output: String? = nil) throws -> Program {
    while true {
      let program = try Program(arguments)
      try program.waitForFirstLayer()
      program.halt()
      if try !program.stderr.contains("layer 2 of ") { return program }
      // On a busy machine it may be further, or over, before the signal comes: then once more.
      program.send(SIGKILL)
      _ = try program.wait()
      if let output { try FileSystem.remove(output) }
    }
  }

  func wait() throws -> Outcome {
    var status: Int32 = 0
    while unsafe waitpid(pid, &status, 0) < 0 {
      if errno != EINTR { throw SystemError(path: Self.path, call: "waitpid", code: errno) }
    }
    let signal = status & 0x7f
    return Outcome(
      end: signal == 0 ? .exit(status >> 8 & 0xff) : .signal(signal), stdout: try text("stdout"),
      stderr: FileSystem.exists("\(folder)/stderr") ? try text("stderr") : "")
  }

  /// Waits, and reads a terminal until the end: it holds little.
  func wait(reading terminal: Terminal) throws -> Outcome {
    try waitUntil {
      _ = terminal.text
      return false
    }
    return try wait()
  }

  /// Waits, and looks at the kernel's mark of the peak of memory (VmHWM) until the end.
  func waitForPeak() throws -> (outcome: Outcome, peakBytes: Int) {
    var peak = 0
    repeat {
      let status = (try? FileSystem.readFile("/proc/\(pid)/status")) ?? []
      for line in String(decoding: status, as: UTF8.self).split(separator: "\n")
      where line.hasPrefix("VmHWM:") {
        peak = max(peak, (Int(line.filter(\.isNumber)) ?? 0) << 10)
      }
      usleep(500)
    } while !hasEnded
    return (try wait(), peak)
  }

  /// Kills without a chance to tidy up, once `milliseconds` have gone by.
  func kill(after milliseconds: Double) throws -> Outcome {
    usleep(UInt32(milliseconds * 1000))
    send(SIGKILL)
    return try wait()
  }

  private func text(_ name: String) throws -> String {
    String(decoding: try FileSystem.readFile("\(folder)/\(name)"), as: UTF8.self)
  }

  private static func spawn(
    _ arguments: [String], output: String, _ workingFolder: String?,
    _ environment: [String], _ errors: String?
  ) throws -> pid_t {
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    for (number, path) in [
      (STDOUT_FILENO, "\(output)/stdout"), (STDERR_FILENO, errors ?? "\(output)/stderr"),
    ] {
      unsafe posix_spawn_file_actions_addopen(
        &actions, number, path, O_WRONLY | O_CREAT | O_NOCTTY, 0o600)
    }
    // Whoever runs the tests may ignore SIGINT; the program must not inherit that.
    var attributes = posix_spawnattr_t()
    unsafe posix_spawnattr_init(&attributes)
    defer { unsafe posix_spawnattr_destroy(&attributes) }
    var signals = sigset_t()
    unsafe sigemptyset(&signals)
    for signal in [SIGINT, SIGTERM, SIGHUP] { unsafe sigaddset(&signals, signal) }
    unsafe posix_spawnattr_setsigdefault(&attributes, &signals)
    unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF))

    // env changes folder and environment and then becomes the program or the shell, under the same number.
    let changes = (workingFolder.map { ["-C", $0] } ?? []) + environment
    let words = (changes.isEmpty ? [] : ["/usr/bin/env"] + changes) + [path] + arguments
    var argv: [UnsafeMutablePointer<CChar>?] = unsafe words.map { unsafe strdup($0) }
    unsafe argv.append(nil)
    defer { unsafe argv.forEach { unsafe free($0) } }
    var pid: pid_t = 0
    let code = unsafe posix_spawn(&pid, words[0], &actions, &attributes, argv, environ)
    if code != 0 { throw SystemError(path: path, call: "posix_spawn", code: code) }
    return pid
  }
}

/// That the Guide lists these events and all of their fields.
func expectInGuide(
  _ messages: [Substring], sourceLocation: SourceLocation = #_sourceLocation
) throws {
  let guide = String(
    decoding: try FileSystem.readFile(projectPath("Sources/sluice/Sluice.docc/Guide.md")),
    as: UTF8.self)
  for line in messages {
    let event = try #require(
      try JSONValue.parse(Array(line.utf8)).object, "\(line)", sourceLocation: sourceLocation)
    for (key, _) in event.entries where key != "event" {
      #expect(guide.contains("`\(key)`"), "\(key)", sourceLocation: sourceLocation)
    }
    let name = event["event"]?.string ?? ""
    #expect(
      guide.contains("| `\(name)`") || guide.contains(", `\(name)`"), "\(event)",
      sourceLocation: sourceLocation)
  }
}
