// The tokenizer of a model folder: which of its files is read, and how.

internal import JSON
internal import SystemIO

/// A file that a tokenizer may be made from.
enum TokenizerFile: String, CaseIterable {
  case json = "tokenizer.json"
  case tekken = "tekken.json"
  case sentencePiece = "tokenizer.model"
  case kimi = "tiktoken.model"
  case hunyuan = "hy.tiktoken"
  /// Has its merges in a file of their own.
  case vocabulary = "vocab.json"

  static let merges = "merges.txt"

  /// The one that is read of a folder.
  static func find(in folder: String) -> TokenizerFile? {
    allCases.first { FileSystem.exists("\(folder)/\($0.rawValue)") }
  }
}

extension Tokenizer {
  /// The names of the files that a tokenizer may be made from, in the order of their precedence.
  package static let fileNames = TokenizerFile.allCases.map(\.rawValue)

  /// The tokenizer of a model folder, with the tokens and the settings that other files there add to it, as
  /// transformers' `AutoTokenizer` adds them.
  package init(folder: String) throws(TokenizerError) {
    guard let file = TokenizerFile.find(in: folder) else {
      throw .noTokenizer(
        folder: folder,
        problem: "no tokenizer: \(Self.fileNames.joined(separator: ", ")) were looked for; "
          + "copy the tokenizer there")
    }
    let path = "\(folder)/\(file.rawValue)"
    switch file {
    case .kimi: try self.init(kimiFolder: folder)
    case .hunyuan: try self.init(hunyuanFolder: folder)
    case .json:
      var parts = try TokenizerParts(tokenizerJSON: path)
      let settings = try TokenizerSettings(
        folder: folder, tokenizerJSON: parts.addedTokens.tokens)
      settings.addTokens(to: &parts)
      try self.init(parts, path: path)
    case .tekken, .sentencePiece, .vocabulary:
      let settings = try TokenizerSettings(folder: folder)
      let kind = try TokenizerClass(folder: folder, settings)
      var parts: TokenizerParts
      if case .other(let name) = kind {
        throw .unsupportedClass(path: path, name: name)
      } else if file == .tekken {
        parts = try TokenizerParts(tekken: path)
        parts.setNamedTokens(kind)
      } else if file == .sentencePiece {
        parts = try TokenizerParts(sentencePiece: path, kind, settings)
      } else {
        parts = try TokenizerParts(vocabulary: path, kind, settings)
      }
      settings.addTokens(to: &parts)
      try settings.setPostProcessor(of: &parts)
      try self.init(parts, path: path)
    }
  }
}

// MARK: SentencePiece

extension SentencePieceModel {
  /// What stands for a blank.
  static let blank = Array("\u{2581}".utf8)

  static let decoders: [Decoder] = [
    .replace(.literal(blank), with: [UInt8(ascii: " ")]), .byteFallback, .fuse,
  ]
}

extension TokenizerParts {
  /// Source: transformers 5.17, `TokenizersBackend._convert_from_sentencepiece` and
  /// `SpmConverter.build_tokenizer_from_spm_proto`. Some models carry ranks under the name of SentencePiece's file.
  fileprivate init(
    sentencePiece path: String, _ kind: TokenizerClass, _ settings: TokenizerSettings
  ) throws(TokenizerError) {
    let bytes = try readFile(path)
    if RankFile.isOne(bytes) {
      try self.init(ranks: path, bytes, settings)
      setNamedTokens(kind)
      return
    }
    let model = try SentencePieceModel(bytes, path: path)
    // The classes but the plain one take every model for one of byte pairs.
    if kind == .plain {
      try self.init(plain: model, path, settings)
    } else {
      let vocabulary = model.vocabulary
      try self.init(kind, vocabulary, model.merges(vocabulary), settings)
    }
    unnamedTokens = model.addedTokens
  }

  private init(
    plain model: SentencePieceModel, _ path: String, _ settings: TokenizerSettings
  ) throws(TokenizerError) {
    let vocabulary = model.vocabulary(renamed: settings)
    let fallback = model.fallsBackToBytes ? fallbackTokens(vocabulary) : nil
    if model.isUnigram {
      self.init(
        vocabulary: vocabulary,
        model: .unigram(
          UnigramEncoder(
            tokens: vocabulary, scores: model.pieces.map { Double($0.score) },
            unknown: model.unknownID, fallback: fallback)))
    } else {
      guard let unknown = vocabulary.id(of: model.unknownPiece) else {
        throw .unreadable(
          path: path, problem: "\(quoted(model.unknownPiece)) is not among the pieces")
      }
      self.init(
        vocabulary: vocabulary,
        model: .bytePairs(
          BytePairEncoder(
            vocabulary, model.merges(model.vocabulary), readsBytes: false, unknown: unknown,
            fusesUnknown: true, fallback: fallback)))
    }
    if !model.charsmap.isEmpty {
      do throws(PrecompiledCharsmap.Problem) {
        normalizers.append(.precompiled(try PrecompiledCharsmap(model.charsmap)))
      } catch {
        throw .unreadable(path: path, problem: "precompiled_charsmap: \(error.text)")
      }
    }
    normalizers.append(
      .replace(.literal([UInt8(ascii: " ")]), with: SentencePieceModel.blank))
    decoders =
      model.fallsBackToBytes
      ? SentencePieceModel.decoders : [SentencePieceModel.decoders[0]]
    namedTokens = model.namedTokens
  }
}

// MARK: vocab.json and merges.txt

extension TokenizerParts {
  fileprivate init(
    vocabulary path: String, _ kind: TokenizerClass, _ settings: TokenizerSettings
  ) throws(TokenizerError) {
    guard [.gpt2, .gptNeoX, .qwen2].contains(kind) else {
      throw .unsupportedClass(path: path, name: kind == .llama ? "LlamaTokenizer" : nil)
    }
    let vocabulary = try readVocabulary(try Field(path: path))
    let merges = try readMerges(
      "\(path.dropLast(TokenizerFile.vocabulary.rawValue.count))\(TokenizerFile.merges)", vocabulary
    )
    try self.init(kind, vocabulary, merges, settings)
  }
}

/// Two tokens a line, the earliest merge first.
private func readMerges(
  _ path: String, _ vocabulary: Vocabulary
) throws(TokenizerError) -> MergeTable {
  let lines = try readFile(path).split(
    separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
  var table = MergeTable(reserving: lines.count)
  for (index, line) in lines.enumerated() {
    var line = line
    if line.last == UInt8(ascii: "\r") { line.removeLast() }
    if line.starts(with: "#version".utf8) || line.isEmpty && index == lines.count - 1 { continue }
    guard let (left, right) = mergedTokens(line) else {
      throw .badLine(
        path: path, line: index + 1, problem: "expected two tokens with a blank between")
    }
    guard table.add(left, right, index, vocabulary) else {
      throw .badLine(
        path: path, line: index + 1,
        problem: "both parts and what they make must be in the vocabulary")
    }
  }
  return table
}
