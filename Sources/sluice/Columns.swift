// Text in columns.

extension Character {
  /// Wide and fullwidth characters, apart from emoji. Source: Unicode Standard Annex #11, whose blocks these are.
  private static let wide: [ClosedRange<UInt32>] = [
    0x1100...0x115F, 0x2329...0x232A, 0x2E80...0x303E, 0x3041...0x4DBF, 0x4E00...0xA4CF,
    0xA960...0xA97F, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE10...0xFE19, 0xFE30...0xFE6F,
    0xFF01...0xFF60, 0xFFE0...0xFFE6, 0x16FE0...0x18DFF, 0x1AFF0...0x1B2FF, 0x1F200...0x1F265,
    0x20000...0x3FFFD,
  ]

  /// What asks for the colourful form of a character that has two.
  private static let emojiSelector: Unicode.Scalar = "\u{FE0F}"

  /// Columns of a terminal: two for wide characters of East Asia and for emoji.
  fileprivate var columns: Int {
    guard let first = unicodeScalars.first else { return 0 }
    if first.isASCII { return 1 }
    let isEmoji =
      first.properties.isEmojiPresentation || unicodeScalars.contains(Self.emojiSelector)
    return isEmoji || Self.wide.contains { $0.contains(first.value) } ? 2 : 1
  }
}

extension StringProtocol {
  /// Columns of a terminal.
  var columns: Int { reduce(0) { $0 + $1.columns } }
}

/// `text` with spaces behind it, up to the next column, and one space at least.
func padded(_ text: String, to width: Int) -> String {
  text + String(repeating: " ", count: max(1, width - text.columns))
}

/// Cells in columns of one width; the last is as long as it is.
func row(_ cells: [String]) -> String {
  cells.dropLast().map { padded($0, to: 13) }.joined() + (cells.last ?? "")
}
