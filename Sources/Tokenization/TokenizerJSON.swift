// tokenizer.json into the parts of a tokenizer. Everything in the file is understood or refused.

internal import JSON
internal import SystemIO

extension Tokenizer {
  /// - Parameter path: a file as `tokenizers` writes it. Its truncation and padding do not count.
  package init(tokenizerJSON path: String) throws(TokenizerError) {
    let bytes: [UInt8]
    do throws(SystemError) {
      bytes = try FileSystem.readFile(path)
    } catch {
      throw .unreadable(path: path, problem: "\(error)")
    }
    let value: JSONValue
    do throws(JSONError) {
      value = try JSONValue.parse(bytes)
    } catch {
      throw .unreadable(path: path, problem: "not JSON: \(error)")
    }
    try self.init(Field(file: path, at: "$", value: value))
  }

  private init(_ root: Field) throws(TokenizerError) {
    let members = try root.members([
      "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
      "post_processor", "decoder", "model",
    ])
    if let version = members["version"], try version.string() != "1.0" {
      throw version.unsupported(["1.0"])
    }
    let normalizers = try members["normalizer"].map(readNormalizer) ?? []
    var preTokenizers: [PreTokenizer] = []
    if let field = members["pre_tokenizer"] { try readPreTokenizer(field, into: &preTokenizers) }
    let modelField = try members.required("model")
    let model = try ModelReader(modelField)
    // Where spelling bytes comes last, the model takes the bytes themselves instead. Fallback
    // tokens would be those of the spelling, so they need it.
    var readsBytes = false
    if case .spellBytes? = preTokenizers.last, model.fallback == nil {
      preTokenizers.removeLast()
      readsBytes = true
    }
    let decoders = try members["decoder"].map(readDecoder)
    let addedTokens = try members["added_tokens"].map { field throws(TokenizerError) in
      try readAddedTokens(field, model.vocabulary)
    }
    try self.init(
      addedTokens: addedTokens ?? [], normalizers: normalizers, preTokenizers: preTokenizers,
      model: try model.encoder(readingBytes: readsBytes),
      postProcessors: try members["post_processor"].map(readPostProcessor) ?? [],
      decoders: decoders, vocabulary: model.vocabulary)
    try refuseEmptyPatterns(members["added_tokens"])
  }

  private func refuseEmptyPatterns(_ field: Field?) throws(TokenizerError) {
    if normalizedTokens.hasEmptyPattern, let field {
      throw field.inconsistent("nothing is left of a token when it is normalized")
    }
  }
}

// MARK: Added tokens

/// The ids are those that the tokenizers package gives, whatever the file declares: a content of
/// the vocabulary has its id there, others are counted on from the number of tokens.
private func readAddedTokens(
  _ field: Field, _ vocabulary: Vocabulary
) throws(TokenizerError) -> [AddedToken] {
  var tokens: [AddedToken] = []
  var contents: Set<[UInt8]> = []
  var largest: Int32 = -1
  for element in try field.elements() {
    let members = try element.members([
      "id", "content", "single_word", "lstrip", "rstrip", "normalized", "special",
    ])
    func flag(_ key: String) throws(TokenizerError) -> Bool { try members.required(key).bool() }
    let text = try members.required("content").string()
    let content = Array(text.utf8)
    if content.isEmpty { throw element.inconsistent("the content is empty") }
    if !contents.insert(content).inserted {
      throw element.inconsistent("`\(text)` is declared twice")
    }
    let declared = try members.required("id").id()
    let id: Int32
    if let known = vocabulary.id(of: content) {
      id = known
    } else {
      id = largest >= vocabulary.count ? largest + 1 : Int32(vocabulary.count)
    }
    largest = max(largest, id)
    guard id == declared else {
      throw .addedTokenID(
        path: element.file, at: "\(element.at).id", content: text, declared: Int(declared),
        computed: Int(id))
    }
    tokens.append(
      AddedToken(
        content: content, id: id, isSingleWord: try flag("single_word"),
        stripsLeft: try flag("lstrip"), stripsRight: try flag("rstrip"),
        isNormalized: try flag("normalized"), isSpecial: try flag("special")))
  }
  return tokens
}

// MARK: Patterns

/// `{"String": …}` or `{"Regex": …}`.
private func readDelimiter(_ field: Field) throws(TokenizerError) -> Delimiter {
  let members = try field.members(["String", "Regex"])
  guard members.object.count == 1 else { throw field.unexpected("one of `String` and `Regex`") }
  if let literal = members["String"] {
    let text = try literal.string()
    guard !text.isEmpty else { throw literal.unexpected("text to look for") }
    return .literal(Array(text.utf8))
  }
  let regex = try members.required("Regex")
  return .pattern(try readPattern(try regex.string(), regex))
}

