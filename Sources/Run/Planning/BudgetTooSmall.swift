// The answer to a budget that no plan fits.

/// A budget that this work cannot be done in, however its passes are cut.
package struct BudgetTooSmall: Error, CustomStringConvertible, Equatable {
  package let budget: Int
  /// What the step needs.
  package let smallest: Int
  package let step: String
  /// The largest of what it needs.
  package let consumer: MemoryUse
  /// What all steps need.
  package let enough: Int
  /// What else makes the step smaller.
  package let remedies: [String]

  package init(
    budget: Int, smallest: Int, step: String, consumer: MemoryUse, enough: Int,
    remedies: [String]
  ) {
    self.budget = budget
    self.smallest = smallest
    self.step = step
    self.consumer = consumer
    self.enough = enough
    self.remedies = remedies
  }

  /// - Parameter steps: at their smallest.
  package init?<Step: RawRepresentable<String>>(
    _ steps: [StepPlan<Step>], budget: Int, remedies: (Step) -> [String]
  ) {
    guard let worst = steps.max(by: { $0.bytes < $1.bytes }), worst.bytes > budget else {
      return nil
    }
    self.init(
      budget: budget, smallest: worst.bytes, step: worst.step.rawValue,
      consumer: worst.consumers[0], enough: worst.bytes, remedies: remedies(worst.step))
  }

  package var description: String {
    let others = (["raise --memory to \(budgetText(enough))"] + remedies)
    return "--memory \(bytesText(budget)) is too small: the step `\(step)` needs "
      + "\(bytesText(smallest)), \(bytesText(consumer.bytes)) of it for \(consumer.name); "
      + others.dropLast().joined(separator: ", ") + (others.count > 1 ? ", or " : "")
      + (others.last ?? "")
  }
}
