// sluice verify: check an output folder.

import ArgumentParser
internal import Glibc
internal import JSON
internal import Pipeline

struct Verify: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check a quantized checkpoint, and measure it against its source.",
    discussion: """
      Every tensor is there with the right type and shape, scales are finite and positive, and \
      config.json agrees with the tensors. With --source: what is not quantized is identical to \
      the byte or explained by the recorded smoothing scales, and each Linear's error is measured. \
      Exit code 1 on any finding.

      EXAMPLES
        sluice verify GLM-4.6-W4A16
        sluice verify GLM-4.6-W4A16 --source GLM-4.6 --json
      """)

  @Argument(help: "The output folder of sluice quantize.", completion: .directory)
  var output: String

  @Option(
    help: ArgumentHelp(
      "The checkpoint it was made from: a folder, or ORG/NAME in the Hugging Face cache.",
      valueName: "model"),
    completion: .directory)
  var source: String?

  @Option(help: ArgumentHelp("Threads to compute with. Default: all cores.", valueName: "n"))
  var threads: Int?

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let report = try VerifyModel(
      output: trimmed(output), source: source.map(modelFolder), threads: threadCount(threads)
    ).run()
    Console.out(json ? Self.json(report).serialized(indent: 2) : Self.text(report))
    if !report.findings.isEmpty { throw ExitCode(1) }
  }

  private static func text(_ report: VerifyReport) -> String {
    var lines = ["\(report.tensors) tensors, \(report.quantizedLinears) quantized Linears"]
    if let identical = report.identicalTensors, let rescaled = report.rescaledTensors {
      lines.append(
        "\(identical) tensors identical to the source, \(rescaled) explained by smoothing scales")
    }
    if let worst = report.errors.first {
      let mean = report.errors.reduce(0) { $0 + $1.relative } / Double(report.errors.count)
      lines.append(
        "relative error of the Linears: mean \(rounded(mean)), worst \(rounded(worst.relative))")
      lines += report.errors.prefix(5).map { "  \(rounded($0.relative))  \($0.linear)" }
    }
    lines += report.findings.map { "FINDING  `\($0.subject)`: \($0.problem)" }
    lines.append(
      report.findings.isEmpty ? "no findings" : "\(report.findings.count) findings")
    return lines.joined(separator: "\n")
  }

  private static func json(_ report: VerifyReport) -> JSONValue {
    func count(_ value: Int?) -> JSONValue { value.map { .number(JSONNumber($0)) } ?? .null }
    return .object(
      JSONObject([
        ("tensors", count(report.tensors)), ("quantized_linears", count(report.quantizedLinears)),
        ("identical_tensors", count(report.identicalTensors)),
        ("rescaled_tensors", count(report.rescaledTensors)),
        (
          "findings",
          .array(
            report.findings.map {
              .object(
                JSONObject([("subject", .string($0.subject)), ("problem", .string($0.problem))]))
            })
        ),
        (
          "relative_errors",
          .object(JSONObject(report.errors.map { ($0.linear, jsonNumber($0.relative)) }))
        ),
      ]))
  }
}