private func readPattern(_ text: String, _ field: Field) throws(TokenizerError) -> Pattern {
  do throws(Pattern.Problem) {
    return try Pattern(text)
  } catch {
    throw .badPattern(path: field.file, at: field.at, problem: error.text)
  }
}

/// The single scalar that a component replaces or strips.
private func readScalar(_ field: Field) throws(TokenizerError) -> [UInt8] {
  let text = try field.string()
  guard text.unicodeScalars.count == 1 else { throw field.unexpected("one character") }
  return Array(text.utf8)
}

private let componentKeys = ["type"]

/// The `type` of a component, and its members when it has the keys of that type and no other.
private func readType(
  _ field: Field, _ keys: [String: [String]]
) throws(TokenizerError) -> (String, Members) {
  guard let object = field.value.object else { throw field.unexpected("an object") }
  let type = try Members(field: field, object: object).required("type")
  let name = try type.string()
  guard let known = keys[name] else { throw type.unsupported(keys.keys.sorted()) }
  return (name, try field.members(componentKeys + known))
}

// MARK: Normalizers

private func readNormalizer(_ field: Field) throws(TokenizerError) -> [Normalizer] {
  let (type, members) = try readType(
    field,
    [
      "NFC": [], "Prepend": ["prepend"], "Replace": ["pattern", "content"],
      "Sequence": ["normalizers"],
    ])
  switch type {
  case "NFC":
    return [.nfc]
  case "Prepend":
    return [.prepend(Array(try members.required("prepend").string().utf8))]
  case "Replace":
    let delimiter = try readDelimiter(try members.required("pattern"))
    return [.replace(delimiter, with: Array(try members.required("content").string().utf8))]
  default:
    var normalizers: [Normalizer] = []
    for element in try members.required("normalizers").elements() {
      normalizers += try readNormalizer(element)
    }
    return normalizers
  }
}

// MARK: Pre-tokenizers

private func readPreTokenizer(
  _ field: Field, into result: inout [PreTokenizer]
) throws(TokenizerError) {
  let (type, members) = try readType(
    field,
    [
      "ByteLevel": ["add_prefix_space", "trim_offsets", "use_regex"],
      "Split": ["pattern", "behavior", "invert"], "Sequence": ["pretokenizers"],
      "Digits": ["individual_digits"], "Punctuation": ["behavior"],
      "Metaspace": ["replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"],
    ])
  switch type {
  case "ByteLevel":
    // Offsets are not kept, so what is trimmed from them does not matter.
    _ = try members.required("trim_offsets").bool()
    if try members.required("add_prefix_space").bool() { result.append(.prefixSpace) }
    if try members.bool("use_regex", default: true) {
      let pattern = try readPattern(PreTokenizer.byteLevelPattern, field)
      result.append(.split(Splitter(delimiter: .pattern(pattern), behavior: .isolated)))
    }
    result.append(.spellBytes)
  case "Split":
    let delimiter = try readDelimiter(try members.required("pattern"))
    result.append(
      .split(
        Splitter(
          delimiter: delimiter, behavior: try members.choice("behavior"),
          isInverted: try members.required("invert").bool())))
  case "Digits":
    let isolates = try members.required("individual_digits").bool()
    result.append(
      .split(
        Splitter(
          delimiter: .scalars(UnicodeSets.numeric),
          behavior: isolates ? .isolated : .contiguous)))
  case "Punctuation":
    result.append(
      .split(
        Splitter(
          delimiter: .scalars(UnicodeSets.punctuation),
          behavior: try members.choice("behavior", default: .isolated))))
  case "Metaspace":
    let replacement = try readScalar(try members.required("replacement"))
    result.append(
      .metaspace(
        PreTokenizer.Metaspace(
          replacement: replacement, prefix: try readPrefix(members),
          splits: try members.bool("split", default: true))))
  default:
    for element in try members.required("pretokenizers").elements() {
      try readPreTokenizer(element, into: &result)
    }
  }
}

/// Older files say `add_prefix_space` as well; the package does not let the two disagree.
private func readPrefix(
  _ members: Members
) throws(TokenizerError) -> PreTokenizer.Metaspace.Prefix {
  let prefix: PreTokenizer.Metaspace.Prefix = try members.choice("prepend_scheme", default: .always)
  if let older = members["add_prefix_space"], try !older.bool(), prefix != .never {
    throw older.inconsistent("false, but `prepend_scheme` is `\(prefix.rawValue)`")
  }
  return prefix
}

