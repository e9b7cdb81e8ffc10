// Text to token ids and back, as the `tokenizers` package 0.23.3 and transformers 5.17 do by the same files.

internal import Expressions
internal import Synchronization

/// A tokenizer as its files describe it. Loaded once, used from any number of threads.
///
/// For a tokenizer.json the judge is `tokenizers.Tokenizer.from_file` with truncation and padding switched off, not
/// transformers' `AutoTokenizer`, which rebuilds some of them from code of its own and gets other ids. For tokens that
/// only other files name, and for tokenizers in other files, it is `AutoTokenizer`.
package struct Tokenizer: Sendable {
  let rawTokens: AddedTokenMatcher
  let normalizers: [Normalizer]
  let normalizedTokens: AddedTokenMatcher
  let preTokenizers: [PreTokenizer]
  let model: Model
  let postProcessors: [PostProcessor]
  let decoders: [Decoder]?
  /// Texts as the file spells them.
  let vocabulary: Vocabulary
  /// What the added tokens decode to: their content, normalized where they are looked for by that.
  let addedContents: [Int32: [UInt8]]
  /// Cuts that come before everything else, of the schemes of rank files.
  let slices: TextSlices?
  /// Special tokens that the tokenizer has of itself, where no file beside it says otherwise, by the names that chat
  /// templates know.
  package let namedTokens: [String: String]
  /// The file it was read from, for what is wrong with a text or an id.
  private let path: String
  private let workspaces = WorkspacePool()
  let foundCuts = FoundCuts()

  /// - Parameter path: the file that the parts come from, which errors name.
  init(_ parts: TokenizerParts, path: String) throws(TokenizerError) {
    let patterns: [[UInt8]]
    do throws(TokenizerError) {
      try Bounds.check(parts)
      patterns = try Self.normalizedContents(parts)
    } catch {
      throw error.naming(path)
    }
    self.path = path
    // Special tokens come first; that decides only between equal contents.
    let ordered = Self.ordered(parts.addedTokens)
    let raw = ordered.filter { !$0.isNormalized }
    rawTokens = AddedTokenMatcher(raw, patterns: raw.map(\.content))
    let normalized = ordered.filter(\.isNormalized)
    normalizedTokens = AddedTokenMatcher(normalized, patterns: patterns)
    normalizers = parts.normalizers
    preTokenizers = parts.preTokenizers
    model = parts.model
    postProcessors = parts.postProcessors ?? []
    decoders = parts.decoders
    vocabulary = parts.vocabulary
    slices = parts.slices
    namedTokens = parts.namedTokens.mapValues { String(decoding: $0, as: UTF8.self) }
    var contents: [Int32: [UInt8]] = [:]
    for token in raw { contents[token.id] = token.content }
    for (token, pattern) in zip(normalized, patterns) { contents[token.id] = pattern }
    addedContents = contents
  }

  private static func ordered(_ added: AddedTokenList) -> [AddedToken] {
    added.tokens.filter(\.isSpecial) + added.tokens.filter { !$0.isSpecial }
  }

  /// What the tokens that are looked for in normalized text are looked for by.
  private static func normalizedContents(
    _ parts: TokenizerParts
  ) throws(TokenizerError) -> [[UInt8]] {
    var patterns: [[UInt8]] = []
    let scratch = SplitScratch()
    for token in ordered(parts.addedTokens) where token.isNormalized {
      var content = Pieces(token.content)
      for normalizer in parts.normalizers { try normalizer.normalize(&content, scratch) }
      if content.text.isEmpty { throw .emptyToken(path: nil, content: token.content) }
      try Bounds.check(content.text, normalized: token)
      patterns.append(content.text)
    }
    return patterns
  }

  /// How many tokens there are, added ones included.
  package var vocabularySize: Int {
    vocabulary.count + addedContents.keys.count { vocabulary.text(of: $0) == nil }
  }

  /// - Parameter addSpecialTokens: whether the file's post-processor has its say, which puts a
  ///   beginning-of-sequence token before plain text in some families. False for rendered chats.
  package func encode(
    _ text: String, addSpecialTokens: Bool
  ) throws(TokenizerError) -> [Int32] {
    try encode(Array(text.utf8), addSpecialTokens: addSpecialTokens)
  }

  /// - Parameter text: UTF-8; what is not becomes U+FFFD.
  package func encode(
    _ text: [UInt8], addSpecialTokens: Bool
  ) throws(TokenizerError) -> [Int32] {
    let workspace = workspaces.take()
    defer { workspaces.giveBack(workspace) }
    var ids: [Int32] = []
    let text = repaired(text)
    do throws(TokenizerError) {
      if let slices {
        for range in slices.cut(text.span) {
          try encode(Array(text[range]), workspace, into: &ids)
        }
      } else {
        try encode(text, workspace, into: &ids)
      }
    } catch {
      throw error.naming(path)
    }
    if addSpecialTokens {
      for processor in postProcessors { ids = processor.process(ids) }
    }
    return ids
  }

  private func encode(
    _ text: [UInt8], _ workspace: Workspace, into ids: inout [Int32]
  ) throws(TokenizerError) {
    workspace.split.region.begin(bytes: text.count)
    var pieces = Pieces(text)
    rawTokens.split(&pieces)
    for normalizer in normalizers { try normalizer.normalize(&pieces, workspace.split) }
    normalizedTokens.split(&pieces)
    for preTokenizer in preTokenizers { try preTokenizer.apply(&pieces, workspace.split) }
    ids.reserveCapacity(ids.count + pieces.pieces.count)
    workspace.encode(pieces, by: model, into: &ids)
  }

  /// The text of the ids, special tokens included; ids of no token are left out.
  package func decode(_ ids: [Int32]) throws(TokenizerError) -> String {
    String(decoding: try decodeBytes(ids), as: UTF8.self)
  }

  /// The bytes of the ids: part of a text, which need not start or end at a whole character.
  package func decodeBytes(_ ids: [Int32]) throws(TokenizerError) -> [UInt8] {
    var tokens: [[UInt8]] = []
    for id in ids {
      if let content = addedContents[id] {
        tokens.append(content)
      } else if let text = vocabulary.text(of: id) {
        tokens.append(Array(text))
      }
    }
    guard let decoders else { return Array(tokens.joined(separator: " ".utf8)) }
    for (index, decoder) in decoders.enumerated() {
      // The package hands text from one to the next.
      if index > 0 { tokens = tokens.map(repaired) }
      do throws(TokenizerError) {
        tokens = try decoder.decode(tokens)
      } catch {
        throw error.naming(path)
      }
    }
    return Array(tokens.joined())
  }
}

