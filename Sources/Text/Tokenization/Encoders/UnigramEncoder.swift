// Unigram language models: one piece of text to token ids, by the likeliest way to cut it.

/// The model of a tokenizer.json of type Unigram, or of a SentencePiece file of that kind.
struct UnigramEncoder: Sendable {
  /// Natural logarithms of probabilities, by id.
  private let scores: [Double]
  private let tokens: Vocabulary
  private let trie: ByteTrie
  private let unknown: Int32
  private let unknownScore: Double
  /// The token of each byte, for what is not in the vocabulary; -1 where a byte has none, nil without byte fallback.
  private let fallback: [Int32]?

  /// Working memory of one thread: of the best way to each place of the piece its score, where its last token starts,
  /// and that token; -1 where no way ends.
  struct Scratch {
    fileprivate var scores: [Double] = []
    fileprivate var starts: [Int32] = []
    fileprivate var ids: [Int32] = []
  }

  /// - Parameters:
  ///   - tokens: ids from 0 on without holes.
  ///   - scores: finite, one a token.
  init(tokens: Vocabulary, scores: [Double], unknown: Int32, fallback: [Int32]?) {
    self.scores = scores
    self.tokens = tokens
    self.unknown = unknown
    // The package: an unknown character costs ten more than the unlikeliest token.
    unknownScore = (scores.min() ?? 0) - 10
    self.fallback = fallback
    var trie = ByteTrie()
    for (text, id) in tokens.tokens { trie.insert(text, id) }
    self.trie = trie
  }

  func encode(_ piece: Span<UInt8>, _ scratch: inout Scratch, into ids: inout [Int32]) {
    findBestWay(piece, &scratch)
    // From the end to the start; characters without a token that stand together are one unknown text.
    let firstNew = ids.count
    var end = piece.count
    var unknownEnd = -1
    while end > 0 {
      let start = Int(scratch.starts[end])
      if scratch.ids[end] == unknown {
        if unknownEnd < 0 { unknownEnd = end }
      } else {
        if unknownEnd >= 0 { appendUnknown(piece.extracting(end..<unknownEnd), into: &ids) }
        unknownEnd = -1
        ids.append(scratch.ids[end])
      }
      end = start
    }
    if unknownEnd >= 0 { appendUnknown(piece.extracting(0..<unknownEnd), into: &ids) }
    ids[firstNew...].reverse()
  }

  private func findBestWay(_ piece: Span<UInt8>, _ scratch: inout Scratch) {
    let count = piece.count
    scratch.scores.removeAll(keepingCapacity: true)
    scratch.starts.removeAll(keepingCapacity: true)
    scratch.ids.removeAll(keepingCapacity: true)
    scratch.scores.append(contentsOf: repeatElement(0, count: count + 1))
    scratch.starts.append(contentsOf: repeatElement(-1, count: count + 1))
    scratch.ids.append(contentsOf: repeatElement(-1, count: count + 1))
    var start = 0
    while start < count {
      let lead = piece[start]
      let length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4
      let score = scratch.scores[start]
      var hasCharacter = false
      var node = ByteTrie.root
      var end = start
      while end < count {
        node = trie.child(node, piece[end])
        if node < 0 { break }
        end += 1
        let id = trie.value(node)
        if id < 0 { continue }
        scratch.improve(end, score + scores[Int(id)], start, id)
        if end - start == length { hasCharacter = true }
      }
      if !hasCharacter { scratch.improve(start + length, score + unknownScore, start, unknown) }
      start += length
    }
  }

  /// Appends the ids of a text without a token, the last one first.
  private func appendUnknown(_ text: Span<UInt8>, into ids: inout [Int32]) {
    // Characters that are unknown one by one may be a token together.
    if let id = tokens.id(of: text) {
      ids.append(id)
      return
    }
    if let fallback {
      // The package asks each unknown text anew whether all its bytes have tokens.
      var all = true
      for index in text.indices where fallback[Int(text[index])] < 0 { all = false }
      if all {
        for index in text.indices.reversed() { ids.append(fallback[Int(text[index])]) }
        return
      }
    }
    ids.append(unknown)
  }
}

extension UnigramEncoder.Scratch {
  /// The first one found stays where others are equal.
  @inline(__always)
  fileprivate mutating func improve(_ end: Int, _ score: Double, _ start: Int, _ id: Int32) {
    if starts[end] >= 0, score <= scores[end] { return }
    scores[end] = score
    starts[end] = Int32(truncatingIfNeeded: start)
    ids[end] = id
  }
}
