// Sequences cut into blocks of tokens: the unit of every forward pass.

/// Whole sequences that go through a layer together.
package struct TokenBlock: Sendable, Equatable {
  /// The rows of each sequence within the block.
  package let sequences: [Range<Int>]
  /// Token ids of all rows.
  package let tokens: [Int32]

  package var count: Int { tokens.count }

  /// Tokens of a block, unless a single sequence is longer: enough rows for matrix products to reach their speed.
  ///
  /// A constant, not a function of memory: sums over tokens are cut here, and the output must be the same to the byte
  /// under every budget.
  package static let size = 1024

  /// Consecutive sequences, as many in each block as fit.
  package static func cut(_ sequences: [[Int32]]) -> [TokenBlock] {
    var blocks: [TokenBlock] = []
    var rows: [Range<Int>] = []
    var tokens: [Int32] = []
    for sequence in sequences {
      if !tokens.isEmpty, tokens.count + sequence.count > size {
        blocks.append(TokenBlock(sequences: rows, tokens: tokens))
        rows = []
        tokens = []
      }
      rows.append(tokens.count..<tokens.count + sequence.count)
      tokens += sequence
    }
    if !tokens.isEmpty { blocks.append(TokenBlock(sequences: rows, tokens: tokens)) }
    return blocks
  }

  /// Blocks of as many tokens as a selection can give, to be planned with before any row is read.
  package static func most(of selection: RowSelection) -> [TokenBlock] {
    let sequence = [Int32](repeating: 0, count: min(selection.sequenceLength, mostTokens))
    return cut(
      Array(repeating: sequence, count: min(selection.samples, mostTokens / sequence.count)))
  }

  /// Tokens of the longest sequence; 0 without any.
  package static func longest(of blocks: [TokenBlock]) -> Int {
    blocks.flatMap(\.sequences).map(\.count).max() ?? 0
  }

  /// More than anyone calibrates with.
  private static let mostTokens = 4 << 20
}
