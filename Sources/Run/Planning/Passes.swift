// What of the work of a run is done at once, and what stays mapped meanwhile.

/// How a run spends its memory: what it does at once, and what it keeps mapped. No choice here changes a byte.
package struct Passes: Sendable, Hashable {
  /// Units (experts) whose statistics are gathered in one pass over the hidden states.
  package var unitsPerGroup: Int
  /// Whether the weights of a group stay mapped until they are written; otherwise every block maps them again.
  package var holdsExperts: Bool
  /// Whether the weights of a layer's attention stay mapped.
  package var holdsAttention: Bool
  /// Blocks of tokens that go through a layer's experts together at its end: each pass maps the experts again.
  package var blocksPerPass: Int

  package static let smallest = Passes(
    unitsPerGroup: 1, holdsExperts: false, holdsAttention: false, blocksPerPass: 1)

  package init(unitsPerGroup: Int, holdsExperts: Bool, holdsAttention: Bool, blocksPerPass: Int) {
    self.unitsPerGroup = unitsPerGroup
    self.holdsExperts = holdsExperts
    self.holdsAttention = holdsAttention
    self.blocksPerPass = blocksPerPass
  }
}
