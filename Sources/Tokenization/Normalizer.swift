// What is done to text before it is split.

enum Normalizer: Sendable {
  case nfc
  /// Text put before every piece.
  case prepend([UInt8])
  case replace(Delimiter, with: [UInt8])

  func normalize(_ pieces: inout Pieces, _ scratch: SplitScratch) throws(TokenizerError) {
    switch self {
    case .nfc:
      if CanonicalComposition.isUnchanged(pieces.text) { return }
      try pieces.rewrite { text, piece, result in
        CanonicalComposition.compose(text, piece.range, into: &result)
      }
    case .prepend(let prefix):
      try pieces.rewrite { text, piece, result in
        result += prefix
        result += text[piece.range]
      }
    case .replace(let delimiter, let replacement):
      let before = pieces
      try pieces.rewrite { (text, piece, result) throws(TokenizerError) in
        scratch.matches.removeAll(keepingCapacity: true)
        try delimiter.findMatches(
          in: text, piece.range, scratch.region, into: &scratch.matches)
        try before.checkLength(result.count + scratch.matches.count * replacement.count)
        var end = piece.range.lowerBound
        for match in scratch.matches {
          result += text[end..<match.lowerBound]
          result += replacement
          end = match.upperBound
        }
        result += text[end..<piece.range.upperBound]
      }
    }
  }
}
