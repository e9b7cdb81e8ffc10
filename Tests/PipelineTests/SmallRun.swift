// A run small enough to do many times: a tiny checkpoint of two layers with four experts, or the fixture model.

import Calibration
import CompressedTensors
import Pipeline
import Quantization
import SystemIO
import TestSupport

enum SmallRun {
  static let model = fixturePath("awq/dense-first")
  static let calibration = fixturePath("awq/dense-first/calibration.jsonl")

  static func options(_ output: String) -> QuantizeOptions {
    var options = QuantizeOptions(model: model, output: output, memory: 256 << 20, threads: 2)
    options.data.path = calibration
    options.data.selection.samples = 8
    options.scheme = QuantScheme(.w4a16, groupSize: 32)
    return options
  }

  static func run(
    _ options: QuantizeOptions, report: @escaping (RunEvent) -> Void = { _ in }
  ) throws {
    try QuantizeModel(QuantizePlan(options), report: report).run()
  }

  /// What tells of this run alone: where its scratch lay, what it took, the news and the lock.
  private static let own: Set = [
    "state.json", "progress.json", "report.html", "report.json", "lock", ".sluice",
  ]

  /// Every other file of a finished output by its name.
  static func contents(_ output: String) throws -> [String: [UInt8]] {
    var result: [String: [UInt8]] = [:]
    for folder in ["", ".sluice/"] {
      for name in try FileSystem.list(output + "/" + folder)
      where !own.contains(name) {
        result[folder + name] = try FileSystem.readFile("\(output)/\(folder)\(name)")
      }
    }
    return result
  }
}
