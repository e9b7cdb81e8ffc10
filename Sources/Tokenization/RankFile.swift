// Tokenizers that come as a file of ranks and Python code: the Kimi and the Hunyuan scheme.

internal import JSON
internal import SystemIO

extension Tokenizer {
  /// The tokenizer of a model folder: `tokenizer.json`, else a file of ranks, whose name tells its
  /// scheme.
  package init(folder: String) throws(TokenizerError) {
    let json = "\(folder)/tokenizer.json"
    if FileSystem.exists(json) {
      try self.init(tokenizerJSON: json)
    } else if FileSystem.exists("\(folder)/tiktoken.model") {
      try self.init(kimiFolder: folder)
    } else if FileSystem.exists("\(folder)/hy.tiktoken") {
      try self.init(hunyuanFolder: folder)
    } else {
      throw .noTokenizer(
        folder: folder,
        problem: "no tokenizer.json, tiktoken.model or hy.tiktoken; copy the tokenizer there")
    }
  }

  /// Source: `tokenization_kimi.py` of moonshotai/Kimi-K2: 256 special tokens follow the ranks,
  /// named by `added_tokens_decoder` of tokenizer_config.json or `<|reserved_token_ID|>`.
  private init(kimiFolder folder: String) throws(TokenizerError) {
    let ranks = try RankFile("\(folder)/tiktoken.model")
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
  private init(hunyuanFolder folder: String) throws(TokenizerError) {
    let ranks = try RankFile("\(folder)/hy.tiktoken", renumbers: true)
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
    let compiled: Pattern
    do throws(Pattern.Problem) {
      compiled = try Pattern(pattern)
    } catch {
      preconditionFailure("a built-in pattern does not compile: \(error.text)")
    }
    let tokens = Vocabulary(ranks.tokens)
    let spelled = Vocabulary(
      ranks.tokens.map { token in
        var text: [UInt8] = []
        for byte in token.text { append(ByteAlphabet.scalars[Int(byte)], to: &text) }
        return (text, token.id)
      })
    try self.init(
      addedTokens: special, normalizers: normalizers,
      preTokenizers: [.split(Splitter(delimiter: .pattern(compiled), behavior: .isolated))],
      model: BytePairEncoder(
        symbols: .bytes((0..<256).map { tokens.id(of: [UInt8($0)]) ?? -1 }), tokens: tokens,
        merges: ranks.merges(tokens), ignoresMerges: true, unknown: nil, fusesUnknown: false,
        fallback: nil),
      postProcessors: [], decoders: [.byteLevel], vocabulary: spelled, slices: slices)
  }
}

/// The names that tokenizer_config.json gives to ids; none where there is no such file.
private func addedNames(_ path: String) throws(TokenizerError) -> [Int32: String] {
  guard FileSystem.exists(path) else { return [:] }
  let value: JSONValue
  do {
    value = try JSONValue.parse(try FileSystem.readFile(path, limit: FileSystem.smallFile))
  } catch {
    throw .unreadable(path: path, problem: "\(error)")
  }
  var names: [Int32: String] = [:]
  guard let entries = value.object?["added_tokens_decoder"]?.object else { return names }
  for (key, entry) in entries.entries {
    guard let id = Int32(key), let name = entry.object?["content"]?.string else {
      throw .inconsistent(
        path: path, at: "$.added_tokens_decoder.\(key)", problem: "expected an id and a `content`")
    }
    names[id] = name
  }
  return names
}

/// Lines of a token in base64 and its rank, which is its id.
private struct RankFile {
  let tokens: [(text: [UInt8], id: Int32)]

  /// - Parameter renumbers: whether tokens are counted as they come, repeated ones passed over, and
  ///   the ranks in the file ignored. `tokenization_hy.py` reads its file so.
  init(_ path: String, renumbers: Bool = false) throws(TokenizerError) {
    let bytes: [UInt8]
    do throws(SystemError) {
      bytes = try FileSystem.readFile(path)
    } catch {
      throw .unreadable(path: path, problem: "\(error)")
    }
    var tokens: [(text: [UInt8], id: Int32)] = []
    var seen: Set<[UInt8]> = []
    let newline = UInt8(ascii: "\n")
    for (index, line) in bytes.split(separator: newline, omittingEmptySubsequences: false)
      .enumerated()
    {
      if line.isEmpty { continue }
      let parts = line.split(separator: UInt8(ascii: " "))
      guard parts.count == 2, let text = base64(parts[0]), !text.isEmpty,
        let rank = Int32(String(decoding: parts[1], as: UTF8.self))
      else {
        throw .badRank(
          path: path, line: index + 1, problem: "expected a token in base64 and its rank")
      }
      let isNew = seen.insert(text).inserted
      if renumbers {
        if isNew { tokens.append((text, Int32(tokens.count))) }
        continue
      }
      guard Int(rank) == tokens.count else {
        throw .badRank(
          path: path, line: index + 1, problem: "expected rank \(tokens.count), found \(rank)")
      }
      guard isNew else {
        throw .badRank(path: path, line: index + 1, problem: "the token has a rank already")
      }
      tokens.append((text, rank))
    }
    for byte in 0..<256 where !seen.contains([UInt8(byte)]) {
      throw .badRank(
        path: path, line: tokens.count, problem: "the file ends without a token of the byte \(byte)"
      )
    }
    self.tokens = tokens
  }

  /// Every way to cut a token in two: the lowest rank is made first, whatever it is made of.
  func merges(_ vocabulary: Vocabulary) -> MergeTable {
    var found: [(left: Int32, right: Int32, id: Int32)] = []
    for (text, id) in tokens where text.count > 1 {
      let bytes = text.span
      for middle in 1..<text.count {
        if let left = vocabulary.id(of: bytes.extracting(..<middle)),
          let right = vocabulary.id(of: bytes.extracting(middle...))
        {
          found.append((left, right, id))
        }
      }
    }
    var table = MergeTable(reserving: found.count)
    for (left, right, id) in found { table.set(left, right, Merge(rank: UInt32(id), id: id)) }
    return table
  }
}

/// The bytes behind `text`, padded with `=` to a multiple of four; nil where it is not base64.
private func base64(_ text: ArraySlice<UInt8>) -> [UInt8]? {
  guard text.count % 4 == 0 else { return nil }
  var digits = text
  while digits.last == UInt8(ascii: "="), text.count - digits.count < 2 { digits.removeLast() }
  var result: [UInt8] = []
  var bits: UInt32 = 0
  var count = 0
  for byte in digits {
    let value: UInt8
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = byte - UInt8(ascii: "A")
    case UInt8(ascii: "a")...UInt8(ascii: "z"): value = byte - UInt8(ascii: "a") + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): value = byte - UInt8(ascii: "0") + 52
    case UInt8(ascii: "+"): value = 62
    case UInt8(ascii: "/"): value = 63
    default: return nil
    }
    bits = bits << 6 | UInt32(value)
    count += 6
    if count >= 8 {
      count -= 8
      result.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
    }
  }
  return result
}