/// Working memory of one thread, with the ids of the pieces it has met.
private final class Workspace {
  /// Longer pieces seldom come twice.
  private static let longestKept = 64
  private static let keptPieces = 1 << 16

  let split = SplitScratch()
  private var scratch = Model.Scratch()
  private var known = ByteTable()
  private var knownEnds: [Int] = []
  private var knownIDs: [Int32] = []

  func encode(_ pieces: Pieces, by model: Model, into ids: inout [Int32]) {
    let text = pieces.text.span
    for piece in pieces.pieces {
      if let token = piece.token {
        ids.append(token)
        continue
      }
      let bytes = text.extracting(piece.range)
      if bytes.count > Self.longestKept {
        model.encode(bytes, &scratch, into: &ids)
      } else if let entry = known.find(bytes) {
        let start = entry == 0 ? 0 : knownEnds[entry - 1]
        for index in start..<knownEnds[entry] { ids.append(knownIDs[index]) }
      } else {
        if known.count == Self.keptPieces {
          known.removeAll()
          knownEnds.removeAll(keepingCapacity: true)
          knownIDs.removeAll(keepingCapacity: true)
        }
        let start = ids.count
        model.encode(bytes, &scratch, into: &ids)
        known.add(bytes)
        knownIDs += ids[start...]
        knownEnds.append(knownIDs.count)
      }
    }
  }
}

/// Workspaces that are not in use.
private final class WorkspacePool: Sendable {
  // A workspace is with the pool or with one call, never with both.
  private struct Idle: @unchecked Sendable {
    var workspaces: [Workspace] = []
  }

  private let idle = Mutex(Idle())

  func take() -> Workspace {
    let idle = self.idle.withLock { idle in
      Idle(workspaces: idle.workspaces.popLast().map { [$0] } ?? [])
    }
    return idle.workspaces.first ?? Workspace()
  }

  func giveBack(_ workspace: Workspace) {
    let returned = Idle(workspaces: [workspace])
    idle.withLock { $0.workspaces += returned.workspaces }
  }
}
