// tokenizer.json into the parts of a tokenizer. Everything in the file is understood or refused.

internal import JSON

extension Tokenizer {
  /// - Parameter path: a file as `tokenizers` writes it. Its truncation and padding do not count, nor does what lies
  ///   beside it.
  package init(tokenizerJSON path: String) throws(TokenizerError) {
    try self.init(try TokenizerParts(tokenizerJSON: path), path: path)
  }
}

extension TokenizerParts {
  init(tokenizerJSON path: String) throws(TokenizerError) {
    let members = try Field(path: path).members([
      "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
      "post_processor", "decoder", "model",
    ])
    if let version = members["version"], try version.string() != "1.0" {
      throw version.unsupported(["1.0"])
    }
    normalizers = try members["normalizer"].map(readNormalizer) ?? []
    if let field = members["pre_tokenizer"] { try readPreTokenizer(field, into: &preTokenizers) }
    (vocabulary, model) = try readModel(try members.required("model"), &preTokenizers)
    postProcessors = try members["post_processor"].map(readPostProcessor)
    decoders = try members["decoder"].map(readDecoder)
    if let field = members["added_tokens"] { addedTokens = try readAddedTokens(field, vocabulary) }
  }
}

// MARK: Added tokens

/// The ids are those that the tokenizers package gives, whatever the file declares; it may not declare others.
private func readAddedTokens(
  _ field: Field, _ vocabulary: Vocabulary
) throws(TokenizerError) -> AddedTokenList {
  var tokens = AddedTokenList()
  for element in try field.elements() {
    let members = try element.members([
      "id", "content", "single_word", "lstrip", "rstrip", "normalized", "special",
    ])
    func flag(_ key: String) throws(TokenizerError) -> Bool { try members.required(key).bool() }
    let text = try members.required("content").string()
    let content = Array(text.utf8)
    if content.isEmpty { throw element.inconsistent("the content is empty") }
    if tokens.contains(content) { throw element.inconsistent("`\(text)` is declared twice") }
    let declared = try members.required("id").id()
    let token = AddedToken(
      content: content, isSingleWord: try flag("single_word"), stripsLeft: try flag("lstrip"),
      stripsRight: try flag("rstrip"), isNormalized: try flag("normalized"),
      isSpecial: try flag("special"))
    let id = tokens.add(token, vocabulary)
    guard id == declared else {
      throw .addedTokenID(
        path: element.file, at: "\(element.at).id", content: text, declared: Int(declared),
        computed: Int(id))
    }
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

func readPattern(_ text: String, _ field: Field) throws(TokenizerError) -> Pattern {
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
  let object = try field.object()
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
      "NFC": [], "Precompiled": ["precompiled_charsmap"], "Prepend": ["prepend"],
      "Replace": ["pattern", "content"], "Sequence": ["normalizers"],
      "Strip": ["strip_left", "strip_right"],
    ])
  switch type {
  case "NFC":
    return [.nfc]
  case "Precompiled":
    let charsmap = try members.required("precompiled_charsmap")
    guard let bytes = base64(try charsmap.string().utf8) else {
      throw charsmap.unexpected("base64")
    }
    do throws(PrecompiledCharsmap.Problem) {
      return [.precompiled(try PrecompiledCharsmap(bytes))]
    } catch {
      throw charsmap.inconsistent(error.text)
    }
  case "Strip":
    return [
      .strip(
        left: try members.required("strip_left").bool(),
        right: try members.required("strip_right").bool())
    ]
  case "Prepend":
    return [.prepend(Array(try members.required("prepend").string().utf8))]
  case "Replace":
    let delimiter = try readDelimiter(try members.required("pattern"))
    return [.replace(delimiter, with: Array(try members.required("content").string().utf8))]
  default:
    var normalizers: [Normalizer] = []
    for element in try members.required("normalizers").elements() {
      normalizers += try readNormalizer(element)
      try Bounds.check(normalizers.count, "normalizers", element)
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
      try Bounds.check(result.count, "pre-tokenizers", element)
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
  let specials = try members.required("special_tokens").object()
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
    if before.count + (after ?? []).count > Bounds.uncounted {
      throw name.inconsistent("the template adds more than \(Bounds.uncounted) tokens")
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
      try Bounds.check(decoders.count, "decoders", element)
    }
    return decoders
  }
}

// MARK: The model

private func readModel(
  _ field: Field, _ preTokenizers: inout [PreTokenizer]
) throws(TokenizerError) -> (Vocabulary, Model) {
  guard let type = field.member("type"), try type.string() != "BPE" else {
    return try readBytePairs(field, &preTokenizers)
  }
  // The type comes first: the keys of another kind of model would only be listed as unknown.
  guard try type.string() == "Unigram" else { throw type.unsupported(["BPE", "Unigram"]) }
  return try readUnigram(field)
}

private func readBytePairs(
  _ field: Field, _ preTokenizers: inout [PreTokenizer]
) throws(TokenizerError) -> (Vocabulary, Model) {
  let members = try field.members([
    "type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
    "byte_fallback", "ignore_merges", "vocab", "merges",
  ])
  for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
    if let affix = members[key], try !affix.string().isEmpty { throw affix.unsupported([""]) }
  }
  if let dropout = members["dropout"], dropout.value.double != 0 {
    throw dropout.unsupported(["null", "0.0"])
  }
  let vocabulary = try readVocabulary(try members.required("vocab"))
  let fallback =
    try members.bool("byte_fallback", default: false) ? fallbackTokens(vocabulary) : nil
  // Where spelling bytes comes last, the model takes the bytes themselves instead. Fallback
  // tokens would be those of the spelling, so they need it.
  var readsBytes = false
  if case .spellBytes? = preTokenizers.last, fallback == nil {
    preTokenizers.removeLast()
    readsBytes = true
  }
  let unknown = try members["unk_token"].map { field throws(TokenizerError) in
    Array(try field.string().utf8)
  }
  let encoder = BytePairEncoder(
    vocabulary, try readMerges(try members.required("merges"), vocabulary), readsBytes: readsBytes,
    ignoresMerges: try members.bool("ignore_merges", default: false),
    unknown: unknown.flatMap { vocabulary.id(of: $0) },
    fusesUnknown: try members.bool("fuse_unk", default: false), fallback: fallback)
  // It is never needed where every byte has a token.
  if let token = members["unk_token"], encoder.unknown == nil, !encoder.hasAllBytes {
    throw token.inconsistent("`\(try token.string())` is not in the vocabulary")
  }
  return (vocabulary, .bytePairs(encoder))
}

