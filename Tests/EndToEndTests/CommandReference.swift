// The page of commands, made from what the program says of itself (`--experimental-dump-help`).

import JSON

/// The commands of the program, as Markdown.
struct CommandReference {
  let text: String

  /// - Parameter dump: what `sluice --experimental-dump-help` prints.
  init(_ dump: String) throws {
    let commands = try JSONValue.parse(Array(dump.utf8)).object?["command"]?.object?["subcommands"]
    text = (commands?.array ?? []).compactMap(\.object)
      .filter { $0["commandName"]?.string != "help" }
      .map(Self.section).joined()
  }

  private static func section(_ command: JSONObject) -> String {
    let name = command["commandName"]?.string ?? ""
    let arguments = (command["arguments"]?.array ?? []).compactMap(\.object).map(Argument.init)
      .filter { $0.isShown }
    var parts = ["## sluice \(name)", prose(command["abstract"]?.string ?? "")]
    let usage = ["sluice \(name)", "[<options>]"] + arguments.compactMap(\.usage)
    parts.append(fenced(usage.joined(separator: " ")))
    for paragraph in (command["discussion"]?.string ?? "").split(separator: "\n\n") {
      let lines = paragraph.split(separator: "\n")
      if lines.first == "EXAMPLES" {
        parts.append(
          fenced(lines.dropFirst().map { String($0.dropFirst(2)) }.joined(separator: "\n")))
      } else {
        parts.append(prose(paragraph))
      }
    }
    parts.append(arguments.map(\.line).joined(separator: "\n"))
    return parts.joined(separator: "\n\n") + "\n\n"
  }

  private struct Argument {
    let isShown: Bool
    /// nil for the options that may be left out.
    let usage: String?
    let line: String

    init(_ argument: JSONObject) {
      let value = "<\(argument["valueName"]?.string ?? "")>"
      let isOptional = argument["isOptional"]?.bool == true
      let isPositional = argument["kind"]?.string == "positional"
      let names = (argument["names"]?.array ?? []).compactMap(\.object).map {
        ($0["kind"]?.string == "short" ? "-" : "--") + ($0["name"]?.string ?? "")
      }
      // Every command has these.
      isShown =
        argument["shouldDisplay"]?.bool == true && !names.contains("--help")
        && !names.contains("--version")
      let full = isPositional ? value : names.last ?? ""
      let withValue = argument["kind"]?.string == "option" ? "\(full) \(value)" : full
      usage = isPositional && isOptional ? "[\(value)]" : isOptional ? nil : withValue
      var text = prose(argument["abstract"]?.string ?? "")
      if let usual = argument["defaultValue"]?.string, !text.contains("Default:") {
        text += " Default: \(usual)."
      }
      if !isPositional && !isOptional { text += " Required." }
      let short = names.dropLast().map { "`\($0)`, " }.joined()
      line = "- \(short)`\(withValue)`: \(text)"
    }
  }
}

private func fenced(_ text: String) -> String { "```\n\(text)\n```" }

/// Words that Markdown would take for something else, and options, become code.
private func prose(_ text: some StringProtocol) -> String {
  text.split(separator: " ").map { word in
    if word.contains("`") { return String(word) }
    let start = String(word.prefix { "('".contains($0) })
    let end = String(String(word.reversed().prefix { ".,;:)'".contains($0) }).reversed())
    let core = word.dropFirst(start.count).dropLast(end.count)
    guard core.hasPrefix("-") || core.contains(where: { "*_<>[]|".contains($0) }) else {
      return String(word)
    }
    return "\(start)`\(core)`\(end)".replacing("'", with: "")
  }.joined(separator: " ")
}
