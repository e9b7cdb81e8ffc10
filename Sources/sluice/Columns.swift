// Text in columns.

/// `text` with spaces behind it, up to the next column, and one space at least.
func padded(_ text: String, to width: Int) -> String {
  text + String(repeating: " ", count: max(1, width - text.count))
}

/// Cells in columns of one width; the last is as long as it is.
func row(_ cells: [String]) -> String {
  cells.dropLast().map { padded($0, to: 13) }.joined() + (cells.last ?? "")
}
