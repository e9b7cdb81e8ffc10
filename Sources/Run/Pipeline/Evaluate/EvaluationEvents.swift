// What an evaluation reports while it goes on: values, not text.

package import Planning
internal import SystemIO
internal import Tensors

package struct EvaluationProgress: Sendable, Equatable {
  package let step: EvaluationStep
  /// The folder of the checkpoint in work; nil at the heads.
  package let folder: String?
  /// From 0.
  package let layer: Int
  package let layers: Int
  /// Share of the whole arithmetic, 0 to 1.
  package let share: Double
  /// As what was done so far lets expect; nil while that is too little.
  package let secondsLeft: Double?
}

/// A step's memory at its largest.
package struct EvaluationStepSummary: Sendable, Equatable {
  package let step: EvaluationStep
  /// The most that large buffers took together.
  package let bufferBytes: Int
}

package struct EvaluationSummary: Sendable, Equatable {
  package let plan: EvaluationPlan
  /// The peak of the process's resident set.
  package let peakBytes: Int
  package let steps: [EvaluationStepSummary]
  package let seconds: Double
  package let processorSeconds: Double
}

package enum EvaluationEvent: Sendable {
  case dataLoaded(DataSummary)
  case warning(RunWarning)
  case started(EvaluationPlan)
  case progress(EvaluationProgress)
  case layerFinished(folder: String, layer: Int, layers: Int, seconds: Double)
  case finished(EvaluationSummary)
}

/// Counts arithmetic, and reports what share of it is done.
final class EvaluationProgressMeter {
  /// The checkpoint in work, its layer, and how many it has.
  var place: (folder: String, layer: Int, layers: Int) = ("", 0, 0)
  var step = EvaluationStep.layers
  private let all: Double
  private let clock = Clock()
  private let report: (EvaluationEvent) -> Void

  init(operations: Double, _ report: @escaping (EvaluationEvent) -> Void) {
    all = operations
    self.report = report
  }

  /// - Parameter done: floating-point operations so far.
  func show(done: Double) {
    let share = all > 0 ? min(1, done / all) : 0
    report(
      .progress(
        EvaluationProgress(
          step: step, folder: step == .layers ? place.folder : nil, layer: place.layer,
          layers: place.layers, share: share,
          secondsLeft: share > 0 && clock.seconds > 1
            ? clock.seconds * (1 - share) / share : nil)))
  }
}

/// Follows an evaluation through its steps.
struct EvaluationWatch {
  private let budget: MemoryBudget
  private var steps: [EvaluationStepSummary] = []
  private var current = EvaluationStep.load
  private var peak = 0
  /// The kernel's mark and the processor time when it began, which are those of other work.
  private let mark: Int
  private let secondsBefore: Double
  private let sampler: ResidentSampler?
  private let clock = Clock()

  /// - Parameter isAlone: whether the process did nothing else before.
  init(_ budget: MemoryBudget, isAlone: Bool) {
    self.budget = budget
    mark = isAlone ? 0 : ResidentMemory.current().peakBytes
    secondsBefore = isAlone ? 0 : processorSeconds()
    sampler = isAlone ? nil : ResidentSampler()
  }

  /// Buffers of the step that begins may take what its plan says.
  mutating func begin(_ step: EvaluationStep, _ plan: EvaluationPlan) {
    end()
    current = step
    let planned = plan.step(step)
    budget.setLimit(planned.bufferBytes, kept: planned.keptBytes)
    ResidentMemory.returnFreedMemory()
  }

  mutating func end() {
    let now = ResidentMemory.current()
    peak = max(
      peak, now.residentBytes, sampler?.takePeak() ?? 0, now.peakBytes > mark ? now.peakBytes : 0)
    steps.append(EvaluationStepSummary(step: current, bufferBytes: budget.peak))
  }

  mutating func finish(_ plan: EvaluationPlan) -> EvaluationSummary {
    end()
    return EvaluationSummary(
      plan: plan, peakBytes: peak, steps: steps, seconds: clock.seconds,
      processorSeconds: processorSeconds() - secondsBefore)
  }
}
