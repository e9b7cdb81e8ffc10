// Which characters a regular expression can take one right after the other: where it cannot, every match ends.

internal import Expressions

/// The expression as the set of its single characters (`a`, `\p{L}`, `[^\r\n]`) and which of them may follow which.
///
/// Greediness, backtracking and alternatives only choose among the ways that are counted here. What stands in a
/// lookahead counts as taken behind what stands before it, so that a pair that is not counted is not looked at either.
///
/// Source: Glushkov, "The abstract theory of automata" (1961), first, last and follow.
struct ConsumedPairs {
  private var atoms: [String] = []
  private var follow: Set<Pair> = []
  private let source: [Unicode.Scalar]
  private var position = 0
  private var depth = 0

  // Beyond these an expression is none that splits words.
  private static let mostAtoms = 400
  private static let mostDepth = 60

  private struct Pair: Hashable {
    let left: Int
    let right: Int
  }

  /// A part of the expression: whether it can match nothing, and the characters that it can begin and end with.
  private struct Fragment {
    var canBeEmpty = true
    var first: Set<Int> = []
    var last: Set<Int> = []
  }

  /// - Returns: nil for an expression that can match nothing, or that looks back, at borders of words or lines, or at an
  ///   earlier group: all that depends on more than what is taken.
  init?(_ pattern: String) {
    source = Array(pattern.unicodeScalars)
    guard let whole = alternatives(), position == source.count, !whole.canBeEmpty else {
      return nil
    }
  }

  /// Whether some match, or a try for one, can take a character of `left` and then one of `right`.
  func canTake(_ left: [UInt8], then right: [UInt8]) -> Bool {
    let mayBeLeft = atoms.map { Self.matches($0, left) }
    let mayBeRight = atoms.map { Self.matches($0, right) }
    return follow.contains { mayBeLeft[$0.left] && mayBeRight[$0.right] }
  }

  /// Whether some match, or a try for one, can take one of the characters at all.
  func canTake(_ characters: [UInt8]) -> Bool {
    atoms.contains { Self.matches($0, characters) }
  }

  /// With and without regard to case: which of the two holds at a place is not kept.
  private static func matches(_ atom: String, _ characters: [UInt8]) -> Bool {
    [atom, "(?i:\(atom))"].contains { source in
      var found: [Range<Int>] = []
      guard let pattern = try? Pattern(source),
        (try? pattern.findMatches(
          in: characters, characters.indices, Pattern.Region(.text), into: &found)) != nil
      else { return true }
      return !found.isEmpty
    }
  }

  // MARK: Parsing

  private var next: Unicode.Scalar? { position < source.count ? source[position] : nil }

  private mutating func take(_ text: String) -> Bool {
    let wanted = Array(text.unicodeScalars)
    guard source[position...].starts(with: wanted) else { return false }
    position += wanted.count
    return true
  }

  private mutating func alternatives() -> Fragment? {
    guard depth < Self.mostDepth else { return nil }
    depth += 1
    defer { depth -= 1 }
    guard var result = sequence() else { return nil }
    while take("|") {
      guard let other = sequence() else { return nil }
      result.canBeEmpty = result.canBeEmpty || other.canBeEmpty
      result.first.formUnion(other.first)
      result.last.formUnion(other.last)
    }
    return result
  }

  private mutating func sequence() -> Fragment? {
    var result = Fragment()
    while let scalar = next, scalar != "|", scalar != ")" {
      guard let item = repeated() else { return nil }
      join(result.last, item.first)
      if result.canBeEmpty { result.first.formUnion(item.first) }
      result.last = item.canBeEmpty ? result.last.union(item.last) : item.last
      result.canBeEmpty = result.canBeEmpty && item.canBeEmpty
    }
    return result
  }

  private mutating func join(_ left: Set<Int>, _ right: Set<Int>) {
    for one in left { for other in right { follow.insert(Pair(left: one, right: other)) } }
  }

  private mutating func repeated() -> Fragment? {
    guard var item = single() else { return nil }
    var isJoined = false
    while let scalar = next, "*+?{".unicodeScalars.contains(scalar) {
      position += 1
      if scalar == "{" {
        guard let end = source[position...].firstIndex(of: "}") else { return nil }
        let bounds = source[position..<end]
        guard bounds.allSatisfy({ $0 == "," || ("0"..."9").contains($0) }), bounds.first != ","
        else { return nil }
        if bounds.prefix(while: { $0 != "," }).allSatisfy({ $0 == "0" }) { item.canBeEmpty = true }
        position = end + 1
      } else if scalar != "+" {
        item.canBeEmpty = true
      }
      if scalar != "?", !isJoined {
        join(item.last, item.first)
        isJoined = true
      }
    }
    return item
  }

  private mutating func single() -> Fragment? {
    guard let scalar = next else { return nil }
    switch scalar {
    case "(": return group()
    case "[": return set()
    case "\\": return escape()
    case "^", "$", "*", "+", "?", "{", ")": return nil
    default:
      position += 1
      return atom(String(Character(scalar)))
    }
  }

  private mutating func atom(_ text: String) -> Fragment? {
    guard atoms.count < Self.mostAtoms else { return nil }
    atoms.append(text)
    return Fragment(canBeEmpty: false, first: [atoms.count - 1], last: [atoms.count - 1])
  }

  private mutating func group() -> Fragment? {
    let looksAhead = take("(?=") || take("(?!")
    if !looksAhead, !take("(?:"), !take("(?>"), !take("(?i:"), !take("(?-i:") {
      position += 1
      if next == "?" || next == "*" { return nil }
    }
    guard var body = alternatives(), take(")") else { return nil }
    if looksAhead {
      body.canBeEmpty = true
      body.last = []
    }
    return body
  }

  private mutating func set() -> Fragment? {
    let start = position
    var depth = 0
    repeat {
      guard let scalar = next else { return nil }
      position += 1
      switch scalar {
      case "[":
        depth += 1
        _ = take("^")
        // A bracket that closes at once is meant as itself.
        _ = take("]")
      case "]": depth -= 1
      case "\\": position += 1
      default: break
      }
    } while depth > 0
    guard position <= source.count else { return nil }
    return atom(text(start..<position))
  }

  private mutating func escape() -> Fragment? {
    let start = position
    guard position + 1 < source.count else { return nil }
    let kind = source[position + 1]
    position += 2
    if "pPx".unicodeScalars.contains(kind) {
      guard next == "{", let end = source[position...].firstIndex(of: "}") else { return nil }
      position = end + 1
    } else if kind.properties.isAlphabetic || ("0"..."9").contains(kind) {
      guard "sSdDwWrntfv".unicodeScalars.contains(kind) else { return nil }
    }
    return atom(text(start..<position))
  }

  private func text(_ range: Range<Int>) -> String {
    var text = ""
    text.unicodeScalars.append(contentsOf: source[range])
    return text
  }
}
