// SentencePiece's normalization table, as the `tokenizers` package applies it: texts and what replaces them.

/// Source: the crate `spm_precompiled`, which reads what SentencePiece's trainer writes: the size of a double-array trie
/// of texts, the trie, and the replacements, each ended by a zero byte.
struct PrecompiledCharsmap: Sendable {
  private let units: [UInt32]
  private let replacements: [UInt8]

  struct Problem: Error {
    let text: String
  }

  init(_ bytes: some Collection<UInt8>) throws(Problem) {
    let bytes = Array(bytes)
    guard bytes.count >= 4 else { throw Problem(text: "ends before its size") }
    let size = Int(Self.unit(bytes, 0))
    guard size % 4 == 0, size > 0, size <= bytes.count - 4 else {
      throw Problem(text: "says that its trie has \(size) bytes, but \(bytes.count - 4) follow")
    }
    units = (0..<size / 4).map { Self.unit(bytes, 4 + 4 * $0) }
    replacements = Array(bytes[(4 + size)...])
    guard (try? UTF8Span(validating: replacements.span)) != nil else {
      throw Problem(text: "its replacements are not UTF-8")
    }
    try check()
  }

  private static func unit(_ bytes: [UInt8], _ start: Int) -> UInt32 {
    (0..<4).reduce(0) { $0 | UInt32(bytes[start + $1]) << UInt32(8 * $1) }
  }

  func normalize(_ text: [UInt8], _ range: Range<Int>, into result: inout [UInt8]) {
    var position = range.lowerBound
    while position < range.upperBound {
      var end = position + 1
      while end < range.upperBound, !Self.isBreak(text, end) { end += 1 }
      if end == position + 1 {
        replaceOrKeep(text, position..<end, into: &result)
      } else {
        var start = position
        for character in String(decoding: text[position..<end], as: UTF8.self) {
          let stop = start + character.utf8.count
          replaceCharacter(text, start..<stop, into: &result)
          start = stop
        }
      }
      position = end
    }
  }

  /// Whether a character certainly ends here: ASCII follows ASCII, but not as the end of a line.
  private static func isBreak(_ text: [UInt8], _ position: Int) -> Bool {
    let before = text[position - 1]
    let after = text[position]
    return before | after < 0x80 && (before != UInt8(ascii: "\r") || after != UInt8(ascii: "\n"))
  }

  /// The package looks for short characters as a whole first. A match of a part of one replaces the whole of it.
  private func replaceCharacter(_ text: [UInt8], _ range: Range<Int>, into result: inout [UInt8]) {
    if range.count < 6, let replacement = find(text, range) {
      result += replacements[replacement]
      return
    }
    var position = range.lowerBound
    while position < range.upperBound {
      let end = scalar(in: text, at: position).end
      replaceOrKeep(text, position..<end, into: &result)
      position = end
    }
  }

  private func replaceOrKeep(_ text: [UInt8], _ range: Range<Int>, into result: inout [UInt8]) {
    if let replacement = find(text, range) {
      result += replacements[replacement]
    } else {
      result += text[range]
    }
  }

  /// The replacement of the shortest text of the table that `text[range]` starts with.
  private func find(_ text: [UInt8], _ range: Range<Int>) -> Range<Int>? {
    var base = Self.offset(units[0])
    for position in range {
      let label = text[position]
      if label == 0 { return nil }
      let child = base ^ Int(label)
      guard Self.label(units[child]) == UInt32(label) else { return nil }
      base = child ^ Self.offset(units[child])
      if Self.hasValue(units[child]) { return replacement(Self.value(units[base])) }
    }
    return nil
  }

  private func replacement(_ start: Int) -> Range<Int> {
    start..<replacements[start...].firstIndex(of: 0)!
  }

  // MARK: The trie

  // Bits of a unit: 0 to 7 the byte that leads here, 31 set where the unit is a value; 8 whether a value stands at the
  // base of its children; 10 to 30 where they are, from here, 8 bits further left where bit 9 is set.

  private static func label(_ unit: UInt32) -> UInt32 { unit & 0x8000_00FF }
  private static func hasValue(_ unit: UInt32) -> Bool { unit >> 8 & 1 == 1 }
  private static func value(_ unit: UInt32) -> Int { Int(unit & 0x7FFF_FFFF) }
  private static func offset(_ unit: UInt32) -> Int { Int(unit >> 10) << Int((unit & 1 << 9) >> 6) }

  /// Follows every link once, so that no text can lead out of the arrays. Children that lie in a circle do no harm:
  /// each step of a search takes a byte of the text.
  private func check() throws(Problem) {
    var seen = [Bool](repeating: false, count: units.count)
    func enter(_ base: Int, _ open: inout [Int]) throws(Problem) {
      // All bytes must be asked for, and the 256 places are those around the base.
      guard base | 0xFF < units.count else { throw Problem(text: "its trie leads out of itself") }
      if seen[base] { return }
      seen[base] = true
      open.append(base)
    }
    var open: [Int] = []
    try enter(Self.offset(units[0]), &open)
    while let base = open.popLast() {
      for label in 1..<256 {
        let child = base ^ label
        guard Self.label(units[child]) == UInt32(label) else { continue }
        let next = child ^ Self.offset(units[child])
        try enter(next, &open)
        guard Self.hasValue(units[child]) else { continue }
        let start = Self.value(units[next])
        guard start < replacements.count, replacements[start] & 0xC0 != 0x80 else {
          throw Problem(
            text: "a replacement starts at \(start), outside of the text or in a character")
        }
        guard replacements[start...].prefix(Bounds.replacementBytes + 1).contains(0) else {
          throw Problem(
            text: "the replacement at \(start) has more than \(Bounds.replacementBytes) bytes")
        }
      }
    }
  }
}
