// What lies beside a tokenizer's own file: tokenizer_config.json, special_tokens_map.json and added_tokens.json.

internal import JSON

/// The settings of a model folder, and the tokens that they add.
///
/// Source: transformers 5.17, `PreTrainedTokenizerBase._from_pretrained` and `TokenizersBackend.__init__`. In short:
/// where tokenizer_config.json has `added_tokens_decoder`, the other two files do not count. Else special_tokens_map.json
/// overrides the named tokens, and added_tokens.json adds some. Declared ids give an order; the ids themselves are
/// counted on from the vocabulary. Tokens that the tokenizer has take the flags of these files.
struct TokenizerSettings {
  private static let names = [
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
  ]

  /// A token as a file describes it.
  fileprivate struct Token: Hashable {
    let content: [UInt8]
    var isSingleWord = false
    var stripsLeft = false
    var stripsRight = false
    /// Nil where the file does not say: then special tokens are not, and others are.
    var isNormalized: Bool?
    var isSpecial = true
    /// An object of tokenizer_config.json is no token yet when added_tokens.json is read.
    var isObject = false

    /// - Parameter isNamed: named tokens are special.
    func added(isNamed: Bool) -> AddedToken {
      let isSpecial = isSpecial || isNamed
      return AddedToken(
        content: content, isSingleWord: isSingleWord, stripsLeft: stripsLeft,
        stripsRight: stripsRight, isNormalized: isNormalized ?? !isSpecial, isSpecial: isSpecial)
    }
  }

  let config: Field?
  /// `added_tokens_decoder` or what stands for it, by declared id.
  private var numbered: [(id: Int, token: Token)] = []
  /// Numbered tokens by content, with those whose id another token takes.
  private var flags: [[UInt8]: Token] = [:]
  /// Nil under a name that a file gives to no token.
  private var named: [String: Token?] = [:]
  /// Names beyond the usual ones, in the order in which they add their tokens: those whose token has flags or comes from
  /// special_tokens_map.json, then the rest.
  private var flaggedNames: [String] = []
  private var plainNames: [String] = []
  /// Special tokens without a name; nil where no file lists any.
  private var unnamed: [Token]?
  /// `additional_special_tokens` of special_tokens_map.json: the last that counts.
  private var olderUnnamed: [Token]?

  /// - Parameter tokenizerJSON: the added tokens of that file.
  init(folder: String, tokenizerJSON: [AddedToken] = []) throws(TokenizerError) {
    config = try Field(ifThere: "\(folder)/tokenizer_config.json")
    if let config { try read(config) }
    if let field = config?.member("added_tokens_decoder") {
      for (key, value) in try field.object().entries {
        let place = Field(file: field.file, at: "\(field.at).\(key)", value: value)
        guard let id = Int(key), (0..<1 << 24).contains(id) else {
          throw place.inconsistent("the key is not a token id")
        }
        let token = try place.token(isObject: false)
        numbered.append((id, token))
        flags[token.content] = token
      }
    } else {
      try readOlderFiles(folder, tokenizerJSON)
    }
    numbered.sort { $0.id < $1.id }
    // The flags of a named token are those of the numbered one of its content.
    for name in Self.names {
      if let token = named[name]??.content, let known = flags[token] { named[name] = known }
    }
  }

  private mutating func read(_ config: Field) throws(TokenizerError) {
    let object = try config.object()
    for (key, value) in object.entries where key.hasSuffix("_token") {
      let isPlain = value.string != nil
      // Other keys of this ending are settings, such as `add_bos_token`.
      guard Self.names.contains(key) || isPlain || value.object?["content"] != nil else { continue }
      try setName(key, config.member(key), isPlain: isPlain)
    }
    if let field = config.member("extra_special_tokens"), let members = field.value.object {
      // The list under the older name does not count then.
      for name in members.keys { try setName(name, field.member(name), isPlain: true) }
      return
    }
    for key in ["extra_special_tokens", "additional_special_tokens"] where object[key] != nil {
      unnamed = try config.member(key)?.tokens() ?? []
      return
    }
  }

  private mutating func readOlderFiles(
    _ folder: String, _ tokenizerJSON: [AddedToken]
  ) throws(TokenizerError) {
    if let map = try Field(ifThere: "\(folder)/special_tokens_map.json") {
      for key in try map.object().keys where key.hasSuffix("_token") {
        try setName(key, map.member(key), isSpecial: true)
      }
      if let field = map.member("extra_special_tokens") {
        if let members = field.value.object {
          for name in members.keys { try setName(name, field.member(name), isPlain: true) }
        } else {
          let known = Set(unnamed ?? [])
          unnamed =
            try (unnamed ?? []) + field.tokens(areSpecial: true).filter { !known.contains($0) }
        }
      }
      olderUnnamed = try map.member("additional_special_tokens")?.tokens(areSpecial: true)
    }
    var byID: [Int: Token] = [:]
    if let list = try Field(ifThere: "\(folder)/added_tokens.json") {
      let tokens = Self.names.compactMap { named[$0] ?? nil } + (unnamed ?? [])
      let special = Set(tokens.filter { !$0.isObject }.map(\.content))
      for (text, value) in try list.object().entries {
        let content = Array(text.utf8)
        let isSpecial = special.contains(content)
        let id = try Field(file: list.file, at: "\(list.at).\(text)", value: value).id()
        let token = Token(content: content, isNormalized: !isSpecial, isSpecial: isSpecial)
        byID[Int(id)] = token
        flags[content] = token
      }
    }
    for token in tokenizerJSON {
      let own = Token(
        content: token.content, isSingleWord: token.isSingleWord, stripsLeft: token.stripsLeft,
        stripsRight: token.stripsRight, isNormalized: token.isNormalized,
        isSpecial: token.isSpecial)
      byID[Int(token.id)] = own
      flags[own.content] = own
    }
    numbered = byID.map { ($0, $1) }
  }

