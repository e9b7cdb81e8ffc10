// The flags that say how much is told while a command works, and in which form.

import ArgumentParser

/// How news are written to stderr.
enum LogForm: String, Choice {
  case text
  /// One event a line.
  case json
}

struct LogArguments: ParsableArguments {
  @Flag(name: .shortAndLong, help: "Show only warnings and errors.")
  var quiet = false

  @Option(
    help: ArgumentHelp(
      "How news is written to stderr: text, or json, which is one event a line.",
      valueName: "form"))
  var log: LogForm = .text

  /// From here on.
  func begin() { begin(isVerbose: false) }

  fileprivate func begin(isVerbose: Bool) {
    Console.set(log, quiet ? .quiet : isVerbose ? .verbose : .usual)
  }
}

/// Likewise, for commands whose steps can be told.
struct RunLogArguments: ParsableArguments {
  @OptionGroup var usual: LogArguments

  @Flag(name: .shortAndLong, help: "Also show what each step takes.")
  var verbose = false

  func validate() throws {
    if usual.quiet, verbose {
      throw ValidationError("--quiet and --verbose say the opposite; leave one of them out")
    }
  }

  /// From here on.
  func begin() { usual.begin(isVerbose: verbose) }
}
