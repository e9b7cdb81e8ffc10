// Text that is HTML: what is put into it is escaped unless it is HTML itself.

/// A piece of a page, written as a string literal. Strings that it interpolates are escaped, other pieces are not.
struct HTML: ExpressibleByStringInterpolation {
  let text: String

  init(stringLiteral value: String) { text = value }

  init(stringInterpolation: Interpolation) { text = stringInterpolation.text }

  struct Interpolation: StringInterpolationProtocol {
    fileprivate var text = ""

    init(literalCapacity: Int, interpolationCount: Int) { text.reserveCapacity(literalCapacity) }

    mutating func appendLiteral(_ literal: String) { text += literal }
    mutating func appendInterpolation(_ value: String) { text += escaped(value) }
    mutating func appendInterpolation(_ value: Int) { text += String(value) }
    mutating func appendInterpolation(_ piece: HTML) { text += piece.text }
    mutating func appendInterpolation(_ pieces: [HTML]) {
      for piece in pieces { text += piece.text }
    }
    mutating func appendInterpolation(_ piece: HTML?) { text += piece?.text ?? "" }
  }
}

/// Escaped for text and for attributes in double quotes. Characters that cannot be seen, or that turn the text around them,
/// are spelled out.
private func escaped(_ text: String) -> String {
  var result = ""
  for character in text.unicodeScalars {
    switch character {
    case "&": result += "&amp;"
    case "<": result += "&lt;"
    case ">": result += "&gt;"
    case "\"": result += "&quot;"
    case "'": result += "&#39;"
    case _ where character.properties.generalCategory == .control,
      _ where character.properties.isBidiControl:
      result += "\\u{\(String(character.value, radix: 16))}"
    default: result.unicodeScalars.append(character)
    }
  }
  return result
}

/// The name of a module, which may be broken at its dots.
func code(_ name: String) -> HTML {
  let parts = name.split(separator: ".", omittingEmptySubsequences: false)
  let pieces = parts.enumerated().map { index, part -> HTML in
    index == 0 ? "\(String(part))" : ".<wbr>\(String(part))"
  }
  return "<code>\(pieces)</code>"
}

/// A cell's text, and how it is set.
struct Cell {
  let content: HTML
  var isNumber = false
  /// Left out on narrow screens.
  var isExtra = false

  static func text(_ content: HTML) -> Cell { Cell(content: content) }
  static func number(_ text: String?) -> Cell {
    Cell(content: "\(text ?? "–")", isNumber: true)
  }
  static func extra(_ content: HTML) -> Cell { Cell(content: content, isExtra: true) }
  static func extra(number text: String?) -> Cell {
    Cell(content: "\(text ?? "–")", isNumber: true, isExtra: true)
  }

  fileprivate var attribute: HTML {
    switch (isNumber, isExtra) {
    case (false, false): ""
    case (true, false): " class=\"n\""
    case (false, true): " class=\"wide\""
    case (true, true): " class=\"n wide\""
    }
  }
}

/// A table that may be wider than the screen: it scrolls on its own. The first cell of each row is its header.
func table(_ caption: String, _ heads: [Cell], _ rows: [[Cell]]) -> HTML {
  let head = heads.map { cell -> HTML in "<th scope=\"col\"\(cell.attribute)>\(cell.content)</th>" }
  let body = rows.map { row -> HTML in
    let cells = row.enumerated().map { index, cell -> HTML in
      index == 0
        ? "<th scope=\"row\"\(cell.attribute)>\(cell.content)</th>"
        : "<td\(cell.attribute)>\(cell.content)</td>"
    }
    return "<tr>\(cells)</tr>\n"
  }
  return """
    <div class="scroll" tabindex="0" role="region" aria-label="\(caption)">
    <table><caption>\(caption)</caption>
    <thead><tr>\(head)</tr></thead>
    <tbody>
    \(body)</tbody></table></div>

    """
}

/// A share of one as a bar behind its number.
func bar(_ share: Double?, style: HTML = "after") -> HTML? {
  guard let share, share.isFinite else { return nil }
  let width = figure(max(0, min(1, share)) * 100)
  return "<span class=\"bar\"><i class=\"\(style)\" style=\"width:\(width)%\"></i></span>"
}
