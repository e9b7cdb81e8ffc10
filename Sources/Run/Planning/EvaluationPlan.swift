// What an evaluation will need, and how its passes are cut.

/// A step of an evaluation.
package enum EvaluationStep: String, Sendable, CaseIterable {
  /// Opening the checkpoints and reading the data.
  case load
  /// Every layer of one checkpoint after the other.
  case layers
  /// The heads over the vocabulary.
  case head
  /// Reading the tokenizer again, to spell the worst tokens.
  case text
}

/// How the heads are cut: by the sizes of the work alone, as sums over the vocabulary are cut here, too.
package enum HeadTiles {
  /// Tokens of the vocabulary whose logits are held at a time.
  package static let vocabulary = 4096
  /// Positions whose logits are held at a time.
  package static let positions = 1024
}

/// The plan of an evaluation: the passes it is done in, and the memory they take.
package struct EvaluationPlan: Sendable, Equatable {
  package let budget: Int
  /// The smallest budget that this work can be done in.
  package let smallestBudget: Int
  package let steps: [StepPlan<EvaluationStep>]
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

  package func step(_ step: EvaluationStep) -> StepPlan<EvaluationStep> {
    guard let plan = steps.first(where: { $0.step == step }) else {
      preconditionFailure("no plan for \(step)")
    }
    return plan
  }

  package init(
    budget: Int, smallestBudget: Int, steps: [StepPlan<EvaluationStep>], layerBlocks: Int,
    headBlocks: Int, tokens: Int, scratchBytes: Int, operations: Double
  ) {
    self.budget = budget
    self.smallestBudget = smallestBudget
    self.steps = steps
    self.layerBlocks = layerBlocks
    self.headBlocks = headBlocks
    self.tokens = tokens
    self.scratchBytes = scratchBytes
    self.operations = operations
  }
}
