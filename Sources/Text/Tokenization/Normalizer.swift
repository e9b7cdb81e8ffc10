// What is done to text before it is split.

enum Normalizer: Sendable {
  case nfc
  /// Text put before every piece.
  case prepend([UInt8])
  case replace(Delimiter, with: [UInt8])
  case precompiled(PrecompiledCharsmap)
  /// White space at the ends of every piece.
  case strip(left: Bool, right: Bool)

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
    case .precompiled(let charsmap):
      try pieces.rewrite { text, piece, result in
        charsmap.normalize(text, piece.range, into: &result)
      }
    case .strip(let left, let right):
      try pieces.rewrite { text, piece, result in
        result += text[Self.stripped(text, piece.range, left: left, right: right)]
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

  private static func stripped(
    _ text: [UInt8], _ range: Range<Int>, left: Bool, right: Bool
  ) -> Range<Int> {
    var start = range.lowerBound
    var end = range.upperBound
    while left, start < end {
      let (value, next) = scalar(in: text, at: start)
      guard UnicodeSets.space.contains(value) else { break }
      start = next
    }
    while right, start < end {
      let last = scalarStart(in: text, before: end)
      guard UnicodeSets.space.contains(scalar(in: text, at: last).value) else { break }
      end = last
    }
    return start..<end
  }
}
