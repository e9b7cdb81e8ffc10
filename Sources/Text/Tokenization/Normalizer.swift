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
        if piece.headBytes > 0 {
          let start = piece.range.lowerBound
          var end = min(start + piece.headBytes, piece.range.upperBound)
          // Marks that changed places, and a head that was cut short, can leave its end within a character.
          while end < piece.range.upperBound, text[end] & 0xC0 == 0x80 { end += 1 }
          var head: [UInt8] = []
          CanonicalComposition.compose(text, start..<end, into: &head)
          piece.headBytes = head.count
        }
      }
    case .prepend(let prefix):
      try pieces.rewrite { text, piece, result in
        result += prefix
        result += text[piece.range]
        if piece.headBytes > 0 { piece.headBytes += prefix.count }
      }
    case .precompiled(let charsmap):
      try pieces.rewrite { text, piece, result in
        let start = result.count
        charsmap.normalize(text, piece.range, into: &result)
        if piece.headBytes > 0, start < result.count {
          piece.headBytes = min(scalarLength(result[start]), result.count - start)
        }
      }
    case .strip(let left, let right):
      try pieces.rewrite { text, piece, result in
        let kept = Self.stripped(text, piece.range, left: left, right: right)
        result += text[kept]
        piece.headBytes -= kept.lowerBound - piece.range.lowerBound
      }
    case .replace(let delimiter, let replacement):
      let before = pieces
      try pieces.rewrite { (text, piece, result) throws(TokenizerError) in
        scratch.matches.removeAll(keepingCapacity: true)
        try delimiter.findMatches(
          in: text, piece.range, scratch.region, into: &scratch.matches)
        try before.checkLength(result.count + scratch.matches.count * replacement.count)
        let start = piece.range.lowerBound
        let headEnd = start + piece.headBytes
        var head = 0
        var end = start
        for match in scratch.matches {
          result += text[end..<match.lowerBound]
          result += replacement
          head += max(0, min(match.lowerBound, headEnd) - end)
          // The package: what replaces characters stands for the last of them, and what is put between two for the
          // one before.
          if max(match.upperBound - 1, start) < headEnd { head += replacement.count }
          end = match.upperBound
        }
        result += text[end..<piece.range.upperBound]
        head += max(0, min(piece.range.upperBound, headEnd) - end)
        piece.headBytes = head
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
