// What a tokenizer may ask for: far beyond every published one, and little enough that no file can keep a run busy for
// ever.

enum Bounds {
  /// Normalizers, pre-tokenizers or decoders.
  private static let steps = 64
  /// Special tokens that files count instead of listing them, and ids that no token has.
  static let uncounted = 1 << 16
  /// Bytes of a file: places in it are kept in 32 bits.
  static let fileBytes = 1 << 30
  /// Bytes of an expression, its sets of characters written out.
  static let expressionBytes = 4 << 20
  /// Bytes of an added token, or of a literal that is looked for: each byte of a text is compared with so many.
  static let literal = 1024
  /// What a precompiled table may make of a character: no published one has more than 33.
  static let replacementBytes = 128

  /// How long a text of so many bytes may become on its way to ids.
  static func textBytes(_ original: Int) -> Int { 64 << 10 + 16 * original }

  /// Asked for each one that is read: any of them may take megabytes.
  static func check(_ count: Int, _ kind: String, _ field: Field) throws(TokenizerError) {
    if count > steps {
      throw field.inconsistent("the tokenizer has \(count) \(kind), more than \(steps)")
    }
  }

  /// Every byte of a text is compared with so many, however short the token was before the normalizers made it longer.
  static func check(
    _ content: [UInt8], normalized token: AddedToken
  ) throws(TokenizerError) {
    if content.count > literal {
      throw .tooLarge(
        path: nil,
        problem: "the tokenizer's normalizers make \(content.count) bytes of the added token "
          + "\(quoted(token.content)), more than \(literal)")
    }
  }

  static func check(_ parts: TokenizerParts) throws(TokenizerError) {
    let decoders = parts.decoders ?? []
    if let token = parts.addedTokens.tokens.first(where: { $0.content.count > literal }) {
      throw .tooLarge(
        path: nil,
        problem: "the tokenizer's added token \(token.id) has \(token.content.count) bytes, more "
          + "than \(literal)")
    }
    if case .unigram = parts.model,
      let token = parts.vocabulary.tokens.first(where: { $0.text.count > literal })
    {
      throw .tooLarge(
        path: nil,
        problem: "the tokenizer's token \(token.id) has \(token.text.count) bytes, more than "
          + "\(literal)")
    }
    var delimiters: [Delimiter] = []
    for case .replace(let delimiter, _) in parts.normalizers { delimiters.append(delimiter) }
    for case .split(let splitter) in parts.preTokenizers { delimiters.append(splitter.delimiter) }
    for case .replace(let delimiter, _) in decoders { delimiters.append(delimiter) }
    for case .literal(let text) in delimiters where text.count > literal {
      throw .tooLarge(
        path: nil,
        problem: "the tokenizer looks for a text of \(text.count) bytes, more than \(literal)")
    }
  }
}
