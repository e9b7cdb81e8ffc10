// sluice evaluate: how good is a checkpoint?

import ArgumentParser
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
      are usually measured. Several models share one pass over the data and the reference, and give a \
      table. Where a model is an output of sluice quantize, its report tells what was found.

      EXAMPLES
        sluice evaluate GLM-4.6-W4A16 \\
            --text texts.jsonl \\
            --reference GLM-4.6
        sluice evaluate GLM-4.6-W4A16 \\
            GLM-4.6-W8A16 \\
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
    help: ArgumentHelp(
      "Model folders, plain or quantized, or ORG/NAME in the Hugging Face cache.",
      valueName: "model"), completion: .directory)
  var models: [String]

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
      models: models.map(modelFolder), reference: reference.map(modelFolder),
      data: data.source(text),
      memory: machine.memoryBytes,
      threads: machine.threadCount,
      scratch: "\(scratch.map(trimmed) ?? temporaryFolder)/sluice-evaluate-\(getpid())")
    options.worst = worst
    options.acceptedKeys = keys.accepted
    try checkLimits(threads: options.threads)
    let measured = try MeasuredModels(options)
    json ? Console.out(measured.json.serialized(indent: 2)) : Console.show(measured.text)
  }
}
