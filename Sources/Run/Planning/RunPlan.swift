// What a run will need: memory by step, disk, arithmetic, and the sizes of its passes.

package import LinearAlgebra

/// The plan of a run: `sluice plan` prints it, `sluice quantize` follows it.
package struct RunPlan: Sendable, Equatable {
  package let budget: Int
  /// The smallest budget that this work can be done in.
  package let smallestBudget: Int
  package let steps: [StepPlan<RunStep>]
  /// What the budget is used for.
  package let passes: Passes
  package let engine: Engine
  package let tokens: Int
  package let longestSequence: Int
  /// Layers that the calibration tokens run through.
  package let calibratedLayers: Int
  /// Layers whose states are made together, before the work on any of them.
  package let window: Int
  /// Tensor bytes of the source.
  package let sourceBytes: Int
  /// Tensor bytes of the output.
  package let outputBytes: Int
  /// Scratch on disk at the worst moment, as far as shapes tell: how well states compress is what was measured.
  package let scratchBytes: Int
  /// Units of the layer that has most.
  package let largestUnitCount: Int
  /// Tokens that an expert sees at most beside those that the router sends to it; nil where all see all.
  package let otherTokens: Int?
  /// Passes over a layer's weights at its end.
  package let weightPasses: Int
  /// What every step uses over the whole run.
  package let uses: [RunStep: StepUse]
  /// Arithmetic of the run if every expert saw all tokens.
  package let operationsOfAllTokens: Double
  /// Bytes of the source that are compared with their checksums, by the step behind which that is.
  package let comparedBytes: [RunStep: Int]
  /// Bytes of source tensors that are read over the whole run; what is read again counts again.
  package let sourceReadBytes: Int

  package var unitsPerGroup: Int { passes.unitsPerGroup }
  package var holdsExperts: Bool { passes.holdsExperts }
  package var holdsAttention: Bool { passes.holdsAttention }
  package var blocksPerPass: Int { passes.blocksPerPass }
  package var peakBytes: Int { steps.map(\.bytes).max() ?? 0 }
  /// Bytes of the source that are read for their checksums: to find these, and to compare them.
  package var checkedSourceBytes: Int { sourceBytes + comparedBytes.values.reduce(0, +) }
  package var operations: Double { steps.reduce(0) { $0 + $1.operations } }

  package func step(_ step: RunStep) -> StepPlan<RunStep> {
    guard let plan = steps.first(where: { $0.step == step }) else {
      preconditionFailure("no plan for \(step)")
    }
    return plan
  }

  /// - Parameters:
  ///   - steps: at the chosen passes.
  ///   - smallestBudget: of the passes that take least.
  package init(
    budget: Int, smallestBudget: Int, steps: [StepPlan<RunStep>], passes: Passes, engine: Engine,
    tokens: Int, longestSequence: Int, calibratedLayers: Int, window: Int, sourceBytes: Int,
    outputBytes: Int, scratchBytes: Int, largestUnitCount: Int, otherTokens: Int?,
    weightPasses: Int, uses: [RunStep: StepUse], operationsOfAllTokens: Double,
    comparedBytes: [RunStep: Int], sourceReadBytes: Int
  ) {
    self.budget = budget
    self.smallestBudget = smallestBudget
    self.steps = steps
    self.passes = passes
    self.engine = engine
    self.tokens = tokens
    self.longestSequence = longestSequence
    self.calibratedLayers = calibratedLayers
    self.window = window
    self.sourceBytes = sourceBytes
    self.outputBytes = outputBytes
    self.scratchBytes = scratchBytes
    self.largestUnitCount = largestUnitCount
    self.otherTokens = otherTokens
    self.weightPasses = weightPasses
    self.uses = uses
    self.operationsOfAllTokens = operationsOfAllTokens
    self.comparedBytes = comparedBytes
    self.sourceReadBytes = sourceReadBytes
  }
}

extension RunPlan {
  /// What reading an index or a header may take, before there is a plan; half of what a budget has for it, for what is
  /// kept of them takes about as much.
  package static func checkpointRoom(budget: Int) -> Int {
    max(budget - ResidentModel.processBytes, 32 << 20) / 2
  }

  /// What reading data may take beside a tokenizer. Refuses a budget that the tokenizer alone would break, before it is
  /// read.
  ///
  /// - Parameters:
  ///   - tensors: of the checkpoints that are open.
  ///   - tokenizerBytes: what reading it takes; 0 where none is needed.
  ///   - later: what the steps after it will need at most, where loading takes so many bytes.
  package static func dataRoom(
    budget: Int, tensors: Int, tokenizerBytes: Int, later: (Int) -> Int
  ) throws(BudgetTooSmall) -> Int {
    let tokenizer = MemoryUse("the tokenizer", tokenizerBytes)
    let needed = ResidentModel.processBytes + tokenizer.bytes
    if needed > budget, tokenizerBytes > 0 {
      throw BudgetTooSmall(
        budget: budget, smallest: needed, step: RunStep.load.rawValue, consumer: tokenizer,
        enough: max(needed, later(needed)), remedies: ["take data with `input_ids`"])
    }
    return max(0, budget - needed - ResidentModel.names(tensors).bytes)
  }
}
