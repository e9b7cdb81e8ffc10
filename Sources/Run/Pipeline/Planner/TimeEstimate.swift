// How long a run will take on this machine: what its plan uses, at measured rates.

internal import CompressedTensors
internal import LinearAlgebra
internal import Models
package import Planning
internal import Safetensors
internal import SystemIO
internal import Tensors
internal import Transformer

/// Seconds of a run, by step.
package struct TimeEstimate: Sendable, Equatable {
  package private(set) var seconds: [RunStep: Double] = [:]
  /// What the run would take longer if every expert saw all tokens.
  package let secondsSaved: Double
  /// Floating-point operations per second of the experts' products, everything around them included.
  package let rate: Double

  /// The sum, always added in the order of the steps: a dictionary's own order would change the last bit.
  package var total: Double { RunStep.allCases.reduce(0) { $0 + (seconds[$1] ?? 0) } }

  /// Of passes that follow each other; the rate is that of the last.
  init(_ passes: [TimeEstimate]) {
    for step in RunStep.allCases {
      let sum = passes.compactMap { $0.seconds[step] }
      if !sum.isEmpty { seconds[step] = sum.reduce(0, +) }
    }
    secondsSaved = passes.reduce(0) { $0 + $1.secondsSaved }
    rate = passes.last?.rate ?? 0
  }

  /// - Parameters:
  ///   - rates: of this plan, or of one with another number of tokens.
  ///   - reading: what the source is read at.
  ///   - loading: seconds that opening the model and reading the data took.
  package init(
    _ plan: QuantizePlan, _ rates: Rates, reading: SourceReading, loading: Double
  ) throws {
    let run = plan.run
    let commits = Self.commits(plan)
    for step in RunStep.allCases {
      guard let use = run.uses[step] else { continue }
      var sum = 0.0
      for (operation, times) in use.operations.sorted(by: { $0.key < $1.key }) {
        sum += try rates.seconds(operation, times: times)
      }
      sum += (use.traffic[.output] ?? 0) * (rates.writtenByte ?? 0)
      sum += Double(commits[step] ?? 0) * (rates.commit ?? 0)
      seconds[step] = sum
    }
    let experts = seconds[.experts] ?? 0
    let arithmetic = run.uses[.experts]?.arithmetic ?? 0
    rate = experts > 0 ? arithmetic / experts : 0
    secondsSaved =
      rate > 0 ? max(0, run.operationsOfAllTokens - run.operations) / rate : 0
    seconds[.load] = loading
    // What does not stay in the kernel's cache is read again each time.
    let isCached = run.sourceBytes < MachineShare().availableBytes
    let mapped = isCached ? run.sourceBytes : run.sourceReadBytes - run.checkedSourceBytes
    seconds[.experts, default: 0] += Double(mapped) * reading.secondsPerByte
    // Read from the kernel's cache or the disk, as the source was, at the speed of a checksum at most.
    let checked = max(reading.secondsPerByte, 1e-9 / Double(plan.options.threads))
    seconds[.check, default: 0] += Double(run.outputBytes + run.sourceBytes) * checked
    for (step, bytes) in run.comparedBytes { seconds[step, default: 0] += Double(bytes) * checked }
  }

  private static func commits(_ plan: QuantizePlan) -> [RunStep: Int] {
    let parts = plan.spec.layers.flatMap(\.parts)
    let groups = parts.reduce(0) {
      $0 + ($1.units.count + plan.run.unitsPerGroup - 1) / plan.run.unitsPerGroup
    }
    return [
      .copy: 1, .attend: parts.count, .experts: groups,
      .advance: parts.count { $0.tokens != nil }, .check: 2,
    ]
  }
}

/// How fast the source's files are read, as they lie on the disk or in the kernel's cache now.
package struct SourceReading: Sendable {
  package let secondsPerByte: Double

  /// Reads what one expert after the other holds, for a fifth of a second; where the weights are not here, reading them
  /// counts nothing.
  package init(_ plan: QuantizePlan) {
    guard let layer = plan.spec.layers.last, let weights = plan.opened?.weights else {
      secondsPerByte = 0
      return
    }
    let clock = Clock()
    var bytes = 0
    var sum: UInt8 = 0
    for linear in layer.linears.reversed() where clock.seconds < 0.2 {
      let tensor = weights.parameter(linear.weight).extent
      unsafe tensor.withBytes { all in
        for offset in stride(from: 0, to: all.count, by: 4096) { unsafe sum &+= all[offset] }
      }
      tensor.release()
      bytes += tensor.byteCount
    }
    // The sum keeps the reads from being left out.
    secondsPerByte = clock.seconds / Double(max(bytes, Int(sum & 1)))
  }
}
