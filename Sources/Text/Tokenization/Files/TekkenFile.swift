// Mistral's tekken.json: ranks of byte strings, an expression that cuts text, and special tokens before them all.

internal import JSON

extension TokenizerParts {
  /// Source: transformers 5.17, `MistralConverter`: special tokens take the first ids, the ranks follow.
  init(tekken path: String) throws(TokenizerError) {
    let root = try Field(path: path)
    _ = try root.object()
    guard let config = root.member("config"), let list = root.member("vocab") else {
      throw root.unexpected("`config` and `vocab`")
    }
    let special = try Self.specialTokens(root, config)
    var entries = try list.elements()[...]
    if let size = config.member("default_vocab_size") {
      let count = Int(try size.id()) - special.count
      guard count >= 0 else { throw size.inconsistent("there are \(special.count) special tokens") }
      // The rest is padding.
      entries = entries.prefix(count)
    }
    var ranks: [(text: [UInt8], id: Int32)] = []
    var seen = ByteTable(reserving: entries.count)
    for entry in entries {
      guard let field = entry.member("token_bytes"), let text = base64(try field.string().utf8),
        !text.isEmpty
      else { throw entry.unexpected("a token in base64 as `token_bytes`") }
      guard text.count <= RankFile.longestToken else {
        throw entry.inconsistent("the token has more than \(RankFile.longestToken) bytes")
      }
      guard seen.find(text.span) == nil else {
        throw entry.inconsistent("the token is there already")
      }
      seen.add(text.span)
      ranks.append((text, Int32(special.count + ranks.count)))
    }
    guard special.count + ranks.count <= 1 << 24 else {
      throw list.inconsistent("there are more than \(1 << 24) tokens")
    }
    guard let field = config.member("pattern") else { throw config.unexpected("a key `pattern`") }
    let pattern = try readPattern(try field.string(), field)
    self.init(ranks: ranks, special: special, pattern: pattern)
    for token in special {
      addedTokens.add(AddedToken(content: token, isSpecial: true), vocabulary)
    }
  }

  /// The special tokens by rank, and `<SPECIAL_n>` for what is left of their number.
  private static func specialTokens(
    _ root: Field, _ config: Field
  ) throws(TokenizerError) -> [[UInt8]] {
    var names: [[UInt8]?] = olderSpecialTokens.map { Array($0.utf8) }
    if let list = root.member("special_tokens") {
      let entries = try list.elements()
      names = Array(repeating: nil, count: entries.count)
      for entry in entries {
        guard let rank = entry.member("rank"), let name = entry.member("token_str") else {
          throw entry.unexpected("`rank` and `token_str`")
        }
        let place = Int(try rank.id())
        guard place < names.count, names[place] == nil else {
          throw rank.inconsistent("the ranks are not those from 0 to \(names.count - 1)")
        }
        names[place] = Array(try name.string().utf8)
      }
    }
    var tokens = names.compactMap { $0 }
    if let field = config.member("default_num_special_tokens") {
      let count = try field.id()
      guard count >= tokens.count, Int(count) <= tokens.count + Bounds.uncounted else {
        throw field.inconsistent("there are \(tokens.count) special tokens")
      }
      while tokens.count < count { tokens.append(Array("<SPECIAL_\(tokens.count)>".utf8)) }
    }
    guard !tokens.contains([]), Set(tokens).count == tokens.count else {
      throw root.inconsistent("a special token is empty or there twice")
    }
    return tokens
  }

  /// What files have that list none. Source: mistral_common, `Tekkenizer.DEPRECATED_SPECIAL_TOKENS`.
  private static let olderSpecialTokens = [
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
  ]
}
