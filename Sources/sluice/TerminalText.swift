// Text on its way to the terminal. It may hold names from files, and these may hold anything.

enum TerminalText {
  /// A line of its own, or a name in one: escaped, and long words cut in the middle.
  static func line(_ text: String) -> String { escaped(cut(text), keepsLines: false) }

  /// Control characters, and what turns the direction of text or cannot be seen, as `\\u001b`: a terminal obeys the raw
  /// ones. In JSON, where they can stand only inside of strings, that means the same.
  static func escaped(_ text: String, keepsLines: Bool) -> String {
    if !text.utf8.contains(where: mayBeUnsafe) { return text }
    var result = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      if isSafe(scalar) || (keepsLines && scalar == "\n") {
        result.append(scalar)
      } else {
        for unit in String(scalar).utf16 {
          let digits = String(unit, radix: 16)
          result.append(contentsOf: "\\u".unicodeScalars)
          result.append(
            contentsOf: String(repeating: "0", count: 4 - digits.utf8.count).unicodeScalars)
          result.append(contentsOf: digits.unicodeScalars)
        }
      }
    }
    return String(result)
  }

  /// Whether a character that begins with this byte may be an unsafe one; for nearly all text none does.
  private static func mayBeUnsafe(_ byte: UInt8) -> Bool {
    byte < 0x20 || [0x7F, 0xC2, 0xD8, 0xE2, 0xEF, 0xF3].contains(byte)
  }

  private static func isSafe(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x09: true
    case 0..<0x20, 0x7F..<0xA0: false
    // Directions, separators, invisible operators, the byte order mark, tags. Not the joiners of U+200C and U+200D,
    // which scripts and emoji are written with.
    case 0x61C, 0x200B, 0x200E...0x200F, 0x2028...0x202E, 0x2060...0x206F, 0xFEFF, 0xFFF9...0xFFFB,
      0xE0000...0xE007F:
      false
    default: true
    }
  }

  /// A terminal of fewer columns wraps lines itself: words hardly fit.
  private static let narrowest = 40

  /// A line cut at words, so that each part fits. Parts after the first stand below the last column of a table, or two
  /// columns in. What stands in backticks stays together: it may be a command.
  static func wrapped(_ line: String, columns: Int) -> [String] {
    if line.columns <= columns || columns < narrowest { return [line] }
    var start = 0
    var (spaces, column) = (0, 0)
    for character in line {
      if character == " " {
        spaces += 1
      } else {
        if spaces > 1 || column == spaces { start = column }
        spaces = 0
      }
      column += String(character).columns
    }
    // Narrower than this, nothing can be read.
    if start == 0 || columns - start < 20 { start = 2 }
    let indent = String(repeating: " ", count: start)
    let words = words(line)
    var (lines, current): ([String], String) = ([], words[0])
    for word in words.dropFirst() {
      let longer = current + " " + word
      if longer.columns <= columns || current.allSatisfy({ $0 == " " }) {
        current = longer
      } else {
        lines.append(current)
        current = indent + word
      }
    }
    return lines + [current]
  }

  /// The words of a line, cut at spaces outside of backticks. A number stays together with its unit; two spaces in a row
  /// have an empty word between them.
  private static func words(_ line: String) -> [String] {
    var words = [""]
    var isQuoted = false
    for character in line {
      if character == "`" { isQuoted.toggle() }
      let word = words[words.count - 1]
      let isNumber = !word.isEmpty && word.allSatisfy { $0.isNumber || $0 == "." }
      if character == " ", !isQuoted, !isNumber {
        words.append("")
      } else {
        words[words.count - 1].append(character)
      }
    }
    return words
  }

  /// Longer than any name that a person gives, bytes.
  private static let longestWord = 512
  private static let shownEnd = 128
  private static let longestLine = 8192

  /// Cuts long words, and then a long line, in the middle, and says how much is left out.
  private static func cut(_ line: String) -> String {
    if line.utf8.count <= longestWord { return line }
    var words: [String] = []
    for word in line.split(separator: " ", omittingEmptySubsequences: false) {
      words.append(cut(String(word), to: longestWord, ends: shownEnd))
    }
    return cut(words.joined(separator: " "), to: longestLine, ends: longestLine / 2 - 64)
  }

  private static func cut(_ text: String, to longest: Int, ends: Int) -> String {
    let count = text.utf8.count
    if count <= longest { return text }
    // By scalars: a character may be as long as a text.
    let scalars = text.unicodeScalars
    let first = String(scalars.prefix(ends))
    let last = String(scalars.suffix(ends))
    return "\(first)…(\(count - first.utf8.count - last.utf8.count) bytes)…\(last)"
  }
}
