// sluice plan: what a run will need, before it runs.

import ArgumentParser
internal import CompressedTensors
internal import JSON
internal import LinearAlgebra
internal import Models
internal import Pipeline
internal import Planning
internal import SystemIO

struct Plan: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what a run will need: memory by step, disk, arithmetic, time. Runs nothing.",
    discussion: """
      Takes the flags of sluice quantize and computes the plan that it would follow, from shapes \
      alone. The time rests on a short measurement of this machine.

      EXAMPLES
        sluice plan GLM-4.6 --calibration chats.parquet --memory 8GiB
      """)

  @OptionGroup var arguments: QuantizeArguments

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let options = try arguments.options(output: "")
    let plan = try QuantizePlan(options) { ResidentMemory.current().peakBytes }
    let rate = Gemm.measuredRate(workers: Workers(threads: options.threads))
    let seconds = plan.run.operations / rate
    for line in plan.data.map(dataLines) ?? [] { Console.error(line) }
    for warning in plan.warnings { Console.error("warning: \(warning)") }
    Console.out(
      json
        ? Self.json(plan.run, rate: rate, seconds: seconds).serialized(indent: 2)
        : Self.text(plan, rate: rate, seconds: seconds))
  }

  private static func text(_ plan: QuantizePlan, rate: Double, seconds: Double) -> String {
    let run = plan.run
    let name = { (text: String, width: Int) in
      text + String(repeating: " ", count: max(1, width - text.count))
    }
    var lines = [
      "\(plan.checkpoint.spec.architecture), \(plan.checkpoint.spec.layers.count) layers, "
        + "\(grouped(run.tokens)) calibration tokens through \(run.calibratedLayers) layers",
      "",
      name("step", 10) + name("peak memory", 14) + name("TFLOP", 10) + "most of it",
    ]
    for step in run.steps {
      let largest = step.consumers.prefix(2).map { "\($0.name) \(bytesText($0.bytes))" }
      lines.append(
        name(step.step.rawValue, 10) + name(bytesText(step.bytes), 14)
          + name(rounded(step.operations / 1e12), 10) + bytesText(step.bufferBytes) + " "
          + largest.joined(separator: ", "))
    }
    lines += [
      "",
      "memory    \(bytesText(run.peakBytes)) of \(bytesText(run.budget)); the smallest that works is "
        + bytesText(run.smallestBudget),
      "source    \(bytesText(run.sourceBytes))",
      "output    \(bytesText(run.outputBytes))",
      "scratch   \(bytesText(run.scratchBytes)) at most",
      "passes    \(run.unitsPerGroup) experts at a time\(run.holdsExperts ? ", mapped once" : ""), "
        + "\(run.blocksPerPass) token blocks at a time",
      "reads     \(bytesText(run.sourceReadBytes)) of the source",
      "time      about \(durationText(seconds)) of matrix products at "
        + "\(rounded(rate / 1e9)) GFLOP/s, measured here",
    ]
    return lines.joined(separator: "\n")
  }

  private static func json(_ run: RunPlan, rate: Double, seconds: Double) -> JSONValue {
    func int(_ value: Int) -> JSONValue { .number(JSONNumber(value)) }
    let steps = run.steps.map { step -> JSONValue in
      .object(
        JSONObject([
          ("step", .string(step.step.rawValue)), ("peak_bytes", int(step.bytes)),
          ("operations", jsonNumber(step.operations)),
          (
            "consumers",
            .object(JSONObject(step.consumers.map { ($0.name, int($0.bytes)) }))
          ),
        ]))
    }
    return .object(
      JSONObject([
        ("budget_bytes", int(run.budget)), ("peak_bytes", int(run.peakBytes)),
        ("smallest_budget_bytes", int(run.smallestBudget)), ("source_bytes", int(run.sourceBytes)),
        ("output_bytes", int(run.outputBytes)), ("scratch_bytes", int(run.scratchBytes)),
        ("calibration_tokens", int(run.tokens)), ("calibrated_layers", int(run.calibratedLayers)),
        ("experts_per_group", int(run.unitsPerGroup)), ("blocks_per_pass", int(run.blocksPerPass)),
        ("operations", jsonNumber(run.operations)), ("measured_rate", jsonNumber(rate)),
        ("seconds", jsonNumber(seconds)), ("steps", .array(steps)),
      ]))
  }
}
