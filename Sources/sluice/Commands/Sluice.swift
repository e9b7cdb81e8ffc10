// The command, its version and its subcommands.

import ArgumentParser
internal import CompressedTensors
internal import Glibc
internal import LinearAlgebra
internal import Models
internal import Pipeline
internal import Ranks
internal import Release
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
      Quantize.self, Requantize.self, Plan.self, Status.self, MakeReport.self, Inspect.self,
      Verify.self,
      Evaluate.self, Compare.self,
    ])

  static var version: String {
    """
    sluice \(Version.text)
    engine    \(Engine.best.name), \(CPU.instructionSet)
    built in  \(Architectures.all.count) classes of models, \(CompressionFormats.presets.count) presets\
    \(Launcher.isBuiltIn ? ", MPI" : "")
    """
  }

  /// One place where errors become a line on stderr and an exit code.
  static func main() {
    ResidentMemory.returnLargeBuffersAtOnce()
    do {
      try ProcessLimits.prepare()
      let words = Words(Array(CommandLine.arguments.dropFirst()))
      try words.checkEmpty()
      try words.checkHelp()
      try Launcher.check(words.all)
      var command = try parseAsRoot(words.all)
      try command.run()
      try Console.finish()
    } catch is Interrupted {
      Console.stopped(goingOn)
      Glibc.exit(130)
    } catch let problem as WordProblem {
      leave(with: problem)
    } catch let error where isOurs(error) {
      Console.failure("\(error)")
      Glibc.exit(1)
    } catch {
      leave(with: error)
    }
  }

  private static func leave(with problem: WordProblem) -> Never {
    Console.error(lines: problem.lines)
    Glibc.exit(ExitCode.validationFailure.rawValue)
  }

  /// Help and version go to stdout, usage errors to stderr.
  private static func leave(with error: any Error) -> Never {
    let code = exitCode(for: error)
    let isUsageError = code == .validationFailure
    let words = Words(Array(CommandLine.arguments.dropFirst()))
    if let problem = words.problem(isUsageError: isUsageError) { leave(with: problem) }
    let text = isUsageError ? explained(fullMessage(for: error)) : fullMessage(for: error)
    if code != .success {
      if Console.form == .json, !text.isEmpty {
        // Found while the command works, so that whoever reads events waits for one.
        Console.failure(message(for: error))
      } else if !text.isEmpty {
        Console.error(lines: text)
      }
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

  /// Every error begins in one way, whoever finds it.
  static let _errorPrefix = "error: "

  /// Usage errors, help and version belong to the argument parser.
  private static func isOurs(_ error: any Error) -> Bool {
    exitCode(for: error) == .failure && !(error is ExitCode)
  }
}
