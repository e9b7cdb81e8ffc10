// How text is cut into the pieces that the model sees one by one.

enum PreTokenizer: Sendable {
  case split(Splitter)
  /// A blank before every piece that does not start with one.
  case prefixSpace
  /// Bytes spelled as the byte alphabet does. Left away where the model reads bytes itself.
  case spellBytes
  case metaspace(Metaspace)

  struct Metaspace: Sendable {
    enum Prefix: String, CaseIterable, Sendable {
      case first, never, always
    }

    let replacement: [UInt8]
    let prefix: Prefix
    let splits: Bool
  }

  /// GPT-2's own expression, which `ByteLevel` splits by when it is told to.
  static let byteLevelPattern =
    #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

  /// Every match of an expression, and what lies between, as pieces of their own.
  static func pieces(of pattern: Pattern) -> PreTokenizer {
    .split(Splitter(delimiter: .pattern(pattern), behavior: .isolated))
  }

  func apply(_ pieces: inout Pieces, _ scratch: SplitScratch) throws(TokenizerError) {
    switch self {
    case .split(let splitter):
      try splitter.split(&pieces, scratch)
    case .prefixSpace:
      try pieces.rewrite { text, piece, result in
        if text[piece.range.lowerBound] != UInt8(ascii: " ") {
          result.append(UInt8(ascii: " "))
          if piece.headBytes > 0 { piece.headBytes += 1 }
        }
        result += text[piece.range]
      }
    case .spellBytes:
      try pieces.rewrite { text, piece, result in
        let start = result.count
        let headEnd = piece.range.lowerBound + piece.headBytes
        var head = 0
        for index in piece.range {
          append(ByteAlphabet.scalars[Int(text[index])], to: &result)
          if index < headEnd { head = result.count - start }
        }
        piece.headBytes = head
      }
    case .metaspace(let metaspace):
      try metaspace.apply(&pieces, scratch)
    }
  }
}

extension PreTokenizer.Metaspace {
  fileprivate func apply(_ pieces: inout Pieces, _ scratch: SplitScratch) throws(TokenizerError) {
    try pieces.rewrite { text, piece, result in
      let start = result.count
      let headEnd = piece.range.lowerBound + piece.headBytes
      var head = 0
      for index in piece.range {
        let byte = text[index]
        if byte == UInt8(ascii: " ") { result += replacement } else { result.append(byte) }
        if index < headEnd { head = result.count - start }
      }
      let takesPrefix = prefix == .always || (prefix == .first && head > 0)
      if takesPrefix, !result[start...].starts(with: replacement) {
        result.insert(contentsOf: replacement, at: start)
        if head > 0 { head += replacement.count }
      }
      piece.headBytes = head
    }
    if splits {
      try Splitter(delimiter: .literal(replacement), behavior: .mergedWithNext)
        .split(&pieces, scratch)
    }
  }
}
