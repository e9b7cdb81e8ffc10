// What an evaluation will need, from shapes alone, and how its passes are cut.

package import CompressedTensors
internal import Models

/// A step of an evaluation.
package enum EvaluationStep: String, Sendable, CaseIterable {
  /// Opening the checkpoints and reading the data.
  case load
  /// Every layer of one checkpoint, then of the other.
  case layers
  /// The heads over the vocabulary.
  case head
  /// Reading the tokenizer again, to spell the worst tokens.
  case text
}

/// A budget that no evaluation of this work fits.
package struct EvaluationBudgetTooSmall: Error, CustomStringConvertible, Equatable {
  package let budget: Int
  package let smallest: Int
  package let step: EvaluationStep
  package let consumer: MemoryUse

  package var description: String {
    "--memory \(bytesText(budget)) is too small: the step `\(step.rawValue)` needs "
      + "\(bytesText(smallest)), \(bytesText(consumer.bytes)) of it for \(consumer.name); raise "
      + "--memory to \(budgetText(smallest)), lower --sequence-length, or use fewer --threads"
      + (step == .text ? ", or do without --worst" : "")
  }
}

/// Everything that the plan of an evaluation depends on but the budget.
package struct EvaluationWorkload: Sendable {
  /// The model, then the reference where there is one.
  package let checkpoints: [Checkpoint]
  /// Tokens of each block.
  package let blocks: [Int]
  package let longestSequence: Int
  package let threads: Int
  /// The peak of resident memory when the checkpoints had been opened and the data read.
  package let loadingBytes: Int
  /// What reading the tokenizer takes, where it is read again at the end.
  package let tokenizerBytes: Int

  package init(
    checkpoints: [Checkpoint], blocks: [Int], longestSequence: Int, threads: Int,
    loadingBytes: Int, tokenizerBytes: Int
  ) {
    self.checkpoints = checkpoints
    self.blocks = blocks
    self.longestSequence = longestSequence
    self.threads = threads
    self.loadingBytes = loadingBytes
    self.tokenizerBytes = tokenizerBytes
  }

  package var tokens: Int { blocks.reduce(0, +) }
}

/// How the heads are cut: by the sizes of the work alone, as sums over the vocabulary are cut here, too.
package enum HeadTiles {
  /// Tokens of the vocabulary whose logits are held at a time.
  package static let vocabulary = 4096
  /// Positions whose logits are held at a time.
  package static let positions = 1024
}

/// One step of an evaluation at its largest.
package struct EvaluationStepPlan: Sendable, Equatable {
  package let step: EvaluationStep
  /// Resident bytes by consumer, largest first.
  package let consumers: [MemoryUse]
  /// What the step's large buffers may take.
  package let bufferBytes: Int

  package var bytes: Int { consumers.reduce(0) { $0 + $1.bytes } }

  /// - Parameter moments: the buffers of any may meet the mapped pages of any other, since both stay for a while.
  init(_ step: EvaluationStep, always: [MemoryUse], moments: [Moment]) {
    func bytes(_ uses: [MemoryUse]) -> Int { uses.reduce(0) { $0 + $1.bytes } }
    let buffers = moments.map(\.buffers).max { bytes($0) < bytes($1) } ?? []
    let mapped = moments.map(\.mapped).max { bytes($0) < bytes($1) } ?? []
    self.step = step
    bufferBytes = bytes(buffers)
    consumers = (always + buffers + mapped).filter { $0.bytes > 0 }.sorted { $0.bytes > $1.bytes }
  }
}

/// The plan of an evaluation: the passes it is done in, and the memory they take.
package struct EvaluationPlan: Sendable, Equatable {
  package let budget: Int
  /// The smallest budget that this work can be done in.
  package let smallestBudget: Int
  package let steps: [EvaluationStepPlan]
  /// Blocks that go through a layer together: each pass maps its experts again.
  package let layerBlocks: Int
  /// Blocks that meet the vocabulary together: each pass maps the heads again.
  package let headBlocks: Int
  package let tokens: Int
  /// Scratch on disk at the worst moment, at most.
  package let scratchBytes: Int
  /// Floating-point operations of all matrix products.
  package let operations: Double

  package var peakBytes: Int { steps.map(\.bytes).max() ?? 0 }

  package func step(_ step: EvaluationStep) -> EvaluationStepPlan {
    guard let plan = steps.first(where: { $0.step == step }) else {
      preconditionFailure("no plan for \(step)")
    }
    return plan
  }

  /// The smallest budget that this work can be done in.
  package static func smallestBudget(_ work: EvaluationWorkload) -> Int {
    EvaluationSizes(work).steps(layerBlocks: 1, headBlocks: 1).map(\.bytes).max() ?? 0
  }

  /// - Parameter budget: bytes of resident memory, everything included.
  /// - Throws: `EvaluationBudgetTooSmall` with the smallest budget that would do.
  package init(_ work: EvaluationWorkload, budget: Int) throws(EvaluationBudgetTooSmall) {
    let sizes = EvaluationSizes(work)
    let smallest = sizes.steps(layerBlocks: 1, headBlocks: 1)
    guard let worst = smallest.max(by: { $0.bytes < $1.bytes }) else {
      preconditionFailure("an evaluation has steps")
    }
    if worst.bytes > budget {
      throw EvaluationBudgetTooSmall(
        budget: budget, smallest: worst.bytes, step: worst.step, consumer: worst.consumers[0])
    }
    func most(_ bytes: (Int) -> Int) -> Int {
      var (low, high) = (1, max(1, work.blocks.count))
      while low < high {
        let middle = (low + high + 1) / 2
        if bytes(middle) <= budget { low = middle } else { high = middle - 1 }
      }
      return low
    }
    layerBlocks = most { sizes.layers(blocks: $0).bytes }
    headBlocks = most { sizes.head(blocks: $0).bytes }
    self.budget = budget
    smallestBudget = worst.bytes
    steps = sizes.steps(layerBlocks: layerBlocks, headBlocks: headBlocks)
    tokens = work.tokens
    scratchBytes = sizes.scratchBytes
    operations = sizes.operations
  }
}