  private mutating func setName(
    _ name: String, _ field: Field?, isPlain: Bool = false, isSpecial: Bool = false
  ) throws(TokenizerError) {
    let token = try field?.token(isSpecial: isSpecial, isObject: !isSpecial)
    if !Self.names.contains(name) {
      // A plain one of tokenizer_config.json is not overridden.
      if !isPlain, plainNames.contains(name) { return }
      if isPlain { plainNames.append(name) } else { flaggedNames.append(name) }
    }
    named[name] = .some(token)
  }

  private func named(_ parts: TokenizerParts) -> [Token] {
    let other = flaggedNames + plainNames.filter { !flaggedNames.contains($0) }
    return (Self.names + other).compactMap { token($0, parts) }
  }

  private func token(_ name: String, _ parts: TokenizerParts) -> Token? {
    if let token = named[name] { return token }
    return parts.namedTokens[name].map { Token(content: $0) }
  }

  // MARK: What they change

  /// Adds the tokens to those of the tokenizer's own file, and takes their names from the tokenizer's own.
  func addTokens(to parts: inout TokenizerParts) {
    let named = named(parts)
    let own = parts.unnamedTokens?.map {
      Token(content: $0.content, isNormalized: $0.isNormalized, isSpecial: $0.isSpecial)
    }
    let special = named + (unnamed ?? own ?? olderUnnamed ?? [])
    var added = numbered.map(\.token)
    let known = Set(parts.addedTokens.tokens.map(\.content) + added.map(\.content))
    var seen = Set(added)
    for token in special where !known.contains(token.content) && seen.insert(token).inserted {
      added.append(token)
    }
    if parts.addsSpecialTokensPlainly { added += special.map { Token(content: $0.content) } }
    for name in self.named.keys { parts.namedTokens[name] = nil }
    let names = Set(named.map(\.content))
    for token in added where !token.content.isEmpty {
      parts.addedTokens.add(
        token.added(isNamed: names.contains(token.content)), parts.vocabulary)
    }
  }

  /// The contents of `added_tokens_decoder`, or of what stands for it, in the order of the declared ids.
  var numberedContents: [(id: Int, content: [UInt8])] { numbered.map { ($0.id, $0.token.content) } }

  /// What comes after `count` ranks of a file that transformers takes for tiktoken's.
  /// Source: `TokenizersBackend._convert_from_tiktoken`.
  func tokensBehind(_ count: Int) throws(TokenizerError) -> [[UInt8]] {
    let listed = (unnamed ?? []).map(\.content)
    guard let last = numbered.last?.id, last >= count else { return listed }
    guard last - count < Bounds.uncounted else {
      throw .tooLarge(
        path: config?.file,
        problem:
          "a token of tokenizer_config.json has the id \(last), and the ranks before it end at \(count)"
      )
    }
    var contents: [Int: [UInt8]] = [:]
    for (id, content) in numberedContents { contents[id] = content }
    let behind = (count...last).map { contents[$0] ?? Array("<|reserved_token_\($0)|>".utf8) }
    let known = Set(behind)
    return behind + listed.filter { !known.contains($0) }
  }

  /// Sets the tokens around a text, where tokenizer_config.json speaks of them or the tokenizer's own file does not.
  func setPostProcessor(of parts: inout TokenizerParts) throws(TokenizerError) {
    let keys = ["add_bos_token", "add_eos_token"]
    let isSet = keys.contains { config?.value.object?[$0] != nil }
    if parts.postProcessors != nil, !isSet { return }
    let begin = try id("bos_token", where: keys[0], parts)
    let end = try id("eos_token", where: keys[1], parts)
    parts.postProcessors = [PostProcessor(before: begin, after: end)]
  }

  private func id(
    _ name: String, where key: String, _ parts: TokenizerParts
  ) throws(TokenizerError) -> [Int32] {
    let isWanted = try config?.member(key)?.bool() ?? false
    guard isWanted, let token = token(name, parts),
      let id = parts.addedTokens.id(of: token.content)
    else { return [] }
    return [id]
  }
}

extension Field {
  /// A token: its content, or an object with its flags.
  ///
  /// - Parameter isSpecial: whether it is, whatever the object says.
  fileprivate func token(
    isSpecial: Bool = false, isObject: Bool = true
  ) throws(TokenizerError) -> TokenizerSettings.Token {
    if let text = value.string { return TokenizerSettings.Token(content: Array(text.utf8)) }
    guard value.object != nil else { throw unexpected("a token") }
    let members = try members([
      "__type", "content", "single_word", "lstrip", "rstrip", "normalized", "special",
    ])
    return TokenizerSettings.Token(
      content: Array(try members.required("content").string().utf8),
      isSingleWord: try members.bool("single_word", default: false),
      stripsLeft: try members.bool("lstrip", default: false),
      stripsRight: try members.bool("rstrip", default: false),
      isNormalized: try members["normalized"]?.bool(),
      isSpecial: try members.bool("special", default: false) || isSpecial, isObject: isObject)
  }

  fileprivate func tokens(
    areSpecial: Bool = false
  ) throws(TokenizerError) -> [TokenizerSettings.Token] {
    var tokens: [TokenizerSettings.Token] = []
    for element in try elements() {
      tokens.append(try element.token(isSpecial: areSpecial, isObject: !areSpecial))
    }
    return tokens
  }
}
