// What a tokenizer may ask for: far beyond every published one, and little enough that no file can keep a run busy for
// ever.

enum Bounds {
  /// Normalizers, pre-tokenizers or decoders.
  private static let steps = 64
  /// Bytes of an added token, or of a literal that is looked for: each byte of a text is compared with so many.
  private static let literal = 1024
  /// Of a character, in a precompiled table: no published one has more than 33.
  static let replacementBytes = 128

  /// How long a text of so many bytes may become on its way to ids.
  static func textBytes(_ original: Int) -> Int { 64 << 10 + 16 * original }

  static func check(_ parts: TokenizerParts) throws(TokenizerError) {
    let decoders = parts.decoders ?? []
    for (count, kind) in [
      (parts.normalizers.count, "normalizers"), (parts.preTokenizers.count, "pre-tokenizers"),
      (decoders.count, "decoders"),
    ] where count > steps {
      throw .tooLarge(problem: "the tokenizer has \(count) \(kind), more than \(steps)")
    }
    if let token = parts.addedTokens.tokens.first(where: { $0.content.count > literal }) {
      throw .tooLarge(
        problem: "the tokenizer's added token \(token.id) has \(token.content.count) bytes, more "
          + "than \(literal)")
    }
    if case .unigram = parts.model,
      let token = parts.vocabulary.tokens.first(where: { $0.text.count > literal })
    {
      throw .tooLarge(
        problem: "the tokenizer's token \(token.id) has \(token.text.count) bytes, more than "
          + "\(literal)")
    }
    var delimiters: [Delimiter] = []
    for case .replace(let delimiter, _) in parts.normalizers { delimiters.append(delimiter) }
    for case .split(let splitter) in parts.preTokenizers { delimiters.append(splitter.delimiter) }
    for case .replace(let delimiter, _) in decoders { delimiters.append(delimiter) }
    for case .literal(let text) in delimiters where text.count > literal {
      throw .tooLarge(
        problem: "the tokenizer looks for a text of \(text.count) bytes, more than \(literal)")
    }
  }
}
