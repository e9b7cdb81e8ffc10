// The flags that say how much is told while a command works, and in which form.

import ArgumentParser

/// How news are written to stderr.
enum LogForm: String, Choice {
  case text
  /// One event a line.
  case json
}

struct LogArguments: ParsableArguments {
  @Flag(name: .shortAndLong, help: "Tell warnings and errors alone.")
  var quiet = false

  @Flag(name: .shortAndLong, help: "Tell what every step takes, too.")
  var verbose = false

  @Option(
    help: ArgumentHelp(
      "How news are told on stderr: text, or json, which is one event a line.", valueName: "form"))
  var log: LogForm = .text

  func validate() throws {
    if quiet, verbose {
      throw ValidationError("--quiet and --verbose say the opposite; leave one of them out")
    }
  }

  /// From here on.
  func begin() { Console.set(log, quiet ? .quiet : verbose ? .verbose : .usual) }
}
