// SentencePiece's model files (`tokenizer.model`): the pieces, and what the trainer wrote of how to use them.

/// Source: `sentencepiece_model.proto` of google/sentencepiece. Only what transformers reads is kept: it leaves out
/// the dummy prefix and the removal of white space, and so does this.
struct SentencePieceModel: Sendable {
  struct Piece: Sendable {
    enum Kind: Int32, Sendable {
      case normal = 1
      case unknown = 2
      case control = 3
      case userDefined = 4
      case unused = 5
      case byte = 6
    }

    let text: [UInt8]
    let score: Float
    let kind: Kind
  }

  private(set) var pieces: [Piece] = []
  private(set) var isUnigram = true
  private(set) var fallsBackToBytes = false
  private(set) var unknownID: Int32 = 0
  private(set) var beginID: Int32 = 1
  private(set) var endID: Int32 = 2
  private(set) var unknownPiece = Array("<unk>".utf8)
  private(set) var beginPiece = Array("<s>".utf8)
  private(set) var endPiece = Array("</s>".utf8)
  /// Empty where text is not normalized.
  private(set) var charsmap: [UInt8] = []

  init(_ bytes: [UInt8], path: String) throws(TokenizerError) {
    do {
      try read(bytes)
    } catch {
      throw .badSentencePiece(path: path, at: error.at, problem: error.text)
    }
    if pieces.isEmpty {
      throw .unreadable(path: path, problem: "a SentencePiece model without pieces")
    }
    var seen = ByteTable(reserving: pieces.count)
    for (id, piece) in pieces.enumerated() {
      guard seen.find(piece.text.span) == nil else {
        throw .unreadable(
          path: path, problem: "piece \(id) is there already: \(quoted(piece.text))")
      }
      seen.add(piece.text.span)
    }
    guard pieces.indices.contains(Int(unknownID)) || !isUnigram else {
      throw .unreadable(
        path: path,
        problem: "the unknown piece is number \(unknownID), but there are \(pieces.count) pieces")
    }
  }

  private mutating func read(_ bytes: [UInt8]) throws(MessageReader.Problem) {
    var model = MessageReader(bytes[...])
    while let field = try model.next() {
      switch field.number {
      case 1: try readPiece(field)
      case 2: try readTrainer(field)
      case 3:
        var normalizer = MessageReader(try field.bytes("normalizer_spec"))
        while let field = try normalizer.next() {
          if field.number == 2 { charsmap = Array(try field.bytes("precompiled_charsmap")) }
        }
      default: break
      }
    }
  }

  private mutating func readPiece(_ field: MessageField) throws(MessageReader.Problem) {
    func problem(_ text: String) -> MessageReader.Problem {
      MessageReader.Problem(at: field.start, text: "piece \(pieces.count) \(text)")
    }
    var text: [UInt8] = []
    var score: Float = 0
    var kind = Piece.Kind.normal
    var message = MessageReader(try field.bytes("pieces"))
    while let field = try message.next() {
      switch field.number {
      case 1: text = try field.text("piece")
      case 2: score = try field.float("score")
      case 3:
        let number = try field.int("type")
        guard let known = Piece.Kind(rawValue: number) else {
          throw problem("has the unknown type \(number)")
        }
        kind = known
      default: break
      }
    }
    if text.isEmpty { throw problem("is empty") }
    if text.count > RankFile.longestToken {
      throw problem("has \(text.count) bytes, more than \(RankFile.longestToken)")
    }
    if !score.isFinite { throw problem("has the score \(score)") }
    // Ids beyond this are refused everywhere.
    if pieces.count == 1 << 24 { throw problem("is one too many") }
    pieces.append(Piece(text: text, score: score, kind: kind))
  }

  private mutating func readTrainer(_ field: MessageField) throws(MessageReader.Problem) {
    var trainer = MessageReader(try field.bytes("trainer_spec"))
    while let field = try trainer.next() {
      switch field.number {
      case 3:
        let type = try field.int("model_type")
        guard type == 1 || type == 2 else {
          throw MessageReader.Problem(
            at: field.start, text: "model type \(type), expected 1 (unigram) or 2 (byte pairs)")
        }
        isUnigram = type == 1
      case 35: fallsBackToBytes = try field.int("byte_fallback") != 0
      case 40: unknownID = try field.int("unk_id")
      case 41: beginID = try field.int("bos_id")
      case 42: endID = try field.int("eos_id")
      case 45: unknownPiece = try field.text("unk_piece")
      case 46: beginPiece = try field.text("bos_piece")
      case 47: endPiece = try field.text("eos_piece")
      default: break
      }
    }
  }
}

extension SentencePieceModel {
  var vocabulary: Vocabulary {
    Vocabulary(pieces.enumerated().map { (text: $1.text, id: Int32($0)) })
  }

  /// Every way to cut a piece in two, in the order of the pieces, the shortest left part first.
  func merges(_ vocabulary: Vocabulary) -> MergeTable {
    MergeTable(
      pieces.enumerated().flatMap { id, piece in
        vocabulary.cuts(piece.text).map { ($0.left, $0.right, Int32(id)) }
      })
  }

  /// Control and user-defined pieces, which are found in the text before anything else is.
  var addedTokens: [AddedToken] {
    pieces.compactMap { piece in
      switch piece.kind {
      case .control: AddedToken(content: piece.text, isSpecial: true)
      case .userDefined: AddedToken(content: piece.text)
      default: nil
      }
    }
  }

  var namedTokens: [String: [UInt8]] {
    var names: [String: [UInt8]] = [:]
    for (name, id, piece, standard) in [
      ("bos_token", beginID, beginPiece, "<s>"), ("eos_token", endID, endPiece, "</s>"),
      ("unk_token", unknownID, unknownPiece, "<unk>"),
    ] where id >= 0 {
      names[name] = piece.isEmpty ? Array(standard.utf8) : piece
    }
    return names
  }

  /// The vocabulary with the texts that the settings give to ids. Source: `_convert_from_sentencepiece`, which renames
  /// pieces of byte pairs only.
  func vocabulary(renamed settings: TokenizerSettings) -> Vocabulary {
    if isUnigram { return vocabulary }
    var texts = pieces.map(\.text)
    var known = Set(texts)
    for (id, content) in settings.numberedContents where texts.indices.contains(id) {
      guard known.insert(content).inserted else { continue }
      known.remove(texts[id])
      texts[id] = content
    }
    return Vocabulary(texts.enumerated().map { (text: $1, id: Int32($0)) })
  }
}
