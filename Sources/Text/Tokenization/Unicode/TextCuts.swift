// Where a text can be cut so that its parts have the ids that they have in the whole, and the ids of its beginning.

internal import Expressions
internal import Synchronization

/// A text that must be tokenized at one go, and is too long for that.
package struct UncutText: Error, Equatable {
  /// How long the part without a place to cut it is.
  package let byteCount: Int
  /// What tokenizing it would take.
  package let neededBytes: Int
}

/// Places between an ASCII letter and a blank or the end of a line, with another letter behind.
///
/// The ids on both sides are those of the whole text where nothing that the tokenizer does reaches over such a place: no
/// added token, no normalizer, no match of an expression or look ahead of one, and no token of the vocabulary.
struct TextCuts {
  /// What may stand behind the letter: a blank, a newline, both or none.
  private let separators: [UInt8]
  /// Whether the blank of a cut is left out because the tokenizer puts one there.
  private let dropsBlank: Bool

  init(_ tokenizer: Tokenizer) {
    separators = [UInt8(ascii: " "), UInt8(ascii: "\n")].filter {
      tokenizer.isSafeToCut(before: $0)
    }
    dropsBlank = tokenizer.normalizers.contains(where: \.isPrepend)
  }

  /// Where the part that ends at the first cut from `position` on ends, and where the next begins.
  func first(in text: Span<UInt8>, from position: Int) -> (end: Int, start: Int)? {
    if separators.isEmpty { return nil }
    var index = max(1, position)
    while index + 1 < text.count {
      if separators.contains(text[index]), text[index - 1].isLetter, text[index + 1].isLetter {
        return (index, dropsBlank ? index + 1 : index)
      }
      index += 1
    }
    return nil
  }
}

/// The cuts of one tokenizer, once they have been found.
///
/// Finding them takes longer than tokenizing a part does: every atom of an expression is compiled for it.
final class FoundCuts: Sendable {
  private let cuts = Mutex<TextCuts?>(nil)

  func find(_ tokenizer: Tokenizer) -> TextCuts {
    cuts.withLock { cuts in
      if let cuts { return cuts }
      let found = TextCuts(tokenizer)
      cuts = found
      return found
    }
  }
}

extension UInt8 {
  fileprivate static let letters = (0..<128 as Range<UInt8>).filter(\.isLetter)

  /// Whether the byte is a letter of ASCII.
  fileprivate var isLetter: Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self | 0x20) }
}

extension Tokenizer {
  /// Texts are tokenized in parts of about this many bytes, where they can be cut.
  package static let partBytes = 64 << 10
  /// What a part takes while it is tokenized, over its bytes, at most: pieces, symbols and the queue of their merges.
  private static let workFactor = 128

  /// The first ids of a text, and no more of it than they need.
  ///
  /// - Parameters:
  ///   - isWhole: whether `text` is all there is; else more may follow it.
  ///   - count: how many are wanted; more may come.
  ///   - room: bytes that this may take beside the ids.
  ///   - partBytes: a part ends at the first cut behind this many bytes.
  /// - Returns: at least `count` ids, or all of the text; nil where more than the text that is there is needed.
  package func encodeBeginning(
    _ text: String, isWhole: Bool, atLeast count: Int, room: Int, addSpecialTokens: Bool,
    partBytes: Int = partBytes
  ) throws -> [Int32]? {
    let bytes = text.utf8.span
    let slices = slices?.cut(bytes)
    let cuts = slices == nil && bytes.count > partBytes ? foundCuts.find(self) : nil
    var ids: [Int32] = []
    var start = 0
    var slice = 0
    while start < bytes.count, ids.count < count {
      var part = start..<bytes.count
      var next = bytes.count
      if let slices {
        part = slices[slice]
        next = part.upperBound
        slice += 1
      } else if let cut = cuts?.first(in: bytes, from: start + partBytes) {
        part = start..<cut.end
        next = cut.start
      }
      // The end of what is there need not be an end.
      if next == bytes.count, !isWhole { return nil }
      // A part ends somewhat behind its bytes: at the next cut.
      if part.count > 2 * partBytes, part.count > room / Self.workFactor {
        throw UncutText(byteCount: part.count, neededBytes: part.count * Self.workFactor)
      }
      ids += try encode(Self.copy(bytes.extracting(part)), addSpecialTokens: false)
      start = next
    }
    if !isWhole, ids.count < count { return nil }
    if addSpecialTokens {
      for processor in postProcessors { ids = processor.process(ids) }
    }
    return ids
  }

  private static func copy(_ bytes: Span<UInt8>) -> [UInt8] {
    unsafe bytes.withUnsafeBufferPointer { unsafe Array($0) }
  }

