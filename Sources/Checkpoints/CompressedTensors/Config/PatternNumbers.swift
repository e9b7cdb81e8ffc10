// Numbers that a pattern catches by accident: `re:model.layers.1.*` also matches layers 10 to 19.
internal import JSON

/// A pattern in which the end (or the beginning) of a number is open, and what it catches for that.
package struct OpenNumber: Sendable, Equatable, CustomStringConvertible {
  /// Where the pattern stands.
  package let origin: String
  package let pattern: String
  /// As the pattern writes them, rising.
  package let numbers: [Int]
  /// What they are numbers of: `layers`, `experts`.
  package let noun: String
  /// Caught with them, rising.
  package let caught: [Int]
  /// Matches the same without these; nil where none was found.
  package let remedy: String?

  package var description: String {
    "\(origin) '\(pattern)' also matches \(noun) \(rangesText(caught)), since nothing ends the number "
      + "\(rangesText(numbers)) in it; if they are not meant, "
      + (remedy.map { "write '\($0)'" } ?? "write dots as `\\.`, before and after the number")
  }
}

extension IgnorePattern {
  /// Numbers in names that the pattern matches only because they begin or end with one that it spells out.
  ///
  /// A number counts as caught by accident where the pattern does not spell it, matches the name with the spelled number
  /// in its place, and does not match the name with a number that has nothing to do with those it spells: then it is the
  /// spelled number that let it in, and no wildcard. `1[0-9]?` spells 10 to 19, and says so.
  package func openNumbers(among modules: [String]) -> [OpenNumber] {
    // What is looked at below grows with the square of the pattern, and nobody writes a longer one.
    if text.utf8.count > 4096 { return [] }
    let spelled = spelledNumbers(text).sorted()
    if spelled.isEmpty { return [] }
    let stranger = Self.stranger(to: spelled)
    let matched = modules.filter(fits).map { $0.split(separator: ".").map(String.init) }
    var found: [(noun: String, numbers: Set<Int>, caught: Set<Int>)] = []
    var seen: Set<String> = []
    for parts in matched {
      for (index, part) in parts.enumerated().dropFirst() {
        guard let number = Int(part), !spelled.contains(number),
          seen.insert("\(index) \(number)").inserted,
          !fits(Self.name(parts, index, stranger))
        else { continue }
        let source =
          spelled.first { part.hasPrefix("\($0)") && fits(Self.name(parts, index, "\($0)")) }
          ?? spelled.first { part.hasSuffix("\($0)") && fits(Self.name(parts, index, "\($0)")) }
        guard let source else { continue }
        let noun = parts[index - 1]
        let place = found.firstIndex { $0.noun == noun }
        if place == nil { found.append((noun, [], [])) }
        found[place ?? found.count - 1].numbers.insert(source)
        found[place ?? found.count - 1].caught.insert(number)
      }
    }
    if found.isEmpty { return [] }
    let meant = matched.filter { parts in
      !parts.indices.dropFirst().contains { index in
        found.contains {
          $0.noun == parts[index - 1] && $0.caught.contains(Int(parts[index]) ?? -1)
        }
      }
    }.map { $0.joined(separator: ".") }
    let remedy = closed
    let isRemedy = (try? IgnorePattern(remedy)).map { modules.filter($0.fits) == meant } ?? false
    return found.map {
      OpenNumber(
        origin: origin, pattern: text, numbers: $0.numbers.sorted(), noun: $0.noun,
        caught: $0.caught.sorted(), remedy: isRemedy ? remedy : nil)
    }
  }

