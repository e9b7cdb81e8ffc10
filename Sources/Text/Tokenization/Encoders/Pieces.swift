// A text on its way to ids: the bytes, and how they are cut so far.

/// A part of the text, or a token that was found in it.
struct Piece: Sendable {
  var range: Range<Int>
  /// The id of an added token; nil for text.
  var token: Int32?
  /// Whether the text begins here; what follows a token or another piece does not.
  var isFirst: Bool
}

struct Pieces: Sendable {
  /// UTF-8, except that the model may read it byte by byte.
  var text: [UInt8]
  var pieces: [Piece]
  /// How long the text may become.
  private let mostBytes: Int

  init(_ text: [UInt8]) {
    self.text = text
    mostBytes = Bounds.textBytes(text.count)
    pieces = text.isEmpty ? [] : [Piece(range: 0..<text.count, token: nil, isFirst: true)]
  }

  /// Keeps the cuts and replaces the text: `body` appends what becomes of a piece of text.
  mutating func rewrite(
    _ body: (_ text: [UInt8], _ piece: Piece, _ result: inout [UInt8]) throws(TokenizerError) ->
      Void
  ) throws(TokenizerError) {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    var kept: [Piece] = []
    kept.reserveCapacity(pieces.count)
    for var piece in pieces {
      if piece.token == nil {
        let start = result.count
        try body(text, piece, &result)
        try checkLength(result.count)
        piece.range = start..<result.count
        if piece.range.isEmpty { continue }
      }
      kept.append(piece)
    }
    text = result
    pieces = kept
  }

  /// Refuses what grows without end, as a normalizer that replaces `a` by a thousand of them does.
  func checkLength(_ bytes: Int) throws(TokenizerError) {
    if bytes > mostBytes {
      throw .tooLarge(
        problem: "the tokenizer's normalizers make more than \(mostBytes) bytes of a text; such "
          + "normalizers are not supported")
    }
  }
}
