// What a check of an output will need.

/// A step of a check.
package enum VerifyStep: String, Sendable, CaseIterable {
  /// Opening the output and its source.
  case load
  /// Every byte against the checksums of the run.
  case checksums
  /// The numbers of the output by themselves.
  case numbers
  /// The output against its source.
  case source
}

/// The memory of a check by step.
package struct VerifyPlan: Sendable, Equatable {
  package let budget: Int
  package let steps: [StepPlan<VerifyStep>]

  package var peakBytes: Int { steps.map(\.bytes).max() ?? 0 }

  /// - Parameter steps: with what is kept within the budget.
  /// - Throws: `BudgetTooSmall` with the budget that would do.
  package init(_ steps: [StepPlan<VerifyStep>], budget: Int) throws(BudgetTooSmall) {
    if let refusal = BudgetTooSmall(
      steps, budget: budget,
      // What loading takes was measured.
      remedies: { $0 == .load ? [] : ["use fewer --threads"] })
    {
      throw refusal
    }
    self.budget = budget
    self.steps = steps
  }

  package func step(_ step: VerifyStep) -> StepPlan<VerifyStep> {
    guard let plan = steps.first(where: { $0.step == step }) else {
      preconditionFailure("no plan for \(step)")
    }
    return plan
  }
}