private func readUnigram(_ field: Field) throws(TokenizerError) -> (Vocabulary, Model) {
  let members = try field.members(["type", "unk_id", "vocab", "byte_fallback"])
  let list = try members.required("vocab")
  var tokens: [(text: [UInt8], id: Int32)] = []
  var scores: [Double] = []
  var seen = ByteTable()
  for (number, value) in (try list.elements()).enumerated() {
    guard let pair = value.value.array, pair.count == 2, let text = pair[0].string,
      let score = pair[1].double
    else { throw value.unexpected("a token and its score") }
    let bytes = Array(text.utf8)
    if bytes.isEmpty { throw value.inconsistent("the token is empty") }
    guard seen.find(bytes.span) == nil else {
      throw value.inconsistent("the token is there already")
    }
    seen.add(bytes.span)
    tokens.append((bytes, Int32(number)))
    scores.append(score)
  }
  let unknown = try members.required("unk_id")
  let id = try unknown.id()
  guard id < tokens.count else { throw unknown.inconsistent("there are \(tokens.count) tokens") }
  let vocabulary = Vocabulary(tokens)
  let fallsBack = try members.bool("byte_fallback", default: false)
  return (
    vocabulary,
    .unigram(
      UnigramEncoder(
        tokens: vocabulary, scores: scores, unknown: id,
        fallback: fallsBack ? fallbackTokens(vocabulary) : nil))
  )
}

/// Two spellings: `["a", "b"]`, and `"a b"` of older files.
private func readMerges(
  _ list: Field, _ vocabulary: Vocabulary
) throws(TokenizerError) -> MergeTable {
  guard let merges = list.value.array else { throw list.unexpected("a list") }
  var table = MergeTable(reserving: merges.count)
  for (rank, value) in merges.enumerated() {
    func place() -> Field { Field(file: list.file, at: "\(list.at)[\(rank)]", value: value) }
    let isMerge: Bool
    switch value {
    case .array(let pair) where pair.count == 2:
      guard case .string(let left) = pair[0], case .string(let right) = pair[1] else {
        throw place().unexpected("two tokens")
      }
      isMerge = table.add(left.utf8, right.utf8, rank, vocabulary)
    case .string(let text):
      if text.hasPrefix("#version") { throw place().unexpected("two tokens") }
      guard let (left, right) = mergedTokens(text.utf8) else {
        throw place().unexpected("two tokens with a blank between")
      }
      isMerge = table.add(left, right, rank, vocabulary)
    default:
      throw place().unexpected("two tokens")
    }
    if !isMerge {
      throw place().inconsistent("both parts and what they make must be in the vocabulary")
    }
  }
  return table
}

/// The sides of the only blank.
func mergedTokens<Text: BidirectionalCollection<UInt8>>(
  _ text: Text
) -> (left: Text.SubSequence, right: Text.SubSequence)? {
  let blank = UInt8(ascii: " ")
  guard let middle = text.firstIndex(of: blank), text.lastIndex(of: blank) == middle else {
    return nil
  }
  return (text[..<middle], text[text.index(after: middle)...])
}

/// Tokens and their ids.
func readVocabulary(_ field: Field) throws(TokenizerError) -> Vocabulary {
  let object = try field.object()
  var tokens: [(text: [UInt8], id: Int32)] = []
  tokens.reserveCapacity(object.count)
  var seen: [Bool] = []
  for (key, value) in object.entries {
    let place = Field(file: field.file, at: "\(field.at).\(key)", value: value)
    let id = try place.id()
    guard id < 4 * object.count + Bounds.uncounted else {
      throw place.inconsistent("the id is \(id), and there are \(object.count) tokens")
    }
    if id >= seen.count {
      seen += Array(repeating: false, count: max(Int(id) + 1, object.count) - seen.count)
    }
    if seen[Int(id)] { throw place.inconsistent("the id belongs to another token already") }
    seen[Int(id)] = true
    tokens.append((Array(key.utf8), id))
  }
  return Vocabulary(tokens)
}
