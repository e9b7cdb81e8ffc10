// sluice evaluate: how good is a checkpoint?

import ArgumentParser
internal import Glibc
internal import JSON
internal import Pipeline
internal import SystemIO

struct Evaluate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure a checkpoint's likelihood, and its distance to a reference.",
    discussion: """
      Runs the checkpoint, plain or quantized, layer by layer over token sequences. With \
      --reference: the KL divergence of each next-token distribution from the reference's, which \
      tells more about a quantization than perplexity does. --pack joins texts and cuts them into \
      full sequences, as perplexities are usually measured.

      EXAMPLES
        sluice evaluate GLM-4.6-W4A16 --text texts.jsonl --reference GLM-4.6
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

  @OptionGroup var data: DataArguments

  @Option(
    help: ArgumentHelp(
      "Memory to work in, e.g. 8GiB. Default: half of what is free.", valueName: "size"))
  var memory: ByteSize?

  @Option(help: ArgumentHelp("Threads to compute with. Default: all cores.", valueName: "n"))
  var threads: Int?

  @Option(
    help: ArgumentHelp(
      "Folder for hidden states; removed at the end. Default: the system's temporary folder.",
      valueName: "folder"), completion: .directory)
  var scratch: String?

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    if data.sequenceLength < 2 { throw ValidationError("--sequence-length is at least 2") }
    if let threads, threads < 1 || threads > 1024 {
      throw ValidationError("--threads is 1 to 1024")
    }
  }

  func run() throws {
    let options = try EvaluateOptions(
      model: modelFolder(model), reference: reference.map(modelFolder), data: data.source(text),
      memory: memory?.bytes ?? ResidentMemory.available() / 2,
      threads: threadCount(threads),
      scratch: "\(scratch.map(trimmed) ?? temporaryFolder)/sluice-evaluate-\(getpid())")
    let isTerminal = Console.stderrIsTerminal
    let result = try EvaluateModel(options) { folder, done, layers in
      if isTerminal { Console.live("\(folder): layer \(done)/\(layers)") }
    }.run()
    Console.endLive()
    Console.out(json ? Self.json(result).serialized(indent: 2) : Self.text(result))
  }

  private static func text(_ result: Evaluation) -> String {
    var lines = [
      "\(grouped(result.tokens)) tokens",
      "NLL \(rounded(result.nll)), perplexity \(rounded(result.perplexity))",
    ]
    if let reference = result.referenceNLL, let divergence = result.divergence {
      lines[1] += " (reference: NLL \(rounded(reference)))"
      lines.append(
        "KL to the reference: mean \(rounded(divergence.mean)), median "
          + "\(rounded(divergence.median)), 99th percentile \(rounded(divergence.percentile99))")
      lines.append("same first choice: \(rounded(100 * divergence.agreement)) %")
    }
    return lines.joined(separator: "\n")
  }

  private static func json(_ result: Evaluation) -> JSONValue {
    var object = JSONObject([
      ("tokens", .number(JSONNumber(result.tokens))), ("nll", jsonNumber(result.nll)),
      ("perplexity", jsonNumber(result.perplexity)),
    ])
    if let reference = result.referenceNLL, let divergence = result.divergence {
      object["reference_nll"] = jsonNumber(reference)
      object["kl_mean"] = jsonNumber(divergence.mean)
      object["kl_median"] = jsonNumber(divergence.median)
      object["kl_p99"] = jsonNumber(divergence.percentile99)
      object["top1_agreement"] = jsonNumber(divergence.agreement)
    }
    return .object(object)
  }
}