  /// What may have been meant: every dot a dot, and every number ended by one.
  private var closed: String {
    let isExpression = text.hasPrefix("re:")
    let dot = isExpression ? "\\." : "."
    var result = isExpression ? "re:" : ""
    var rest = isExpression ? text.dropFirst(3) : text[...]
    while let character = rest.popFirst() {
      if isExpression, character == "\\" {
        result.append(character)
        if let escaped = rest.popFirst() { result.append(escaped) }
        continue
      }
      let isWildcard = rest.first.map { "*+?{".contains($0) } ?? false
      result += isExpression && character == "." && !isWildcard ? dot : String(character)
      // A number at the end, or before anything at all, stands for what is below it.
      guard character.isNumber || character == "]" || character == ")" else { continue }
      if rest.isEmpty {
        result += dot + (isExpression ? ".*" : "*")
      } else if rest.hasPrefix(isExpression ? ".*" : "*") {
        result += dot
      }
    }
    return result
  }

  /// A name with another part.
  private static func name(_ parts: [String], _ index: Int, _ part: String) -> String {
    var parts = parts
    parts[index] = part
    return parts.joined(separator: ".")
  }

  /// Digits that none of `numbers` begins or ends with; no digits where all are taken.
  private static func stranger(to numbers: [Int]) -> String {
    let taken = Set(numbers.flatMap { ["\($0)".first, "\($0)".last] })
    guard let digit = "7539864210".first(where: { !taken.contains($0) }) else { return "x" }
    return "\(digit)\(digit)"
  }
}

/// The numbers that a pattern writes out, in digits or in sets of digits; not those whose end it leaves open on purpose,
/// with a quantifier or in alternatives that more digits follow.
private func spelledNumbers(_ text: String) -> Set<Int> {
  let isExpression = text.hasPrefix("re:")
  let characters = Array(isExpression ? text.dropFirst(3) : text[...])
  /// One digit of a run: the digits that it may be.
  func digit(at index: Int) -> (digits: [Character], end: Int)? {
    guard index < characters.count else { return nil }
    let character = characters[index]
    if character.isASCII, character.isNumber { return ([character], index + 1) }
    if isExpression, character == "\\", index + 1 < characters.count, characters[index + 1] == "d" {
      return (Array("0123456789"), index + 2)
    }
    guard character == "[", let close = characters[index...].firstIndex(of: "]") else { return nil }
    var digits: [Character] = []
    var members = characters[(index + 1)..<close]
    while let low = members.popFirst() {
      guard low.isASCII, low.isNumber else { return nil }
      if members.first == "-", let high = members.dropFirst().first, high.isNumber, low <= high {
        digits += "0123456789".filter { $0 >= low && $0 <= high }
        members = members.dropFirst(2)
      } else {
        digits.append(low)
      }
    }
    return digits.isEmpty ? nil : (digits, close + 1)
  }
  /// Where the text goes on behind alternatives and the end of their group.
  func continuation(from index: Int) -> Int {
    var (index, depth) = (index, 0)
    guard isExpression, index < characters.count, "|)".contains(characters[index]) else {
      return index
    }
    while index < characters.count {
      switch characters[index] {
      case "\\": index += 1
      case "(": depth += 1
      case ")": depth -= 1
      default: break
      }
      index += 1
      if depth < 0 {
        while index < characters.count, "?*+".contains(characters[index]) { index += 1 }
        return continuation(from: index)
      }
    }
    return index
  }
  var numbers: Set<Int> = []
  /// Beginnings of runs that go on with what stands in a group before them.
  var continued: Set<Int> = []
  var index = 0
  while index < characters.count {
    guard digit(at: index) != nil else {
      index += isExpression && characters[index] == "\\" ? 2 : 1
      continue
    }
    let start = index
    var (texts, isOpen) = ([""], false)
    while let (digits, end) = digit(at: index) {
      texts =
        texts.count * digits.count > 1000
        ? [] : texts.flatMap { text in digits.map { text + [$0] } }
      index = end
      if isExpression, index < characters.count, "*+?{".contains(characters[index]) {
        isOpen = true
        index += 1
      }
    }
    let next = continuation(from: index)
    if next != index, digit(at: next) != nil {
      isOpen = true
      continued.insert(next)
    }
    if !isOpen, !continued.contains(start) { numbers.formUnion(texts.compactMap { Int($0) }) }
  }
  return numbers
}