// MARK: Post-processors

private func readPostProcessor(_ field: Field) throws(TokenizerError) -> [PostProcessor] {
  let (type, members) = try readType(
    field,
    [
      "ByteLevel": ["add_prefix_space", "trim_offsets", "use_regex"], "Sequence": ["processors"],
      "TemplateProcessing": ["single", "pair", "special_tokens"],
    ])
  switch type {
  case "ByteLevel":
    return []
  case "Sequence":
    var processors: [PostProcessor] = []
    for element in try members.required("processors").elements() {
      processors += try readPostProcessor(element)
      // A second template would see the special tokens of the first as a text of their own.
      if processors.count > 1 { throw element.inconsistent("a second template") }
    }
    return processors
  default:
    return [try readTemplate(members)]
  }
}

private func readTemplate(_ members: Members) throws(TokenizerError) -> PostProcessor {
  guard let specials = try members.required("special_tokens").value.object else {
    throw try members.required("special_tokens").unexpected("an object")
  }
  var before: [Int32] = []
  var after: [Int32]?
  let single = try members.required("single")
  for piece in try single.elements() {
    let kinds = try piece.members(["SpecialToken", "Sequence"])
    if let sequence = kinds["Sequence"] {
      let id = try sequence.members(["id", "type_id"]).required("id")
      guard try id.string() == "A" else { throw id.unsupported(["A"]) }
      guard after == nil else { throw piece.inconsistent("the text appears twice") }
      after = []
      continue
    }
    let name = try kinds.required("SpecialToken").members(["id", "type_id"]).required("id")
    guard let special = specials[try name.string()] else {
      throw name.inconsistent("not among the special tokens of this template")
    }
    let place = Field(
      file: name.file, at: "\(members.field.at).special_tokens.\(try name.string())",
      value: special)
    let ids = try place.members(["id", "ids", "tokens"]).required("ids").elements()
    for element in ids {
      let id = try element.id()
      if after == nil { before.append(id) } else { after!.append(id) }
    }
  }
  guard let after else { throw single.inconsistent("the text itself is missing") }
  return PostProcessor(before: before, after: after)
}

// MARK: Decoders

private func readDecoder(_ field: Field) throws(TokenizerError) -> [Decoder] {
  let (type, members) = try readType(
    field,
    [
      "ByteLevel": ["add_prefix_space", "trim_offsets", "use_regex"], "ByteFallback": [],
      "Fuse": [], "Sequence": ["decoders"], "Replace": ["pattern", "content"],
      "Strip": ["content", "start", "stop"],
      "Metaspace": ["replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"],
    ])
  switch type {
  case "ByteLevel":
    return [.byteLevel]
  case "ByteFallback":
    return [.byteFallback]
  case "Fuse":
    return [.fuse]
  case "Replace":
    let delimiter = try readDelimiter(try members.required("pattern"))
    return [.replace(delimiter, with: Array(try members.required("content").string().utf8))]
  case "Strip":
    return [
      .strip(
        content: try readScalar(try members.required("content")),
        start: Int(try members.required("start").id()), stop: Int(try members.required("stop").id())
      )
    ]
  case "Metaspace":
    return [
      .metaspace(
        replacement: try readScalar(try members.required("replacement")),
        dropsFirst: try readPrefix(members) != .never)
    ]
  default:
    var decoders: [Decoder] = []
    for element in try members.required("decoders").elements() {
      decoders += try readDecoder(element)
    }
    return decoders
  }
}

// MARK: The model

/// The `model` of a tokenizer.json of type BPE.
private struct ModelReader {
  let field: Field
  let members: Members
  let vocabulary: Vocabulary
  let fallback: [Int32]?

