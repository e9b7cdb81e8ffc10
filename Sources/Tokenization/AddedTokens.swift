// Tokens that are found in the text before anything else is: `<|user|>`, `<think>`.

struct AddedToken: Sendable {
  let content: [UInt8]
  let id: Int32
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

/// Finds added tokens, leftmost first, the longest of those that start there.
struct AddedTokenMatcher: Sendable {
  let tokens: [AddedToken]
  /// What each token is looked for by.
  let patterns: [[UInt8]]
  /// A trie: child by node and byte, and the token that ends at a node.
  private var children: [UInt64: Int32] = [:]
  private var ends: [Int32] = [-1]
  private var firstNodes = [Int32](repeating: -1, count: 256)

  /// - Parameter patterns: what each token is looked for by; of equal ones the first counts.
  init(_ tokens: [AddedToken], patterns: [[UInt8]]) {
    self.tokens = tokens
    self.patterns = patterns
    for (index, pattern) in patterns.enumerated() {
      var node = 0
      for (depth, byte) in pattern.enumerated() {
        let key = UInt64(node) << 8 | UInt64(byte)
        if let child = children[key] {
          node = Int(child)
        } else {
          ends.append(-1)
          children[key] = Int32(ends.count - 1)
          node = ends.count - 1
        }
        if depth == 0 { firstNodes[Int(byte)] = Int32(node) }
      }
      if ends[node] < 0 { ends[node] = Int32(index) }
    }
  }

  var isEmpty: Bool { tokens.isEmpty }

  /// An empty pattern would match everywhere.
  var hasEmptyPattern: Bool { ends[0] >= 0 }

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
    while let (index, match) = nextMatch(text, position..<range.upperBound) {
      position = match.upperBound
      let token = tokens[index]
      // A match that is no word of its own is passed over as a whole, not from its second byte on.
      if token.isSingleWord, !isWord(text, match, in: range) { continue }
      var start = match.lowerBound
      var end = match.upperBound
      if token.stripsLeft {
        while start > range.lowerBound {
          let before = scalarStart(in: text, before: start)
          guard UnicodeSets.space.contains(scalar(in: text, at: before).value) else { break }
          start = before
        }
        start = max(start, done)
      }
      if token.stripsRight {
        while end < range.upperBound {
          let (value, next) = scalar(in: text, at: end)
          guard UnicodeSets.space.contains(value) else { break }
          end = next
        }
      }
      if done < start {
        result.append(
          Piece(range: done..<start, token: nil, isFirst: piece.isFirst && done == range.lowerBound)
        )
      }
      result.append(Piece(range: start..<end, token: token.id, isFirst: false))
      done = end
    }
    if done < range.upperBound {
      result.append(
        Piece(
          range: done..<range.upperBound, token: nil,
          isFirst: piece.isFirst && done == range.lowerBound))
    }
  }

  private func nextMatch(_ text: [UInt8], _ range: Range<Int>) -> (token: Int, Range<Int>)? {
    for start in range {
      var node = firstNodes[Int(text[start])]
      if node < 0 { continue }
      var position = start + 1
      var longest: (Int, Range<Int>)?
      while true {
        if ends[Int(node)] >= 0 { longest = (Int(ends[Int(node)]), start..<position) }
        guard position < range.upperBound,
          let child = children[UInt64(node) << 8 | UInt64(text[position])]
        else { break }
        node = child
        position += 1
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
