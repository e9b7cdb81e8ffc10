// Files of ranks: byte strings in the order in which they are merged. Their names or transformers tell the scheme.

internal import JSON

extension Tokenizer {
  /// Source: `tokenization_kimi.py` of moonshotai/Kimi-K2: 256 special tokens follow the ranks,
  /// named by `added_tokens_decoder` of tokenizer_config.json or `<|reserved_token_ID|>`.
  init(kimiFolder folder: String) throws(TokenizerError) {
    let ranks = try RankFile(path: "\(folder)/tiktoken.model")
    let names = try addedNames("\(folder)/tokenizer_config.json")
    let first = Int32(ranks.tokens.count)
    let special = (first..<first + 256).map { id in
      AddedToken(
        content: Array((names[id] ?? "<|reserved_token_\(id)|>").utf8), id: id, isSpecial: true)
    }
    let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"#
    let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"#
    let start = #"[^\r\n\p{L}\p{N}]?"#
    let ending = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    let pattern = [
      #"[\p{Han}]+"#, start + upper + "*" + lower + "+" + ending,
      start + upper + "+" + lower + "*" + ending, #"\p{N}{1,3}"#, #" ?[^\s\p{L}\p{N}]+[\r\n]*"#,
      #"\s*[\r\n]+"#, #"\s+(?!\S)"#, #"\s+"#,
    ].joined(separator: "|")
    try self.init(ranks, pattern: pattern, special: special, slices: TextSlices())
  }

  /// Source: `tokenization_hy.py` of tencent/Hunyuan-A13B-Instruct: 210 special tokens follow the
  /// ranks. Text is composed as of Unicode 9; the Python code does it as of its own version.
  init(hunyuanFolder folder: String) throws(TokenizerError) {
    let ranks = try RankFile(path: "\(folder)/hy.tiktoken", renumbers: true)
    let names =
      ["<|endoftext|>", "<|startoftext|>", "<|bos|>", "<|eos|>", "<|pad|>"]
      + (0..<205).map { "<|extra_\($0)|>" }
    let first = Int32(ranks.tokens.count)
    let special = names.enumerated().map { index, name in
      AddedToken(content: Array(name.utf8), id: first + Int32(index), isSpecial: true)
    }
    let pattern =
      #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"#
      + #"|\s*[\r\n]+|\s+(?!\S)|\s+"#
    // The text is composed before anything is looked for in it, so the special tokens, which
    // composition leaves alone, may as well be found afterwards.
    try self.init(
      ranks, pattern: pattern,
      special: special.map { token in
        var token = token
        token.isNormalized = true
        return token
      }, normalizers: [.nfc])
  }

  private init(
    _ ranks: RankFile, pattern: String, special: [AddedToken], normalizers: [Normalizer] = [],
    slices: TextSlices? = nil
  ) throws(TokenizerError) {
    let vocabulary = Vocabulary(ranks.tokens.map { (spelled($0.text), $0.id) })
    let merges = ranks.merges(Vocabulary(ranks.tokens))
    var parts = TokenizerParts(
      vocabulary: vocabulary,
      model: .bytePairs(
        BytePairEncoder(vocabulary, merges, readsBytes: true, ignoresMerges: true)))
    parts.addedTokens = AddedTokenList(numbered: special)
    parts.normalizers = normalizers
    parts.preTokenizers = [.pieces(of: Pattern(builtIn: pattern))]
    parts.decoders = [.byteLevel]
    parts.slices = slices
    try self.init(parts, path: ranks.path)
  }
}

/// Bytes as byte-level vocabularies write them.
private func spelled(_ bytes: [UInt8]) -> [UInt8] {
  var text: [UInt8] = []
  for byte in bytes { append(ByteAlphabet.scalars[Int(byte)], to: &text) }
  return text
}

// MARK: As transformers converts them

extension TokenizerParts {
  /// Source: transformers 5.17, `TikTokenConverter` and `MistralConverter`.
  ///
  /// - Parameters:
  ///   - ranks: ids ascending.
  ///   - special: tokens of the vocabulary with the ids from 0 on. One that spells the bytes of a rank takes its place.
  init(ranks: [(text: [UInt8], id: Int32)], special: [[UInt8]], pattern: Pattern) {
    let places = Dictionary(
      uniqueKeysWithValues: special.enumerated().map { ($1, Int32($0)) })
    let byBytes = Vocabulary(ranks)
    var replaced: [Int32: Int32] = [:]
    var tokens = special.enumerated().map { (text: $1, id: Int32($0)) }
    for (bytes, id) in ranks {
      let text = spelled(bytes)
      if let place = places[text] { replaced[id] = place } else { tokens.append((text, id)) }
    }
    func final(_ id: Int32) -> Int32 { replaced[id] ?? id }
    var merges: [(left: Int32, right: Int32, id: Int32)] = []
    for (bytes, id) in ranks {
      merges += byBytes.cuts(bytes)
        .sorted { ($0.left, $0.right) < ($1.left, $1.right) }
        .map { (final($0.left), final($0.right), final(id)) }
    }
    let vocabulary = Vocabulary(tokens)
    self.init(
      vocabulary: vocabulary,
      model: .bytePairs(
        BytePairEncoder(vocabulary, MergeTable(merges), readsBytes: true, ignoresMerges: true)))
    preTokenizers = [.pieces(of: pattern)]
    decoders = [.byteLevel]
    postProcessors = []
  }

