// A text on its way to ids: the bytes, and how they are cut so far.

/// A part of the text, or a token that was found in it.
struct Piece: Sendable {
  var range: Range<Int>
  /// The id of an added token; nil for text.
  var token: Int32?
  // 16 bits leave a piece at 24 bytes; only a prefix of more than 64 KiB is cut short.
  private var head: UInt16

  /// How many bytes at its beginning come from the first character of the text as it was given; 0 where the piece does
  /// not begin there. As in the package a prefix counts as a part of that character, and so does what replaces it.
  var headBytes: Int {
    get { Int(head) }
    set { head = UInt16(clamping: newValue) }
  }

  init(range: Range<Int>, token: Int32? = nil, headBytes: Int = 0) {
    self.range = range
    self.token = token
    head = UInt16(clamping: headBytes)
  }

  /// A part of it, as a piece of its own.
  func part(_ range: Range<Int>) -> Piece {
    Piece(range: range, headBytes: headBytes - (range.lowerBound - self.range.lowerBound))
  }
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
    pieces =
      text.first.map {
        [Piece(range: 0..<text.count, headBytes: min(scalarLength($0), text.count))]
      } ?? []
  }

  /// Keeps the cuts and replaces the text: `body` appends what becomes of a piece of text, and sets how much of that is
  /// its head.
  mutating func rewrite(
    _ body: (_ text: [UInt8], _ piece: inout Piece, _ result: inout [UInt8]) throws(TokenizerError)
      -> Void
  ) throws(TokenizerError) {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    var kept: [Piece] = []
    kept.reserveCapacity(pieces.count)
    for var piece in pieces {
      if piece.token == nil {
        let start = result.count
        try body(text, &piece, &result)
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
        path: nil,
        problem: "the tokenizer's normalizers make more than \(mostBytes) bytes of a text; such "
          + "normalizers are not supported")
    }
  }
}
