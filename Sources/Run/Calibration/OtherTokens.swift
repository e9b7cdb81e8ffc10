// How many tokens an expert sees beside those that the router sends to it.

/// How many tokens an expert sees beside those that the router sends to it.
package enum OtherTokens: Sendable, Hashable {
  /// As many as measured like all of them.
  case auto
  case all
  case number(Int)

  /// Tokens for each channel that an expert's down projection reads. A Gram matrix of F channels wants more than F
  /// tokens; from twice as many on, no run could be told from one with all.
  private static let perChannel = 4
  /// Small experts see so many, too: they take little time, and small data is seen whole.
  private static let fewest = 4096

  /// - Parameters:
  ///   - channels: that the expert's down projection reads.
  ///   - tokens: of the run.
  /// - Returns: nil for all of them.
  package func count(channels: Int, of tokens: Int) -> Int? {
    let count =
      switch self {
      case .auto: max(Self.fewest, Self.perChannel * channels)
      case .all: tokens
      case .number(let count): count
      }
    return count < tokens ? count : nil
  }
}
