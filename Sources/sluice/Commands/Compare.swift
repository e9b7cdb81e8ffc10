// sluice compare: what two model folders have in common.

import ArgumentParser
internal import JSON
internal import Pipeline
internal import Planning
internal import SystemIO

struct Compare: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Tell where two model folders differ: configs, schemes, tensors, codes, sizes.",
    discussion: """
      Both may be plain or quantized, also by other tools. Of Linears with the same scheme it counts \
      the codes that differ; of other tensors the numbers. Exit code 1 where anything differs.

      EXAMPLES
        sluice compare GLM-4.6-W4A16 \\
            GLM-4.6-AWQ
        sluice compare GLM-4.6-W4A16 \\
            GLM-4.6-RTN --json
      """)

  @Argument(
    help: "A model folder, or ORG/NAME in the Hugging Face cache.", completion: .directory)
  var first: String

  @Argument(help: "The folder to hold it against.", completion: .directory)
  var second: String

  @OptionGroup var keys: ConfigKeyArguments

  @Option(
    help: ArgumentHelp("Threads to read with. Default: all cores it may use.", valueName: "n"))
  var threads: Int?

  @OptionGroup var log: LogArguments

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    if let threads, threads < 1 || threads > 1024 {
      throw ValidationError("--threads is 1 to 1024")
    }
  }

  func run() throws {
    log.begin()
    let threads = threads ?? MachineShare().processors
    try checkLimits(threads: threads)
    var line = LiveLine()
    let folders = try [first, second].map(modelFolder)
    let result = try CompareModels(
      folders[0], folders[1], accepting: keys.accepted, threads: threads
    ) { share, secondsLeft in
      line.show(
        ProgressMoment(
          share: share, secondsLeft: secondsLeft, step: "tensors",
          residentBytes: ResidentMemory.current().residentBytes))
    }.run()
    Console.endLive()
    json ? Console.out(result.json.serialized(indent: 2)) : Console.show(result.text)
    if !result.isSame { throw ExitCode(1) }
  }
}

extension Comparison {
  /// Lines of one kind that are shown as text; JSON holds all.
  private static let shown = 10

  var text: String {
    var lines = ["sizes: \(bytesText(firstBytes)) and \(bytesText(secondBytes))"]
    lines += config.map {
      "config.json: `\($0.subject)` is \(short($0.first)) and \(short($0.second))"
    }
    lines += schemeLines
    if let cache { lines.append("\(cache.subject): \(cache.first) and \(cache.second)") }
    lines += oneSided(ignore, "`ignore`", "module")
    lines += oneSided(tensors, "tensors", "tensor")
    lines += list(shapes.map { "`\($0.subject)` is \($0.first) and \($0.second)" }, "shapes")
    lines += codeLines
    if !others.isEmpty {
      lines.append(
        "other tensors: \(counted(others.count, "tensor")) of \(grouped(comparedOthers)) with other numbers"
      )
      lines += table(others, "tensor", "numbers")
    }
    lines += oneSided(files, "files", "file")
    if !changedFiles.isEmpty { lines.append("files: not the same: \(names(changedFiles))") }
    lines.append(isSame ? "the same" : "they differ")
    return lines.map { TerminalText.line($0) }.joined(separator: "\n")
  }

  /// Linears by what they are on both sides, not one by one.
  private var schemeLines: [String] {
    var kinds: [(pair: [String], modules: [String])] = []
    for scheme in schemes {
      let pair = [scheme.first, scheme.second]
      if let place = kinds.firstIndex(where: { $0.pair == pair }) {
        kinds[place].modules.append(scheme.subject)
      } else {
        kinds.append((pair, [scheme.subject]))
      }
    }
    return kinds.map { pair, modules in
      "schemes: \(pair[0]) and \(pair[1]): \(counted(modules.count, "Linear")), the first `\(modules[0])`"
    }
  }

  private var codeLines: [String] {
    if codes.isEmpty { return [] }
    let (all, differing) = codes.reduce(into: (0, 0)) {
      $0.0 += $1.count
      $0.1 += $1.differing
    }
    if differing == 0 {
      return ["codes: the same in \(counted(codes.count, "Linear")), \(grouped(all)) codes"]
    }
    let share = rounded(100 * Double(differing) / Double(all))
    return [
      "codes: \(share) % of \(grouped(all)) differ, in \(grouped(differingCodes.count)) of "
        + "\(counted(codes.count, "Linear"))"
    ] + table(differingCodes, "module", "codes")
  }

  private func table(_ rows: [NumberDifference], _ name: String, _ what: String) -> [String] {
    let shown = rows.prefix(Self.shown).map { each in
      "  " + row([rounded(100 * each.share) + " %", grouped(each.count), each.name])
    }
    let rest = rows.count - shown.count
    return ["  " + row(["differ", what, name])] + shown
      + (rest > 0 ? ["  … and \(rest) more; --json has all"] : [])
  }

  private func oneSided(_ names: OneSided, _ what: String, _ noun: String) -> [String] {
    [(names.first, "first"), (names.second, "second")].compactMap { found, side in
      found.isEmpty
        ? nil : "\(what): \(counted(found.count, noun)) in the \(side) alone: \(self.names(found))"
    }
  }

  private func list(_ lines: [String], _ what: String) -> [String] {
    lines.prefix(Self.shown).map { "\(what): \($0)" }
      + (lines.count > Self.shown ? ["\(what): and \(lines.count - Self.shown) more"] : [])
  }

  private func names(_ names: [String]) -> String {
    names.prefix(3).map { "`\($0)`" }.joined(separator: ", ")
      + (names.count > 3 ? " and \(names.count - 3) more" : "")
  }

  private func short(_ text: String) -> String {
    text.count > 60 ? text.prefix(59) + "…" : text
  }

  // MARK: JSON

  var json: JSONValue {
    func list(_ differences: [Difference]) -> JSONValue {
      .array(
        differences.map {
          [
            "subject": .string($0.subject), "first": .string($0.first),
            "second": .string($0.second),
          ]
        })
    }
    func list(_ differences: [NumberDifference]) -> JSONValue {
      .array(
        differences.map {
          [
            "name": .string($0.name), "count": .int($0.count), "differing": .int($0.differing),
          ]
        })
    }
    func sides(_ names: OneSided) -> JSONValue {
      [
        "first": .array(names.first.map { .string($0) }),
        "second": .array(names.second.map { .string($0) }),
      ]
    }
    return [
      "same": .bool(isSame), "bytes": .array([.int(firstBytes), .int(secondBytes)]),
      "config": list(config), "schemes": list(schemes),
      "kv_cache": list(cache.map { [$0] } ?? []), "ignore": sides(ignore),
      "tensors": sides(tensors), "shapes": list(shapes), "codes": list(codes),
      "other_tensors": list(others), "files": sides(files),
      "changed_files": .array(changedFiles.map { .string($0) }),
    ]
  }
}
