// What makes token ids of one piece of text.

enum Model: Sendable {
  case bytePairs(BytePairEncoder)
  case unigram(UnigramEncoder)

  /// Working memory of one thread.
  struct Scratch {
    var bytePairs = BytePairEncoder.Scratch()
    var unigram = UnigramEncoder.Scratch()
  }

  @inline(__always)
  func encode(_ piece: Span<UInt8>, _ scratch: inout Scratch, into ids: inout [Int32]) {
    switch self {
    case .bytePairs(let encoder): encoder.encode(piece, &scratch.bytePairs, into: &ids)
    case .unigram(let encoder): encoder.encode(piece, &scratch.unigram, into: &ids)
    }
  }
}

/// The tokens `<0x00>` to `<0xFF>`, which stand for the bytes of text that has no token; -1 for those that are not there.
func fallbackTokens(_ vocabulary: Vocabulary) -> [Int32] {
  let digits = Array("0123456789ABCDEF")
  return (0..<256).map { byte in
    vocabulary.id(of: Array("<0x\(digits[byte / 16])\(digits[byte % 16])>".utf8)) ?? -1
  }
}
