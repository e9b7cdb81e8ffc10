// What text is cut at, and what becomes of the delimiters.

internal import Expressions

/// What a splitter looks for.
enum Delimiter: Sendable {
  case pattern(Pattern)
  /// Not empty.
  case literal([UInt8])
  /// Every scalar of the set on its own.
  case scalars(ScalarSet)

  func findMatches(
    in text: [UInt8], _ range: Range<Int>, _ region: Pattern.Region,
    into matches: inout [Range<Int>]
  ) throws(TokenizerError) {
    switch self {
    case .pattern(let pattern):
      try pattern.findMatches(in: text, range, region, into: &matches)
    case .literal(let literal):
      var position = range.lowerBound
      while position + literal.count <= range.upperBound {
        if text[position] == literal[0], Self.isEqual(text, position, literal) {
          matches.append(position..<position + literal.count)
          position += literal.count
        } else {
          position += 1
        }
      }
    case .scalars(let set):
      var position = range.lowerBound
      while position < range.upperBound {
        let (value, end) = scalar(in: text, at: position)
        if set.contains(value) { matches.append(position..<end) }
        position = end
      }
    }
  }

  private static func isEqual(_ text: [UInt8], _ position: Int, _ literal: [UInt8]) -> Bool {
    for index in literal.indices where text[position + index] != literal[index] { return false }
    return true
  }
}

/// What happens to a delimiter.
enum SplitBehavior: String, CaseIterable, Sendable {
  case removed = "Removed"
  case isolated = "Isolated"
  case mergedWithPrevious = "MergedWithPrevious"
  case mergedWithNext = "MergedWithNext"
  case contiguous = "Contiguous"
}

struct Splitter: Sendable {
  let delimiter: Delimiter
  let behavior: SplitBehavior
  /// What lies between the matches is the delimiter.
  var isInverted = false

  func split(_ pieces: inout Pieces, _ scratch: SplitScratch) throws(TokenizerError) {
    var result: [Piece] = []
    result.reserveCapacity(max(pieces.pieces.count, pieces.text.count / 5))
    for piece in pieces.pieces {
      if piece.token != nil {
        result.append(piece)
        continue
      }
      scratch.matches.removeAll(keepingCapacity: true)
      try delimiter.findMatches(
        in: pieces.text, piece.range, scratch.region, into: &scratch.matches)
      cut(piece, scratch, into: &result)
    }
    pieces.pieces = result
  }

  private func cut(_ piece: Piece, _ scratch: SplitScratch, into result: inout [Piece]) {
    scratch.parts.removeAll(keepingCapacity: true)
    var end = piece.range.lowerBound
    for match in scratch.matches {
      if match.lowerBound > end {
        scratch.parts.append(Part(range: end..<match.lowerBound, isDelimiter: isInverted))
      }
      scratch.parts.append(Part(range: match, isDelimiter: !isInverted))
      end = match.upperBound
    }
    if end < piece.range.upperBound {
      scratch.parts.append(Part(range: end..<piece.range.upperBound, isDelimiter: isInverted))
    }
    func add(_ range: Range<Int>) {
      if range.isEmpty { return }
      result.append(piece.part(range))
    }
    var wasDelimiter = false
    switch behavior {
    case .isolated:
      for part in scratch.parts { add(part.range) }
    case .removed:
      for part in scratch.parts where !part.isDelimiter { add(part.range) }
    case .contiguous, .mergedWithPrevious:
      var current: Range<Int>?
      for part in scratch.parts {
        let joins =
          behavior == .contiguous
          ? part.isDelimiter == wasDelimiter : part.isDelimiter && !wasDelimiter
        if joins, let open = current {
          current = open.lowerBound..<part.range.upperBound
        } else {
          if let current { add(current) }
          current = part.range
        }
        wasDelimiter = part.isDelimiter
      }
      if let current { add(current) }
    case .mergedWithNext:
      // From right to left, so that a delimiter finds what follows it.
      var joined: [Range<Int>] = []
      for part in scratch.parts.reversed() {
        if part.isDelimiter, !wasDelimiter, let open = joined.last {
          joined[joined.count - 1] = part.range.lowerBound..<open.upperBound
        } else {
          joined.append(part.range)
        }
        wasDelimiter = part.isDelimiter
      }
      for range in joined.reversed() { add(range) }
    }
  }
}

/// A stretch of a piece: a delimiter or what lies between two.
struct Part {
  let range: Range<Int>
  let isDelimiter: Bool
}

/// Working memory of one thread.
final class SplitScratch {
  let region = Pattern.Region(.text)
  var matches: [Range<Int>] = []
  var parts: [Part] = []
}
