// The peak of resident memory and the time, step by step.

package import Planning
internal import LinearAlgebra
internal import SystemIO
internal import Tensors

/// What a step took over all layers: its time, and its memory at its largest.
package struct StepSummary: Sendable, Equatable {
  package let step: RunStep
  /// The peak of the resident set: where the step raised the kernel's mark (VmHWM), that mark, else the largest sample.
  /// The largest of all steps is the peak of the process.
  package internal(set) var bytes = 0
  /// Heap and mapped files when a sample was largest: samples are taken after every block and unit, so that their sum
  /// may be less than the peak.
  package internal(set) var heapBytes = 0
  package internal(set) var mappedBytes = 0
  /// The most that large buffers took together.
  package internal(set) var bufferBytes = 0
  package internal(set) var seconds = 0.0

  init(_ step: RunStep) { self.step = step }

  /// Takes in the same step of another process.
  mutating func add(_ other: StepSummary) {
    if other.heapBytes + other.mappedBytes > heapBytes + mappedBytes {
      heapBytes = other.heapBytes
      mappedBytes = other.mappedBytes
    }
    bytes = max(bytes, other.bytes)
    bufferBytes = max(bufferBytes, other.bufferBytes)
    seconds += other.seconds
  }
}

/// Follows a run through its steps.
struct StepWatch {
  private let budget: MemoryBudget
  private let sampler = ResidentSampler()
  /// The kernel's mark when the step began.
  private var mark = 0
  private var steps: [RunStep: StepSummary] = [:]
  private var current = RunStep.load
  private var clock = Clock()

  /// What buffers and mapped weights took at their most, by name, as the ledger has it.
  private(set) var buffers: [RunStep: [String: Int]] = [:]
  private(set) var pages: [RunStep: [String: Int]] = [:]
  private let ledger: Ledger
  /// What loops took, where the ledger times them.
  private(set) var loops: [RunStep: LoopTimes] = [:]

  /// - Parameter isFirst: whether what the process took so far is that of loading, and not of a pass before.
  init(_ backend: Backend, isFirst: Bool) {
    budget = backend.memory
    ledger = backend.ledger
    if !isFirst { mark = ResidentMemory.current().peakBytes }
  }

  /// Buffers of the step that begins may take what its plan says.
  mutating func begin(_ plan: StepPlan<RunStep>) {
    if plan.step == current { return }
    endStep()
    takePeak()
    current = plan.step
    budget.setLimit(plan.bufferBytes, kept: plan.keptBytes)
    ResidentMemory.returnFreedMemory()
    mark = ResidentMemory.current().peakBytes
    _ = sampler.takePeak()
  }

  mutating func note() {
    let now = ResidentMemory.current()
    var step = steps[current] ?? StepSummary(current)
    if now.residentBytes > step.heapBytes + step.mappedBytes {
      step.heapBytes = now.anonymousBytes
      step.mappedBytes = now.residentBytes - now.anonymousBytes
    }
    step.bytes = max(
      step.bytes, sampler.takePeak(), now.residentBytes, now.peakBytes > mark ? now.peakBytes : 0)
    step.bufferBytes = max(step.bufferBytes, budget.peak)
    steps[current] = step
  }

  /// Over all steps so far.
  var peakBytes: Int { steps.values.map(\.bytes).max() ?? 0 }

  private mutating func takePeak() {
    buffers[current] = larger(ledger.takePeak(of: .buffers), buffers[current])
    pages[current] = larger(ledger.takePeak(of: .mapped), pages[current])
  }

  private func larger(_ balance: Ledger.Balance, _ known: [String: Int]?) -> [String: Int]? {
    balance.peak > (known ?? [:]).values.reduce(0, +) ? balance.atPeak : known
  }

  private mutating func endStep() {
    note()
    steps[current]?.seconds += clock.seconds
    loops[current, default: LoopTimes()].add(ledger.loops.take())
    clock = Clock()
  }

  /// What each step took until now, in their order.
  mutating func soFar() -> [StepSummary] {
    endStep()
    return RunStep.allCases.compactMap { steps[$0] }
  }
}