  init(_ field: Field) throws(TokenizerError) {
    self.field = field
    members = try readModel(field)
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
      if let affix = members[key], try !affix.string().isEmpty { throw affix.unsupported([""]) }
    }
    if let dropout = members["dropout"], dropout.value.double != 0 {
      throw dropout.unsupported(["null", "0.0"])
    }
    vocabulary = try readVocabulary(try members.required("vocab"))
    if try members.bool("byte_fallback", default: false) {
      let digits = Array("0123456789ABCDEF")
      var fallback: [Int32] = []
      for byte in 0..<256 {
        let token = "<0x\(digits[byte / 16])\(digits[byte % 16])>"
        fallback.append(vocabulary.id(of: Array(token.utf8)) ?? -1)
      }
      self.fallback = fallback
    } else {
      fallback = nil
    }
  }

  func encoder(readingBytes: Bool) throws(TokenizerError) -> BytePairEncoder {
    var symbols = BytePairEncoder.Symbols.scalars
    var tokens = vocabulary
    var isComplete = false
    if readingBytes {
      tokens = Vocabulary(
        vocabulary.tokens.compactMap { token in
          // No text is spelled like the other tokens, so none can come out as one of them.
          ByteAlphabet.bytes(spelledBy: Array(token.text)).map { ($0, token.id) }
        })
      let byBytes = (0..<256).map { tokens.id(of: [UInt8($0)]) ?? -1 }
      isComplete = !byBytes.contains(-1)
      symbols = .bytes(byBytes)
    }
    var unknown: Int32?
    if let token = members["unk_token"] {
      unknown = vocabulary.id(of: Array(try token.string().utf8))
      // It is never needed where every byte has a token.
      if unknown == nil, !isComplete {
        throw token.inconsistent("`\(try token.string())` is not in the vocabulary")
      }
    }
    return BytePairEncoder(
      symbols: symbols, tokens: tokens, merges: try readMerges(),
      ignoresMerges: try members.bool("ignore_merges", default: false), unknown: unknown,
      fusesUnknown: try members.bool("fuse_unk", default: false), fallback: fallback)
  }

  /// Two spellings: `["a", "b"]`, and `"a b"` of older files.
  private func readMerges() throws(TokenizerError) -> MergeTable {
    let list = try members.required("merges")
    guard let merges = list.value.array else { throw list.unexpected("a list") }
    var table = MergeTable(reserving: merges.count)
    var joined: [UInt8] = []
    for (rank, value) in merges.enumerated() {
      joined.removeAll(keepingCapacity: true)
      let middle: Int
      switch value {
      case .array(let pair) where pair.count == 2:
        guard case .string(let left) = pair[0], case .string(let right) = pair[1] else {
          throw mergeField(rank, value).unexpected("two tokens")
        }
        joined += left.utf8
        middle = joined.count
        joined += right.utf8
      case .string(let text):
        if text.hasPrefix("#version") {
          throw mergeField(rank, value).unexpected("two tokens")
        }
        joined += text.utf8
        guard let blank = joined.firstIndex(of: UInt8(ascii: " ")),
          joined.lastIndex(of: UInt8(ascii: " ")) == blank
        else { throw mergeField(rank, value).unexpected("two tokens with a blank between") }
        joined.remove(at: blank)
        middle = blank
      default:
        throw mergeField(rank, value).unexpected("two tokens")
      }
      let bytes = joined.span
      guard let left = vocabulary.id(of: bytes.extracting(..<middle)),
        let right = vocabulary.id(of: bytes.extracting(middle...)),
        let whole = vocabulary.id(of: bytes)
      else {
        throw mergeField(rank, value).inconsistent(
          "both parts and what they make must be in the vocabulary")
      }
      table.set(left, right, Merge(rank: UInt32(rank), id: whole))
    }
    return table
  }

  private func mergeField(_ index: Int, _ value: JSONValue) -> Field {
    Field(file: field.file, at: "\(field.at).merges[\(index)]", value: value)
  }
}

private func readModel(_ field: Field) throws(TokenizerError) -> Members {
  let keys = [
    "type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
    "byte_fallback", "ignore_merges", "vocab", "merges",
  ]
  // The type comes first: the keys of another kind of model would only be listed as unknown.
  if let type = field.value.object?["type"] {
    let type = Field(file: field.file, at: "\(field.at).type", value: type)
    guard try type.string() == "BPE" else { throw type.unsupported(["BPE"]) }
  }
  return try field.members(keys)
}

private func readVocabulary(_ field: Field) throws(TokenizerError) -> Vocabulary {
  guard let object = field.value.object else { throw field.unexpected("an object") }
  var tokens: [(text: [UInt8], id: Int32)] = []
  tokens.reserveCapacity(object.count)
  var seen: [Bool] = []
  for (key, value) in object.entries {
    let place = Field(file: field.file, at: "\(field.at).\(key)", value: value)
    let id = try place.id()
    if id >= seen.count {
      seen += Array(repeating: false, count: max(Int(id) + 1, object.count) - seen.count)
    }
    if seen[Int(id)] { throw place.inconsistent("the id belongs to another token already") }
    seen[Int(id)] = true
    tokens.append((Array(key.utf8), id))
  }
  return Vocabulary(tokens)
}
