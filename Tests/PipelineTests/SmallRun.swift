// A run small enough to do many times: a tiny checkpoint of two layers with four experts, or the fixture model.

import Calibration
import CompressedTensors
import Pipeline
import Planning
import Quantization
import Safetensors
import SystemIO
import Testing
import TestSupport

enum SmallRun {
  static let model = fixturePath("awq/dense-first")
  static let calibration = fixturePath("awq/dense-first/calibration.jsonl")

  static func options(_ output: String) -> QuantizeOptions {
    var options = QuantizeOptions(model: model, output: output, memory: 256 << 20, threads: 2)
    options.data.path = calibration
    options.data.selection.samples = 8
    options.schemes = [IntegerScheme(.w4a16, groupSize: 32).scheme]
    return options
  }

  /// A model with the tensors changed whose names end in `suffix`, in one shard.
  static func copy(
    _ model: String, to folder: String, changing suffix: String, _ change: (inout [Float]) -> Void
  ) throws {
    try FileSystem.createFolder(folder)
    for name in try FileSystem.list(model) where !name.contains("safetensors") {
      try replaceFile("\(folder)/\(name)", with: FileSystem.readFile("\(model)/\(name)"))
    }
    let tensors = try ShardedModel(folder: model).tensors.map { tensor in
      if !tensor.name.hasSuffix(suffix) {
        return LooseTensor(
          name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, bytes: tensor.bytes)
      }
      var values = tensor.floats
      change(&values)
      return LooseTensor(tensor.name, tensor.shape, values, as: tensor.dtype)
    }
    try LooseTensor.write(tensors, to: folder + "/model.safetensors")
  }

  static func run(
    _ options: QuantizeOptions, report: @escaping (RunEvent) -> Void = { _ in }
  ) throws {
    try QuantizeModel(QuantizePlan(options), report: report).run()
  }

  /// Runs to the end, interrupted at every progress.
  ///
  /// - Parameter interrupted: after each interruption; throws where there are too many.
  static func runInterrupted(
    _ options: QuantizeOptions, interrupted: (Interrupted) throws -> Void
  ) throws {
    while true {
      let interruption = Interruption()
      do {
        try QuantizeModel(QuantizePlan(options), interruption: interruption) { event in
          if case .progress = event { interruption.request() }
        }.run()
        return
      } catch let stopped as Interrupted {
        try interrupted(stopped)
      }
    }
  }

  /// Runs on other numbers of threads and within other budgets, the smallest too, and expects the bytes of `options`.
  ///
  /// - Returns: those bytes.
  static func expectTheSameBytes(
    _ options: QuantizeOptions, in folder: String
  ) throws -> [String: [UInt8]] {
    var options = options
    options.output = folder + "/0"
    try run(options)
    let expected = try contents(options.output)
    let smallest = try QuantizePlan(options).run.smallestBudget
    for (index, (threads, memory)) in [(1, 256 << 20), (3, 4 << 30), (1, smallest)].enumerated() {
      options.output = "\(folder)/\(index + 1)"
      options.threads = threads
      options.memory = memory
      try run(options)
      #expect(try contents(options.output) == expected)
    }
    return expected
  }

  /// What tells of this run alone: how its source was stored, where its scratch lay, what it took, the news and the lock.
  private static let own: Set = [
    "source-checksums.txt", "state.json", "progress.json", "report.html", "report.json", "lock",
    ".sluice",
  ]

  /// Every other file of a finished output by its name.
  ///
  /// - Parameter card: whether the model card counts, which tells the source and the options of its run.
  static func contents(_ output: String, card: Bool = true) throws -> [String: [UInt8]] {
    var result: [String: [UInt8]] = [:]
    for folder in ["", ".sluice/"] {
      for name in try FileSystem.list(output + "/" + folder)
      where !own.contains(name) && (card || name != "README.md") {
        result[folder + name] = try FileSystem.readFile("\(output)/\(folder)\(name)")
      }
    }
    return result
  }
}
