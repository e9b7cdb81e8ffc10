// Sequences that a model's description does not hold for.

package import Models

/// A sequence with more tokens than a model attends to.
package struct SequenceTooLong: Error, CustomStringConvertible, Equatable {
  package let tokens: Int
  package let longest: Int

  package init(tokens: Int, longest: Int) {
    self.tokens = tokens
    self.longest = longest
  }

  package var description: String {
    "a sequence has \(tokens) tokens: with more than \(longest) the model chooses which of them it attends to, which "
      + "is not computed yet; give --sequence-length \(longest) or less"
  }
}

extension ModelSpec {
  /// Refuses sequences that the forward pass is not that of the model for.
  package func checkLength(_ tokens: Int) throws(SequenceTooLong) {
    if let longestSequence, tokens > longestSequence {
      throw SequenceTooLong(tokens: tokens, longest: longestSequence)
    }
  }
}
