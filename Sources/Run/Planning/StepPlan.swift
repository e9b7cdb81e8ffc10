// One step of a run as a ledger has it: buffers and pages at their most, operations, bytes moved.

package import Tensors

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

/// Buffers of many sizes follow each other, and each would map pages of its own.
enum KeptBuffers {
  /// A step keeps this part of its buffers at most.
  static let part = 8
}

/// Resident bytes of one consumer.
package struct MemoryUse: Sendable, Equatable {
  package let name: String
  package let bytes: Int

  package init(_ name: String, _ bytes: Int) {
    self.name = name
    self.bytes = bytes
  }
}

/// What a step used, over all layers that it was run for: peaks, and sums over the run.
package struct StepUse: Sendable, Equatable {
  package private(set) var buffers: [MemoryUse] = []
  /// Heap and mapped files.
  package private(set) var others: [MemoryUse] = []
  package private(set) var operations: [Operation: Double] = [:]
  package private(set) var traffic: [Traffic: Double] = [:]

  package init() {}

  /// Takes in what is written in a ledger.
  ///
  /// - Parameter times: layers that it stands for.
  package mutating func add(_ ledger: Ledger, times: Double) {
    func uses(_ pool: Ledger.Pool) -> [MemoryUse] {
      ledger.balance(of: pool).atPeak.map { MemoryUse($0.key, $0.value) }
        .sorted { $0.name < $1.name }
    }
    var other = StepUse()
    other.buffers = uses(.buffers)
    other.others = uses(.heap) + uses(.mapped)
    other.operations = ledger.operations.filter { $0.value > 0 }
    for kind in Traffic.allCases { other.traffic[kind] = ledger.bytes(kind) }
    add(other, times: times)
  }

  /// Takes in another use.
  package mutating func add(_ other: StepUse, times: Double) {
    if sum(other.buffers) > sum(buffers) { buffers = other.buffers }
    if sum(other.others) > sum(others) { others = other.others }
    for (operation, count) in other.operations {
      operations[operation, default: 0] += count * times
    }
    for (kind, bytes) in other.traffic { traffic[kind, default: 0] += bytes * times }
  }

  /// Floating-point operations.
  package var arithmetic: Double { arithmetic { _ in true } }

  /// Of some operations.
  package func arithmetic(_ counts: (Operation) -> Bool) -> Double {
    operations.sorted { $0.key < $1.key }.reduce(0) {
      $0 + (counts($1.key) ? $1.key.arithmetic * $1.value : 0)
    }
  }
}

/// One step of a run or an evaluation, at its largest.
package struct StepPlan<Step: Sendable & Equatable>: Sendable, Equatable {
  package let step: Step
  /// Resident bytes by consumer, largest first.
  package let consumers: [MemoryUse]
  /// What the step's large buffers may take.
  package let bufferBytes: Int
  /// What stays mapped beside them, of buffers that were given back.
  package let keptBytes: Int
  /// Floating-point operations over the whole run.
  package let operations: Double
  /// Operations that are float32 in every engine.
  package let exactOperations: Double

  package var bytes: Int { consumers.reduce(0) { $0 + $1.bytes } }

  /// - Parameters:
  ///   - always: what is resident in every moment of the step.
  ///   - use: the buffers of any moment may be followed by the pages of any other, since buffers stay.
  ///   - budget: what all of it may take; with room to spare, buffers are kept for the next of their size.
  package init(_ step: Step, always: [MemoryUse], use: StepUse, budget: Int = 0) {
    self.step = step
    bufferBytes = sum(use.buffers)
    let others = always + use.others
    keptBytes = max(0, min(bufferBytes / KeptBuffers.part, budget - bufferBytes - sum(others)))
    let kept = MemoryUse("buffers kept for the next", keptBytes)
    consumers = (others + use.buffers + [kept]).filter { $0.bytes > 0 }
      .sorted { $0.bytes != $1.bytes ? $0.bytes > $1.bytes : $0.name < $1.name }
    operations = use.arithmetic
    exactOperations = use.arithmetic { $0.kind == .exactProduct || $0.kind == .scores }
  }
}

private func sum(_ uses: [MemoryUse]) -> Int { uses.reduce(0) { $0 + $1.bytes } }
