// sluice report: the report of a run once more, or how far one is that was stopped.

import ArgumentParser
internal import JSON
internal import Pipeline
internal import Reporting
internal import SystemIO

struct MakeReport: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Make the report of a run again, from its records; also of one that was stopped.",
    discussion: """
      Every finished run leaves OUT/.sluice/report.html, one page for a browser, and the same \
      numbers in report.json. This command writes both again and prints where the page is. Of a \
      run that was stopped it tells what was committed.

      EXAMPLES
        sluice report GLM-4.6-W4A16
        sluice report GLM-4.6-W4A16 \\
            --output report.html
        sluice report GLM-4.6-W4A16 --json
      """)

  @Argument(help: "The output folder of sluice quantize.", completion: .directory)
  var folder: String

  @Option(
    name: [.short, .long],
    help: ArgumentHelp("Write the page there, and nothing else.", valueName: "file"),
    completion: .file(extensions: ["html"]))
  var output: String?

  @Flag(help: "Print JSON; with --output, write it there.")
  var json = false

  func run() throws {
    let folder = trimmed(folder)
    if let output {
      try RunReport.check(output, output: folder)
      let report = try RunReport(output: folder).report
      let text = json ? report.json.serialized(indent: 2) + "\n" : report.html
      try replaceFile(output, with: Array(text.utf8))
    } else if json {
      Console.out(try RunReport(output: folder).report.json.serialized(indent: 2))
    } else {
      Console.out(try RunReport.remake(output: folder).page)
    }
  }
}
