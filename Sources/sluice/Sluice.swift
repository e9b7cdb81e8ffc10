// The command, its version and its subcommands.

import ArgumentParser
internal import Glibc
internal import LinearAlgebra
internal import Pipeline
internal import SystemIO

@main
struct Sluice: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sluice",
    abstract: "Quantize Mixture-of-Experts checkpoints that are many times larger than RAM.",
    discussion: """
      Reads a Hugging Face folder, works through one decoder layer at a time within the memory you \
      name, and writes compressed-tensors shards that vLLM loads. A run that was stopped or killed \
      goes on with the same command.

      EXAMPLES
        sluice inspect GLM-4.6
        sluice plan GLM-4.6 --memory 8GiB \\
            --calibration chats.parquet
        sluice quantize GLM-4.6 \\
            -o GLM-4.6-W4A16 --memory 8GiB \\
            --calibration chats.parquet \\
            --ignore 'model.layers.[0-2].*'
        sluice verify GLM-4.6-W4A16 \\
            --source GLM-4.6

      Exit codes: 0 done, 1 failed, 64 usage, 130 interrupted and resumable.
      """,
    version: version,
    subcommands: [
      Quantize.self, Plan.self, Status.self, MakeReport.self, Inspect.self, Verify.self,
      Evaluate.self,
    ])

  static var version: String { "0.1.0 (\(Engine.best.name), \(CPU.instructionSet))" }

  /// One place where errors become a line on stderr and an exit code.
  static func main() {
    ResidentMemory.returnLargeBuffersAtOnce()
    do {
      try ProcessLimits.prepare()
      try checkWords(CommandLine.arguments)
      var command = try parseAsRoot()
      try command.run()
      try Console.finish()
    } catch is Interrupted {
      Console.error("stopped at a commit; the same command goes on from there:")
      Console.error(command: shellText(goingOn))
      Glibc.exit(130)
    } catch let error where isOurs(error) {
      Console.error("error: \(error)")
      Glibc.exit(1)
    } catch {
      leave(with: error)
    }
  }

  /// No word of a command line is meant to be empty.
  private static func checkWords(_ words: [String]) throws(ValidationError) {
    guard let place = words.dropFirst().firstIndex(of: "") else { return }
    throw ValidationError(
      "the word after `\(place == 1 ? "sluice" : words[place - 1])` is empty; "
        + "a variable of the shell may not be set")
  }

  /// Help and version go to stdout, usage errors to stderr.
  private static func leave(with error: any Error) -> Never {
    let code = exitCode(for: error)
    let isUsageError = code == .validationFailure
    let words = Array(CommandLine.arguments.dropFirst())
    if let problem = unknownWord(in: words, isUsageError: isUsageError) {
      let text = fullMessage(for: isUsageError ? error : ValidationError(""))
      Console.error("error: \(problem)")
      if let usage = text.firstRange(of: "Usage: ") {
        Console.error(lines: text[usage.lowerBound...])
      }
      Glibc.exit(ExitCode.validationFailure.rawValue)
    }
    let text = fullMessage(for: error)
    if code != .success {
      if !text.isEmpty { Console.error(lines: text) }
      Glibc.exit(code.rawValue)
    }
    if !text.isEmpty { Console.out(text) }
    do {
      try Console.finish()
    } catch {
      Console.error("error: \(error)")
      Glibc.exit(1)
    }
    Glibc.exit(0)
  }

  /// Whoever finds an error, it begins in one way.
  static let _errorPrefix = "error: "

  /// Usage errors, help and version belong to the argument parser.
  private static func isOurs(_ error: any Error) -> Bool {
    exitCode(for: error) == .failure && !(error is ExitCode)
  }
}
