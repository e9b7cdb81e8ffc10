// Tokens that are found in the text before anything else is: `<|user|>`, `<think>`.

struct AddedToken: Sendable, Equatable {
  let content: [UInt8]
  /// Nothing until it is added to a list.
  var id: Int32 = -1
  /// Matches only where no word character stands next to it.
  var isSingleWord = false
  /// Swallows the white space before it.
  var stripsLeft = false
  /// Swallows the white space behind it.
  var stripsRight = false
  /// Is looked for in the normalized text, by its normalized content.
  var isNormalized = false
  /// Changes nothing in matching; `special` tokens are looked for first.
  var isSpecial = false
}

/// Added tokens with the ids that the tokenizers package gives them: that of the vocabulary where the content is in
/// it, else they are counted on from the number of its tokens.
struct AddedTokenList: Sendable {
  private(set) var tokens: [AddedToken] = []
  private var positions: [[UInt8]: Int] = [:]
  private var largest: Int32 = -1

  init() {}

  /// Tokens whose scheme gives them their ids.
  init(numbered tokens: [AddedToken]) {
    for token in tokens { append(token) }
  }

  func contains(_ content: [UInt8]) -> Bool { positions[content] != nil }

  func id(of content: [UInt8]) -> Int32? { positions[content].map { tokens[$0].id } }

  /// Adds a token. One of this content that was there before keeps its id and takes the new flags.
  @discardableResult
  mutating func add(_ token: AddedToken, _ vocabulary: Vocabulary) -> Int32 {
    var token = token
    if let position = positions[token.content] {
      token.id = tokens[position].id
      tokens[position] = token
    } else {
      token.id =
        vocabulary.id(of: token.content)
        ?? (largest >= vocabulary.count ? largest + 1 : Int32(vocabulary.count))
      append(token)
    }
    return token.id
  }

  private mutating func append(_ token: AddedToken) {
    positions[token.content] = tokens.count
    tokens.append(token)
    largest = max(largest, token.id)
  }
}

/// Finds added tokens, leftmost first, the longest of those that start there.
struct AddedTokenMatcher: Sendable {
  let tokens: [AddedToken]
  /// What each token is looked for by.
  let patterns: [[UInt8]]
  private var trie = ByteTrie()

  /// - Parameter patterns: what each token is looked for by, none empty; of equal ones the first counts.
  init(_ tokens: [AddedToken], patterns: [[UInt8]]) {
    self.tokens = tokens
    self.patterns = patterns
    for (index, pattern) in patterns.enumerated() { trie.insert(pattern, Int32(index)) }
  }

  var isEmpty: Bool { tokens.isEmpty }

  /// Cuts the tokens out of every piece of text.
  func split(_ pieces: inout Pieces) {
    if isEmpty { return }
    var result: [Piece] = []
    for piece in pieces.pieces {
      if piece.token == nil {
        split(pieces.text, piece, into: &result)
      } else {
        result.append(piece)
      }
    }
    pieces.pieces = result
  }

  private func split(_ text: [UInt8], _ piece: Piece, into result: inout [Piece]) {
    let range = piece.range
    var done = range.lowerBound
    var position = range.lowerBound
    // White space that was looked through already: a token in every place of it would look through it again.
    var spaces = range.lowerBound..<range.lowerBound
    while let (index, match) = nextMatch(text, position..<range.upperBound) {
      position = match.upperBound
      let token = tokens[index]
      // A match that is no word of its own is passed over as a whole, not from its second byte on.
      if token.isSingleWord, !isWord(text, match, in: range) { continue }
      var start = match.lowerBound
      var end = match.upperBound
      if token.stripsLeft {
        while start > done {
          let before = scalarStart(in: text, before: start)
          guard UnicodeSets.space.contains(scalar(in: text, at: before).value) else { break }
          start = before
        }
        start = max(start, done)
      }
      if token.stripsRight {
        if spaces.contains(end) { end = spaces.upperBound }
        let first = end
        while end < range.upperBound {
          let (value, next) = scalar(in: text, at: end)
          guard UnicodeSets.space.contains(value) else { break }
          end = next
        }
        if first < end { spaces = first..<end }
      }
      // An earlier token took the white space that this one consists of.
      if start >= end { continue }
      if done < start {
        result.append(piece.part(done..<start))
      }
      result.append(Piece(range: start..<end, token: token.id))
      done = end
    }
    if done < range.upperBound {
      result.append(piece.part(done..<range.upperBound))
    }
  }

  private func nextMatch(_ text: [UInt8], _ range: Range<Int>) -> (token: Int, Range<Int>)? {
    for start in range {
      var node = ByteTrie.root
      var position = start
      var longest: (Int, Range<Int>)?
      while position < range.upperBound {
        node = trie.child(node, text[position])
        if node < 0 { break }
        position += 1
        let index = trie.value(node)
        if index >= 0 { longest = (Int(index), start..<position) }
      }
      if let longest { return longest }
    }
    return nil
  }

  private func isWord(_ text: [UInt8], _ match: Range<Int>, in range: Range<Int>) -> Bool {
    if match.lowerBound > range.lowerBound {
      let before = scalarStart(in: text, before: match.lowerBound)
      if UnicodeSets.wordNextToToken.contains(scalar(in: text, at: before).value) { return false }
    }
    if match.upperBound < range.upperBound {
      let value = scalar(in: text, at: match.upperBound).value
      if UnicodeSets.wordNextToToken.contains(value) { return false }
    }
    return true
  }
}
