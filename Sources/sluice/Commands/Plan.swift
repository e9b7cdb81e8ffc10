// sluice plan: what a run will need, before it runs.

import ArgumentParser
internal import CompressedTensors
internal import Glibc
internal import JSON
internal import LinearAlgebra
internal import Models
internal import Pipeline
internal import Planning
internal import Reporting
internal import SystemIO

struct Plan: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what a run will need: memory by step, disk, arithmetic, time. Runs nothing.",
    discussion: """
      Takes the flags of sluice quantize and computes the plan that it would follow, from shapes \
      alone. The time rests on a few seconds of measurement on this machine, on numbers made for \
      it; nothing is left on disk. With --save-tokens it writes that file. Exit code 1 where memory \
      or disk space will not do. With more --threads than there are cores it is the plan of a larger \
      machine, whose cores are as fast.

      Works before the weights are downloaded, too, with config.json alone, and better with the \
      index and the tokenizer beside it: then everything but the time is told.

      EXAMPLES
        sluice plan GLM-4.6 --memory 8GiB \\
            --calibration chats.parquet
        sluice plan GLM-4.6 --within 24h
        sluice plan GLM-4.6 --hosts 16
        sluice plan GLM-4.6 --threads 32
        sluice plan GLM-4.6 \\
            --target-size 200GB
        sluice plan GLM-4.6 \\
            --output /data/GLM-4.6-W4A16 \\
            --scratch /fast/disk
      """)

  @OptionGroup var arguments: QuantizeArguments

  @Option(
    name: [.short, .long],
    help: ArgumentHelp(
      "Where the result would go: its disk is looked at, nothing is made.", valueName: "folder"),
    completion: .directory)
  var output: String?

  @Option(
    help: ArgumentHelp(
      """
      Propose settings that take no longer: 90m, 12h, 2d. Where none does, exit code 1. Runs of more \
      than twelve hours get proposals without it.
      """, valueName: "time"), transform: TimeSpan.init)
  var within: TimeSpan?

  @Option(
    help: ArgumentHelp(
      """
      Estimate the time with up to this many hosts like this one, and say from how many on more of them hardly help.
      """, valueName: "n"))
  var hosts: Int?

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    if let hosts, hosts < 1 || hosts > 4096 { throw ValidationError("--hosts is 1 to 4096") }
  }

  func run() throws {
    let started = ContinuousClock.now
    let options = try arguments.options(output: output ?? "", isWhole: false)
    if output != nil { try OutputFolder.check(options.output, isOutside: options.model) }
    let peak = { ResidentMemory.current().peakBytes }
    // A plan of a large model takes seconds.
    LiveLine.say("planning: reading names and shapes")
    defer { Console.endLive() }
    let sized =
      try options.size == nil
      ? nil : SizedRun(options, isWhole: false, residentPeak: peak)
    let plan = try sized?.writing ?? QuantizePlan(ofWhatIsHere: options, residentPeak: peak)
    let loading = seconds(ContinuousClock.now - started)
    if let (news, warnings) = plan.data.map({ dataLines($0) }) {
      for line in news { Console.news(line) }
      for line in warnings { Console.warning(line) }
    }
    var said: Set<String> = []
    for warning in (sized?.measuring.warnings ?? []) + plan.warnings
    where said.insert("\(warning)").inserted {
      Console.error("warning: \(warning)")
    }
    arguments.warnOfUnused(plan)
    try checkLimits(threads: options.threads)
    LiveLine.say("planning: timing what this machine can do")
    let runs = try timed(sized?.passes ?? [plan], writing: plan, loading: loading)
    let proposals = try Proposals(runs, within: within?.seconds)
    let shared = try hosts.map {
      try HostsEstimate(sized?.passes ?? [plan], hosts: $0, runs, loading: loading)
    }
    Console.endLive()
    if json {
      var object = Self.json(plan, sized, runs, proposals)
      if let shared { object["hosts"] = Self.json(shared) }
      Console.out(JSONValue.object(object).serialized(indent: 2))
    } else {
      let lines =
        Self.lines(plan, runs.times[runs.times.count - 1])
        + (sized.map { Self.lines($0, runs) } ?? [])
      Console.show((lines + proposals.lines).joined(separator: "\n"))
      // Whole, however long it is.
      if let command = proposals.command { Console.out("          " + shellText(command)) }
      if let shared { Console.show(Self.lines(shared).joined(separator: "\n")) }
    }
    if output != nil { try OutputFolder.checkSpace(plan) }
    try proposals.check()
  }

  private func timed(
    _ passes: [QuantizePlan], writing plan: QuantizePlan, loading: Double
  ) throws -> ShorterRuns {
    do {
      return try ShorterRuns(
        passes, loading: loading,
        folder: FileSystem.existing(plan.options.scratch ?? output ?? temporaryFolder))
    } catch let error as SystemError where error.code == ENOSPC && output != nil {
      // A disk without room to be timed has none for the run: what that needs tells more.
      try OutputFolder.checkSpace(plan)
      throw error
    }
  }

  /// A plan for a machine with more cores.
  private static func lackingCores(_ threads: Int) -> String {
    let cores = MachineShare().processors
    if threads <= cores { return "" }
    return ", with \(threads) threads on cores as fast as the \(cores) that are here"
  }

  private static func lines(_ plan: QuantizePlan, _ time: TimeEstimate) -> [String] {
    let run = plan.run
    // Rounding to nearest alone multiplies nothing, and keeps no states.
    let computes = run.operations > 0
    var lines = [
      "\(plan.spec.architecture), \(plan.layers.words), "
        + (computes
          ? counted(run.tokens, "calibration token") + " through "
            + counted(run.calibratedLayers, "layer") : "no calibration")
    ]
    lines += plan.coverage.lines
    lines += [
      "",
      padded("step", to: 10) + padded("peak memory", to: 14)
        + (computes ? padded("TFLOP", to: 10) : "")
        + padded("time", to: 14) + "most of the memory",
    ]
    for step in run.steps {
      let largest = step.consumers.prefix(2).map { "\($0.name) \(bytesText($0.bytes))" }
      lines.append(
        padded(step.step.rawValue, to: 10) + padded(bytesText(step.bytes), to: 14)
          + (computes
            ? padded(step.operations > 0 ? rounded(step.operations / 1e12) : "–", to: 10) : "")
          + padded(durationText(time.seconds[step.step] ?? 0), to: 14)
          + largest.joined(separator: ", "))
    }
    let groups = (run.largestUnitCount + run.unitsPerGroup - 1) / run.unitsPerGroup
    lines += [
      "",
      "memory    \(bytesText(run.peakBytes)) of \(bytesText(run.budget)); the smallest that works is "
        + bytesText(run.smallestBudget),
      "source    \(bytesText(run.sourceBytes)), \(bytesText(run.sourceReadBytes)) read in all passes",
      "output    \(bytesText(run.outputBytes))",
      "scratch   \(bytesText(run.scratchBytes))",
    ]
    if let kept = plan.keptSummary { lines.append("kept      \(kept.words)") }
    lines += [
      "passes    a layer: "
        + (computes
          ? "\(groups) over its states (\(counted(run.unitsPerGroup, "expert")) at a time"
            + (run.holdsExperts
              ? ", their weights mapped once" : ", their weights mapped for each block")
            + "), \(run.weightPasses) over its weights at the end "
            + "(\(counted(run.blocksPerPass, "token block")) at a time)"
          : "1 over its weights"),
      "time      \(durationText(time.total))"
        + (computes
          ? ", \(rounded(time.rate / 1e9)) GFLOP/s in the experts with \(run.engine.name)" : "")
        + Self.lackingCores(plan.options.threads)
        + (plan.opened == nil ? "; reading the weights, which are not here, is not counted" : ""),
    ]
    if let others = run.otherTokens {
      lines.append(
        "experts   see \(grouped(others)) tokens beside their own of \(grouped(run.tokens)): "
          + "\(rounded(run.operations / 1e12)) TFLOP instead of "
          + "\(rounded(run.operationsOfAllTokens / 1e12))"
          + ", \(durationText(time.total)) instead of \(durationText(time.total + time.secondsSaved))"
      )
    }
    return lines
  }

  /// What comes before the pass that writes, or what came of it.
  private static func lines(_ sized: SizedRun, _ runs: ShorterRuns) -> [String] {
    guard let sizing = sized.measuring.sizing, let chosen = sized.writing.options.chosen else {
      return []
    }
    var lines = [
      "size      \(bytesText(sizing.limit)) allowed, \(bytesText(sizing.smallestBytes)) to "
        + "\(bytesText(sizing.largestBytes)) possible; \(counted(sizing.groupCount, "group")) choose among "
        + sizing.wish.options.map(\.name).joined(separator: ", ")
    ]
    if sized.isMeasured {
      return lines + [
        "choice    \(chosen.record.words); predicted loss \(rounded(chosen.record.loss)), from the measurements in the "
          + "output folder"
      ]
    }
    let run = sized.measuring.run
    lines += [
      "choice    after a pass that measures, \(durationText(runs.times[0].total)) before all of this: peak memory "
        + "\(bytesText(run.peakBytes)), the smallest that works \(bytesText(run.smallestBudget)), scratch "
        + "\(bytesText(run.scratchBytes)); planned above: \(chosen.record.words)",
      "both      \(durationText(runs.time.total))",
    ]
    return lines
  }

  private static func lines(_ shared: HostsEstimate) -> [String] {
    let one = shared.points[0].seconds
    let lines = shared.points.map { point in
      let gain =
        point.hosts == 1 ? "" : rounded(one / max(point.seconds, 1e-9)) + " times as fast"
      return "          " + padded("\(point.hosts)", to: 8)
        + padded(durationText(point.seconds), to: 14) + padded(gain, to: 24)
        + bytesText(Int(saturating: point.fileBytes))
    }
    let enough =
      shared.enough < (shared.points.last?.hosts ?? 1)
      ? ["          more than \(shared.enough) save less than a fifth for twice as many"] : []
    return [
      "hosts     " + padded("number", to: 8) + padded("time", to: 38) + "over their file system"
    ]
      + lines + enough
  }

  private static func json(_ shared: HostsEstimate) -> JSONValue {
    [
      "enough": .int(shared.enough),
      "points": .array(
        shared.points.map {
          [
            "hosts": .int($0.hosts), "seconds": .double($0.seconds), "window": .int($0.window),
            "file_bytes": .double($0.fileBytes),
          ]
        }),
    ]
  }

  private static func json(_ left: Coverage.Left) -> JSONValue {
    ["what": .string(left.what), "why": .text(left.why)]
  }

  private static func json(
    _ plan: QuantizePlan, _ sized: SizedRun?, _ runs: ShorterRuns, _ proposals: Proposals
  ) -> JSONObject {
    let (run, time) = (plan.run, runs.times[runs.times.count - 1])
    let steps = run.steps.map { step -> JSONValue in
      [
        "step": .string(step.step.rawValue),
        "peak_bytes": .int(step.bytes),
        "operations": .double(step.operations),
        "f32_operations": .double(run.engine == .f32 ? step.operations : step.exactOperations),
        "seconds": .double(time.seconds[step.step] ?? 0),
        "consumers": .array(
          step.consumers.map {
            ["name": .string($0.name), "bytes": .int($0.bytes)]
          }),
      ]
    }
    var object = JSONObject([
      ("quantized", .string(plan.coverage.quantized)),
      ("quantized_linears", .int(plan.coverage.linears)),
      ("left", .array(plan.coverage.left.map(Self.json))),
      ("budget_bytes", .int(run.budget)), ("peak_bytes", .int(run.peakBytes)),
      ("smallest_budget_bytes", .int(run.smallestBudget)), ("source_bytes", .int(run.sourceBytes)),
      ("source_read_bytes", .int(run.sourceReadBytes)),
      ("output_bytes", .int(run.outputBytes)), ("scratch_bytes", .int(run.scratchBytes)),
      ("kept_bytes", .int(plan.keptSummary?.bytes)),
      ("kept_new_bytes", .int(plan.keptSummary?.addedBytes)),
      ("engine", .string(run.engine.rawValue)), ("calibration_tokens", .int(run.tokens)),
      ("calibrated_layers", .int(run.calibratedLayers)),
      ("experts_per_group", .int(run.unitsPerGroup)), ("holds_experts", .bool(run.holdsExperts)),
      ("holds_attention", .bool(run.holdsAttention)),
      ("blocks_per_pass", .int(run.blocksPerPass)), ("weight_passes", .int(run.weightPasses)),
      ("operations", .double(run.operations)),
      ("measured_rate", .double(time.rate)),
      ("seconds", .double(time.total)),
      ("expert_tokens", .int(run.otherTokens)),
      ("operations_of_all_tokens", .double(run.operationsOfAllTokens)),
      ("seconds_of_all_tokens", .double(time.total + time.secondsSaved)),
      ("steps", .array(steps)),
    ])
    if let sized, let record = plan.options.chosen?.record {
      let measuring = sized.measuring.run
      object["size"] = [
        "is_measured": .bool(sized.isMeasured), "choice": record.json,
        "measuring_seconds": .double(sized.isMeasured ? 0 : runs.times[0].total),
        "measuring_peak_bytes": .int(measuring.peakBytes),
        "measuring_smallest_budget_bytes": .int(measuring.smallestBudget),
        "measuring_scratch_bytes": .int(measuring.scratchBytes),
      ]
    }
    for (key, value) in proposals.json.entries { object[key] = value }
    return object
  }
}
