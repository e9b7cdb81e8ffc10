// The peak of resident memory, step by step.

package import Planning
internal import SystemIO
internal import Tensors

/// What a step took at its largest, over all layers.
package struct StepMemory: Sendable, Equatable {
  package let step: RunStep
  /// The peak of the resident set (VmHWM).
  package internal(set) var bytes = 0
  /// Heap and mapped files when a sample was largest: samples are taken after every block and unit, so that their sum
  /// may be less than the peak.
  package internal(set) var heapBytes = 0
  package internal(set) var mappedBytes = 0
  /// The most that large buffers took together.
  package internal(set) var bufferBytes = 0

  init(_ step: RunStep) { self.step = step }
}

/// Follows the peak through the steps of a run: the kernel's mark is read and set back between them.
struct MemoryWatch {
  private let budget: MemoryBudget
  private var steps: [RunStep: StepMemory] = [:]
  private var current = RunStep.load

  init(_ budget: MemoryBudget) { self.budget = budget }

  /// - Parameter limit: what the step's buffers may take.
  mutating func begin(_ step: RunStep, limit: Int) {
    if step == current { return }
    note()
    current = step
    budget.setLimit(limit)
    ResidentMemory.returnFreedMemory()
    ResidentMemory.resetPeak()
  }

  mutating func note() {
    let now = ResidentMemory.current()
    var step = steps[current] ?? StepMemory(current)
    if now.residentBytes > step.heapBytes + step.mappedBytes {
      step.heapBytes = now.anonymousBytes
      step.mappedBytes = now.residentBytes - now.anonymousBytes
    }
    step.bytes = max(step.bytes, now.peakBytes)
    step.bufferBytes = max(step.bufferBytes, budget.peak)
    steps[current] = step
  }

  /// In the order of the steps.
  mutating func finish() -> [StepMemory] {
    note()
    return RunStep.allCases.compactMap { steps[$0] }
  }
}