  /// Whether nothing reaches over a place where a letter is followed by `separator`.
  fileprivate func isSafeToCut(before separator: UInt8) -> Bool {
    let blank = [UInt8(ascii: " ")]
    // What the separator has become so far.
    var right = [separator]
    guard rawTokens.isSafeToCut(before: right) else { return false }
    for normalizer in normalizers {
      switch normalizer {
      case .nfc: break
      case .prepend(let prefix):
        // It would come before every part: there it takes the place of the blank.
        guard [separator] == blank, prefix == image(of: blank) else { return false }
        // A token that takes the blank needs it. Behind one that ends with the letter, the blank stays where the prefix
        // is put before it. Only ASCII letters stand before a cut.
        guard
          !rawTokens.patterns.contains(where: {
            $0.first == UInt8(ascii: " ") || ($0.last?.isLetter ?? false)
          })
        else { return false }
        let matchers = [rawTokens, normalizedTokens]
        guard !matchers.contains(where: \.findsTokensThatStartWithLetters) else { return false }
      case .replace(.literal(right), let replacement): right = replacement
      case .replace(.literal(let literal), _):
        if literal.contains(where: { right.contains($0) || $0.isLetter }) { return false }
      case .replace, .precompiled, .strip: return false
      }
    }
    guard isOneScalar(right), normalizedTokens.isSafeToCut(before: right) else { return false }
    var isBoundary = false
    for preTokenizer in preTokenizers {
      switch preTokenizer {
      case .split(let splitter):
        switch splitter.effect(before: right) {
        case .crosses: return false
        case .passes: break
        case .cuts: isBoundary = true
        }
      case .prefixSpace:
        // Not put before a part that begins with a blank.
        guard right == blank else { return false }
      case .spellBytes:
        // Pieces that are not cut by now will not be known by their characters any more.
        guard isBoundary else { return false }
        var spelled: [UInt8] = []
        for byte in right { append(ByteAlphabet.scalars[Int(byte)], to: &spelled) }
        right = spelled
      case .metaspace(let metaspace):
        guard right == blank else { return false }
        // All that a prefix and the first character become is first: in every part, but only once in the whole.
        guard metaspace.prefix != .first || !normalizers.contains(where: \.isPrepend) else {
          return false
        }
        right = metaspace.replacement
        if metaspace.splits { isBoundary = true }
      }
    }
    if isBoundary { return true }
    return if case .bytePairs(let encoder) = model { encoder.isSafeToCut(before: right) } else {
      false
    }
  }

  private func image(of bytes: [UInt8]) -> [UInt8] {
    normalizers.reduce(bytes) { image, normalizer in
      if case .replace(.literal(image), let replacement) = normalizer { replacement } else { image }
    }
  }

  private func isOneScalar(_ bytes: [UInt8]) -> Bool {
    String(decoding: bytes, as: UTF8.self).unicodeScalars.count == 1
  }
}

extension Normalizer {
  fileprivate var isPrepend: Bool { if case .prepend = self { true } else { false } }
}

extension AddedTokenMatcher {
  fileprivate var findsTokensThatStartWithLetters: Bool {
    patterns.contains { $0.first?.isLetter ?? false }
  }

  /// Whether no token spans the place, or looks over it for what stands next to it.
  fileprivate func isSafeToCut(before right: [UInt8]) -> Bool {
    zip(tokens, patterns).allSatisfy { token, pattern in
      !pattern[...].holdsLetter(before: right)
        && !(token.isSingleWord && pattern.starts(with: right))
        && !(token.stripsRight && pattern.last?.isLetter ?? false)
    }
  }
}

/// What splitting does at a place between a letter and what follows it.
private enum SplitEffect {
  /// It may reach over it.
  case crosses
  /// It does nothing there, or what it does there is the same with and without what stands on the other side.
  case passes
  /// Pieces end there, always.
  case cuts
}

extension Splitter {
  fileprivate func effect(before right: [UInt8]) -> SplitEffect {
    let letters = UInt8.letters
    let crosses: Bool
    let touches: Bool
    let cuts: Bool
    switch delimiter {
    case .pattern(let pattern):
      guard let pairs = ConsumedPairs(pattern.source) else { return .crosses }
      crosses = pairs.canTake(letters, then: right)
      touches = pairs.canTake(letters) || pairs.canTake(right)
      // A letter that is a match of its own lies in some match wherever it stands, and that one ends behind it.
      cuts = letters.allSatisfy { letter in
        var matches: [Range<Int>] = []
        let text = [letter] + right
        try? pattern.findMatches(in: text, text.indices, Pattern.Region(.text), into: &matches)
        return matches.first == 0..<1
      }
    case .literal(let literal):
      crosses = literal[...].holdsLetter(before: right)
      touches = literal.contains(where: \.isLetter) || literal.firstRange(of: right) != nil
      cuts = literal == right
    case .scalars(let set):
      let isRight = set.contains(scalar(in: right, at: 0).value)
      let isLetter = letters.map { set.contains(UInt32($0)) }
      crosses = false
      touches = isRight || isLetter.contains(true)
      cuts = isRight || !isLetter.contains(false)
    }
    if crosses { return .crosses }
    switch behavior {
    case .isolated, .removed: return cuts ? .cuts : .passes
    case .mergedWithNext, .mergedWithPrevious, .contiguous: return touches ? .crosses : .passes
    }
  }
}

extension BytePairEncoder {
  /// Whether no merge joins a letter to what follows it: both are symbols of their own, and no token holds the two side by
  /// side.
  fileprivate func isSafeToCut(before right: [UInt8]) -> Bool {
    guard case .scalars = symbols, !ignoresMerges, tokens.id(of: right) != nil,
      UInt8.letters.allSatisfy({ tokens.id(of: [$0]) != nil })
    else { return false }
    return !tokens.tokens.contains { $0.text.holdsLetter(before: right) }
  }
}

extension ArraySlice<UInt8> {
  fileprivate func holdsLetter(before right: [UInt8]) -> Bool {
    var rest = self
    while let place = rest.firstRange(of: right) {
      if place.lowerBound > startIndex, self[place.lowerBound - 1].isLetter { return true }
      rest = self[place.upperBound...]
    }
    return false
  }
}
