// One step of a run at its largest moment: which buffers are alive, what is mapped, and what is always there.

internal import Tensors

/// A step in the life of a run or a layer.
package enum RunStep: String, Sendable, CaseIterable {
  /// Opening the model and reading the calibration data.
  case load
  case copy
  case attend
  case experts
  case advance
  /// Reading files for their checksums: the source at the beginning and after each layer, the output at the end.
  case check
}

/// Resident bytes of one consumer.
package struct MemoryUse: Sendable, Equatable {
  package let name: String
  package let bytes: Int

  init(_ name: String, _ bytes: Int) {
    self.name = name
    self.bytes = bytes
  }

  /// Buffers of a budget.
  init(_ name: String, count: Int = 1, floats: Int) {
    self.init(name, count * MemoryBudget.footprint(4 * floats))
  }
}

/// Buffers that are alive together, and the pages of mapped files beside them.
struct Moment {
  let buffers: [MemoryUse]
  var mapped: [MemoryUse] = []

  var bytes: Int { (buffers + mapped).reduce(0) { $0 + $1.bytes } }
}

/// One step of the life of a layer, at its largest.
package struct StepPlan: Sendable, Equatable {
  package let step: RunStep
  /// Resident bytes by consumer, largest first.
  package let consumers: [MemoryUse]
  /// What the step's large buffers may take: of all its moments the largest, as some share their mapped pages.
  package let bufferBytes: Int
  /// Floating-point operations over the whole run.
  package let operations: Double
  /// Operations that are float32 in every engine.
  package let exactOperations: Double

  package var bytes: Int { consumers.reduce(0) { $0 + $1.bytes } }

  /// - Parameters:
  ///   - always: what is resident in every moment of the step.
  ///   - moments: the buffers of any of them may be followed by the mapped pages of any other, since buffers stay.
  init(
    _ step: RunStep, always: [MemoryUse], moments: [Moment], operations: Double,
    exactOperations: Double
  ) {
    self.step = step
    let buffers = moments.max { sum($0.buffers) < sum($1.buffers) }?.buffers ?? []
    let mapped = moments.max { sum($0.mapped) < sum($1.mapped) }?.mapped ?? []
    bufferBytes = sum(buffers)
    consumers = (always + buffers + mapped).filter { $0.bytes > 0 }.sorted { $0.bytes > $1.bytes }
    self.operations = operations
    self.exactOperations = exactOperations
  }
}

private func sum(_ uses: [MemoryUse]) -> Int { uses.reduce(0) { $0 + $1.bytes } }