  /// Ranks under the name of a SentencePiece file. Special tokens follow them: those that tokenizer_config.json numbers,
  /// placeholders in the gaps, and those that it only lists.
  init(
    ranks path: String, _ bytes: [UInt8], _ settings: TokenizerSettings
  ) throws(TokenizerError) {
    let ranks = try RankFile(path, bytes)
    let pattern =
      #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"#
      + #"|\s*[\r\n]+|\s+(?!\S)|\s+"#
    self.init(ranks: ranks.tokens, special: [], pattern: Pattern(builtIn: pattern))
    for content in try settings.tokensBehind(ranks.tokens.count) {
      addedTokens.add(AddedToken(content: content, isSpecial: true), vocabulary)
    }
  }
}

extension Vocabulary {
  /// Every way to cut a token's bytes into two tokens, the shortest left one first.
  func cuts(_ bytes: [UInt8]) -> [(left: Int32, right: Int32)] {
    let span = bytes.span
    var cuts: [(left: Int32, right: Int32)] = []
    for middle in 1..<max(bytes.count, 1) {
      if let left = id(of: span.extracting(..<middle)),
        let right = id(of: span.extracting(middle...))
      {
        cuts.append((left, right))
      }
    }
    return cuts
  }
}

/// The names that tokenizer_config.json gives to ids; none where there is no such file.
private func addedNames(_ path: String) throws(TokenizerError) -> [Int32: String] {
  var names: [Int32: String] = [:]
  guard let field = try Field(ifThere: path)?.member("added_tokens_decoder"),
    let entries = field.value.object
  else { return names }
  for (key, entry) in entries.entries {
    guard let id = Int32(key), let name = entry.object?["content"]?.string else {
      throw .inconsistent(
        path: path, at: "\(field.at).\(key)", problem: "expected an id and a `content`")
    }
    names[id] = name
  }
  return names
}

/// Lines of a token in base64 and its rank, which is its id.
struct RankFile {
  /// No tokenizer has a longer token, and cutting it in two at every place takes the square of its length.
  static let longestToken = 1024

  let path: String
  let tokens: [(text: [UInt8], id: Int32)]

  /// Whether the file begins like ranks.
  static func isOne(_ bytes: [UInt8]) -> Bool {
    let line = bytes.prefix { $0 != UInt8(ascii: "\n") }
    return rank(line) != nil
  }

  init(path: String, renumbers: Bool = false) throws(TokenizerError) {
    try self.init(path, try readFile(path), renumbers: renumbers)
  }

  private static func rank(_ line: ArraySlice<UInt8>) -> (text: [UInt8], rank: Int32)? {
    let parts = line.split(separator: UInt8(ascii: " "))
    guard parts.count == 2, let text = base64(parts[0]), !text.isEmpty,
      let rank = Int32(String(decoding: parts[1], as: UTF8.self))
    else { return nil }
    return (text, rank)
  }

  /// - Parameter renumbers: whether tokens are counted as they come, repeated ones passed over, and
  ///   the ranks in the file ignored. `tokenization_hy.py` reads its file so.
  init(
    _ path: String, _ bytes: [UInt8], renumbers: Bool = false
  ) throws(TokenizerError) {
    var tokens: [(text: [UInt8], id: Int32)] = []
    var seen: Set<[UInt8]> = []
    let newline = UInt8(ascii: "\n")
    for (index, line) in bytes.split(separator: newline, omittingEmptySubsequences: false)
      .enumerated()
    {
      if line.isEmpty { continue }
      guard let (text, rank) = Self.rank(line) else {
        throw .badLine(
          path: path, line: index + 1, problem: "expected a token in base64 and its rank")
      }
      guard text.count <= Self.longestToken else {
        throw .badLine(
          path: path, line: index + 1,
          problem: "the token has \(text.count) bytes, more than \(Self.longestToken)")
      }
      let isNew = seen.insert(text).inserted
      if renumbers {
        if isNew { tokens.append((text, Int32(tokens.count))) }
        continue
      }
      guard Int(rank) == tokens.count else {
        throw .badLine(
          path: path, line: index + 1, problem: "expected rank \(tokens.count), found \(rank)")
      }
      guard isNew else {
        throw .badLine(path: path, line: index + 1, problem: "the token has a rank already")
      }
      tokens.append((text, rank))
    }
    for byte in 0..<256 where !seen.contains([UInt8(byte)]) {
      throw .badLine(
        path: path, line: tokens.count, problem: "the file ends without a token of the byte \(byte)"
      )
    }
    self.path = path
    self.tokens = tokens
  }

  /// Every way to cut a token in two: the lowest rank is made first, whatever it is made of.
  func merges(_ vocabulary: Vocabulary) -> MergeTable {
    var found: [(left: Int32, right: Int32, id: Int32)] = []
    for (text, id) in tokens {
      found += vocabulary.cuts(text).map { ($0.left, $0.right, id) }
    }
    var table = MergeTable(reserving: found.count)
    for (left, right, id) in found { table.set(left, right, Merge(rank: UInt32(id), id: id)) }
    return table
  }
}
