// A strict reader of the pages that reports are: every tag closed, every attribute quoted once.

/// What is wrong with a page.
struct MarkupError: Error, CustomStringConvertible {
  let problem: String
  var description: String { problem }
}

/// The elements and texts of a page, in their order.
struct Markup {
  struct Element {
    let name: String
    var attributes: [String: String] = [:]
    /// All text inside, entities resolved.
    var text = ""
  }

  private(set) var elements: [Element] = []

  private static let empty: Set = ["path", "rect"]
  private static let entities = ["amp": "&", "lt": "<", "gt": ">", "quot": "\"", "#39": "'"]

  init(_ page: String) throws {
    var rest = page[...]
    var open: [Int] = []
    while !rest.isEmpty {
      if rest.hasPrefix("<!DOCTYPE html>") {
        rest = rest.dropFirst("<!DOCTYPE html>".count)
      } else if rest.hasPrefix("</") {
        let name = rest.dropFirst(2).prefix { $0 != ">" }
        guard let last = open.popLast(), elements[last].name == name else {
          throw MarkupError(
            problem: "</\(name)> closes \(open.last.map { elements[$0].name } ?? "nothing")")
        }
        rest = rest.dropFirst(name.count + 3)
      } else if rest.hasPrefix("<") {
        guard let end = rest.firstIndex(of: ">") else {
          throw MarkupError(problem: "no end of a tag")
        }
        var tag = rest[rest.index(after: rest.startIndex)..<end]
        rest = rest[rest.index(after: end)...]
        let closes = tag.hasSuffix("/")
        if closes { tag.removeLast() }
        let element = try Self.element(tag)
        elements.append(element)
        if !closes, !["meta", "wbr"].contains(element.name) { open.append(elements.count - 1) }
        if closes, !Self.empty.contains(element.name) {
          throw MarkupError(problem: "<\(element.name)/> closes itself")
        }
      } else {
        let isStyle = open.last.map { elements[$0].name == "style" } ?? false
        let text = rest.prefix { $0 != "<" }
        let plain = isStyle ? String(text) : try Self.resolved(text)
        for index in open { elements[index].text += plain }
        rest = rest.dropFirst(text.count)
      }
    }
    if let last = open.last { throw MarkupError(problem: "<\(elements[last].name)> stays open") }
  }

  func all(_ name: String) -> [Element] { elements.filter { $0.name == name } }

  private static func element(_ tag: Substring) throws -> Element {
    let name = tag.prefix { $0 != " " }
    var element = Element(name: String(name))
    var rest = tag.dropFirst(name.count).drop { $0 == " " }
    while !rest.isEmpty {
      let key = rest.prefix { $0 != "=" }
      rest = rest.dropFirst(key.count)
      guard rest.hasPrefix("=\""), !key.contains(" "), !key.contains("\"") else {
        throw MarkupError(problem: "bad attribute `\(key)` in <\(tag)>")
      }
      rest = rest.dropFirst(2)
      let value = rest.prefix { $0 != "\"" }
      guard value.count < rest.count else { throw MarkupError(problem: "no end of `\(key)`") }
      rest = rest.dropFirst(value.count + 1)
      guard rest.isEmpty || rest.hasPrefix(" ") else {
        throw MarkupError(problem: "no space after `\(key)` in <\(tag)>")
      }
      rest = rest.drop { $0 == " " }
      guard element.attributes.updateValue(try resolved(value), forKey: String(key)) == nil else {
        throw MarkupError(problem: "`\(key)` twice in <\(tag)>")
      }
    }
    return element
  }

  private static func resolved(_ text: Substring) throws -> String {
    var parts = text.split(separator: "&", omittingEmptySubsequences: false)[...]
    var result = String(parts.removeFirst())
    for part in parts {
      let name = part.prefix { $0 != ";" }
      guard name.count < part.count, let character = entities[String(name)] else {
        throw MarkupError(problem: "a bare & before `\(part.prefix(12))`")
      }
      result += character + part.dropFirst(name.count + 1)
    }
    return result
  }
}
