// sluice verify: check an output folder.

import ArgumentParser
internal import Glibc
internal import JSON
internal import Pipeline
internal import Planning
internal import SystemIO

struct Verify: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check a quantized checkpoint, and measure it against its source.",
    discussion: """
      Every tensor is there with the right type and shape and nothing else is, scales are finite \
      and positive, config.json and index agree with the tensors, Linears that vLLM loads as one \
      share a scheme, and every byte is as it was written, by the checksums that a run leaves in \
      .sluice. With --source: what is not quantized is identical to the byte, or the source's FP8 \
      as bfloat16, or explained by the recorded smoothing scales, and each Linear's error is measured. Exit code 1 on any finding. \
      Notes say where tensor parallelism of 2, 4 or 8 would cut a group.

      EXAMPLES
        sluice verify GLM-4.6-W4A16
        sluice verify GLM-4.6-W4A16 --json \\
            --source GLM-4.6 --memory 4GiB
      """)

  @Argument(help: "The output folder of sluice quantize.", completion: .directory)
  var output: String

  @Option(
    help: ArgumentHelp(
      "The checkpoint it was made from: a folder, or ORG/NAME in the Hugging Face cache.",
      valueName: "model"),
    completion: .directory)
  var source: String?

  @OptionGroup var keys: ConfigKeyArguments

  @OptionGroup var machine: MachineArguments

  @OptionGroup var log: LogArguments

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    log.begin()
    try checkLimits(threads: machine.threadCount)
    var line = LiveLine()
    let report = try VerifyModel(
      output: trimmed(output), source: source.map(modelFolder), accepting: keys.accepted,
      threads: machine.threadCount, memory: machine.memoryBytes,
      residentPeak: { ResidentMemory.current().peakBytes }
    ) { progress in
      line.show(
        ProgressMoment(
          share: progress.share, secondsLeft: progress.secondsLeft, step: progress.part.text,
          residentBytes: ResidentMemory.current().residentBytes))
    }.run()
    Console.endLive()
    json ? Console.out(Self.json(report).serialized(indent: 2)) : Console.show(Self.text(report))
    if !report.findings.isEmpty { throw ExitCode(1) }
  }

  /// Findings that are shown as text; JSON holds all.
  private static let shownFindings = 200
  private static let shownErrors = 10

  private static func text(_ report: VerifyReport) -> String {
    var lines = [
      "\(counted(report.tensors, "tensor")), \(counted(report.quantizedLinears, "quantized Linear"))"
    ]
    if let checked = report.checkedTensors {
      lines.append("\(counted(checked, "tensor")) held against the checksums of the run")
    }
    if let identical = report.identicalTensors, let rescaled = report.rescaledTensors {
      let decoded = report.decodedTensors ?? 0
      lines.append(
        "\(counted(identical, "tensor")) identical to the source, \(rescaled) explained by smoothing scales"
          + (decoded > 0 ? ", \(decoded) its FP8 as bf16" : ""))
    }
    if let worst = report.errors.first {
      let mean = report.errors.reduce(0) { $0 + $1.relative } / Double(report.errors.count)
      lines.append(
        "relative error of the Linears: mean \(rounded(mean)), worst \(rounded(worst.relative))")
      lines += report.errors.prefix(shownErrors).map {
        "  \(rounded($0.relative))  \(TerminalText.line($0.linear)), worst group \(rounded($0.worstGroup))"
      }
    }
    if !report.fittingDegrees.isEmpty {
      let sizes = report.fittingDegrees.map(String.init).joined(separator: ", ")
      lines.append("fits --tensor-parallel-size \(sizes) of vllm serve")
    }
    lines += report.notes.map { TerminalText.line("note: `\($0.subject)`: \($0.problem)") }
    lines += report.findings.prefix(shownFindings).map {
      TerminalText.line("FINDING  `\($0.subject)`: \($0.problem)")
    }
    if report.findings.count > shownFindings {
      lines.append("… and \(report.findings.count - shownFindings) more; --json has them all")
    }
    lines.append(
      report.findings.isEmpty
        ? "no findings" : counted(report.findings.count, "finding"))
    return lines.joined(separator: "\n")
  }

  private static func json(_ report: VerifyReport) -> JSONValue {
    func list(_ findings: [Finding]) -> JSONValue {
      .array(
        findings.map {
          ["subject": .string($0.subject), "problem": .string($0.problem)]
        })
    }
    func errors(_ value: KeyPath<LinearError, Double>) -> JSONValue {
      .object(JSONObject(report.errors.map { ($0.linear, .double($0[keyPath: value])) }))
    }
    return [
      "tensors": .int(report.tensors),
      "quantized_linears": .int(report.quantizedLinears),
      "checked_tensors": .int(report.checkedTensors),
      "identical_tensors": .int(report.identicalTensors),
      "rescaled_tensors": .int(report.rescaledTensors),
      "decoded_tensors": .int(report.decodedTensors),
      "findings": list(report.findings),
      "notes": list(report.notes),
      "tensor_parallel_sizes": .array(report.fittingDegrees.map { .int($0) }),
      "relative_errors": errors(\.relative),
      "worst_group_errors": errors(\.worstGroup),
    ]
  }
}

extension VerifyStep {
  fileprivate var text: String {
    switch self {
    case .load: "opening"
    case .checksums: "bytes against their checksums"
    case .numbers: "numbers"
    case .source: "weights against the source"
    }
  }
}
