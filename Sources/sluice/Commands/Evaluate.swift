// sluice evaluate: how good is a checkpoint?

import ArgumentParser
internal import Dispatch
internal import Glibc
internal import JSON
internal import Pipeline
internal import Planning
internal import SystemIO

struct Evaluate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure a checkpoint's likelihood, and its distance to a reference.",
    discussion: """
      Runs the checkpoint, plain or quantized, layer by layer over token sequences, in float32 and \
      within the memory you name. Activations are quantized where the scheme says so, as an \
      inference engine does; the reference computes with its weights alone. With --reference: the KL divergence of each next-token \
      distribution from the reference's, which tells more about a quantization than perplexity \
      does, over all positions and by how many tokens a position has seen, and the positions where \
      the two differ most. --pack joins texts and cuts them into full sequences, as perplexities \
      are usually measured.

      EXAMPLES
        sluice evaluate GLM-4.6-W4A16 \\
            --text texts.jsonl \\
            --reference GLM-4.6
        sluice evaluate GLM-4.6 \\
            --text texts.jsonl --pack \\
            --sequence-length 512
        sluice evaluate GLM-4.6-W4A16 \\
            --text texts.jsonl --json \\
            --reference GLM-4.6 --worst 50
      """)

  @Argument(
    help: "A model folder, plain or quantized, or ORG/NAME in the Hugging Face cache.",
    completion: .directory)
  var model: String

  @Option(
    help: ArgumentHelp(
      "Data as for --calibration of sluice quantize: text, chats or token ids.", valueName: "data"),
    completion: .file())
  var text: String

  @Option(
    help: ArgumentHelp("The checkpoint to compare with.", valueName: "model"),
    completion: .directory)
  var reference: String?

  @OptionGroup var keys: ConfigKeyArguments

  @OptionGroup var data: DataArguments

  @OptionGroup var machine: MachineArguments

  @Option(
    help: ArgumentHelp(
      "Positions to show in context: the farthest from the reference, or the least likely without.",
      valueName: "n"))
  var worst = 10

  @Option(
    help: ArgumentHelp(
      "Folder for hidden states; removed at the end. Default: the system's temporary folder.",
      valueName: "folder"), completion: .directory)
  var scratch: String?

  @OptionGroup var log: LogArguments

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    if data.sequenceLength < 2 { throw ValidationError("--sequence-length is at least 2") }
    if worst < 0 || worst > 10_000 { throw ValidationError("--worst is 0 to 10000") }
  }

  func run() throws {
    log.begin()
    var options = try EvaluateOptions(
      model: modelFolder(model), reference: reference.map(modelFolder), data: data.source(text),
      memory: machine.memoryBytes,
      threads: machine.threadCount,
      scratch: "\(scratch.map(trimmed) ?? temporaryFolder)/sluice-evaluate-\(getpid())")
    options.worst = worst
    options.acceptedKeys = keys.accepted
    try checkLimits(threads: options.threads)
    let cleanup = ScratchCleanup(options.scratch)
    defer { cleanup.stop() }
    let progress = EvaluationLine(memory: options.memory, threads: options.threads)
    let result: Evaluation
    do {
      result = try EvaluateModel(
        options, residentPeak: { ResidentMemory.current().peakBytes }, report: progress.show
      ).run()
    } catch {
      cleanup.waitWhereStopped()
      throw error
    }
    Console.endLive()
    json ? Console.out(result.json.serialized(indent: 2)) : Console.show(result.text)
  }
}

/// Takes the hidden states away when the process is told to end.
private final class ScratchCleanup {
  private let signals: StopSignals
  private let isStopping: Interruption

  init(_ folder: String) {
    let isStopping = Interruption()
    self.isStopping = isStopping
    // A queue of its own, as all others may be at work.
    signals = StopSignals(on: DispatchQueue(label: "signals")) { _ in
      isStopping.request()
      // A file, or the folder itself, may be made in between.
      while (try? FileSystem.remove(folder)) == nil {}
      usleep(50_000)
      while (try? FileSystem.remove(folder)) == nil {}
      Console.news("stopped")
      Glibc.exit(130)
    }
  }

  func stop() { signals.stop() }

  /// Waits for the end of a process that was told to end: the evaluation then fails only because its files went away.
  func waitWhereStopped() {
    while isStopping.isRequested { sleep(1) }
  }
}
