// Mistyped words of a command line. They are told first, with the word that was meant, before anything that is missing
// because of them.

import ArgumentParser
internal import JSON

/// What is wrong with a command line, and the command whose usage is shown with it.
struct WordProblem: Error {
  let text: String
  var command: (any ParsableCommand.Type)?

  /// With the usage of that command.
  var lines: String {
    let usage =
      command.map { "Usage: " + Sluice.usageString(for: $0) } ?? "Usage: sluice <subcommand>"
    let name = (["sluice"] + (command.map { [$0._commandName] } ?? [])).joined(separator: " ")
    return "error: \(text)\n\(usage)\n  See '\(name) --help' for more information."
  }
}

/// A command line without the program's name.
struct Words {
  private let words: [String]
  private let commands = Sluice.configuration.subcommands

  /// Help of help is help.
  init(_ words: [String]) { self.words = words == ["help", "help"] ? ["help"] : words }

  /// For the parser.
  var all: [String] { words }

  private var asksForHelp: Bool { words.first == "help" }

  /// The words without `help`, up to where options end.
  private var asked: ArraySlice<String> {
    let words = words.prefix { $0 != "--" }
    return asksForHelp ? words.dropFirst() : words
  }

  private var command: (any ParsableCommand.Type)? {
    commands.first { $0._commandName == asked.first }
  }

  /// No word of a command line is meant to be empty.
  func checkEmpty() throws(WordProblem) {
    guard let place = words.firstIndex(of: "") else { return }
    throw WordProblem(
      text: "the word after `\(place == 0 ? "sluice" : words[place - 1])` is empty; "
        + "a variable of the shell may not be set", command: place == 0 ? nil : command)
  }

  /// Words beside the command that help is asked of.
  func checkHelp() throws(WordProblem) {
    guard asksForHelp, command != nil, let extra = asked.dropFirst().first else { return }
    throw WordProblem(
      text:
        "`help` takes one command (found `\(extra)`, too); give `sluice help \(asked.first ?? "")`",
      command: command)
  }

  /// - Parameter isUsageError: whether the parser refused the words. Where it did not, someone asked for help, and
  ///   options do not count.
  /// - Returns: what to say of the first word that cannot be meant; nil where all can.
  func problem(isUsageError: Bool) -> WordProblem? {
    guard let first = asked.first, !first.isEmpty else { return nil }
    if first.hasPrefix("-") {
      return isUsageError ? unknownOption(of: nil, among: asked) : nil
    }
    guard let command else {
      let names = commands.map { $0._commandName }
      return WordProblem(
        text: "`\(first)` is no command; "
          + (nearest(first, of: names).map { "did you mean `\($0)`?" }
            ?? "there are \(names.map { "`\($0)`" }.joined(separator: ", "))"))
    }
    if !isUsageError { return nil }
    let words = asked.dropFirst()
    return unknownOption(of: command, among: words) ?? negativeValue(of: command, among: words)
  }

  /// - Parameter command: nil for the program's own options.
  private func unknownOption(
    of command: (any ParsableCommand.Type)?, among words: ArraySlice<String>
  ) -> WordProblem? {
    let options = (command.map(Self.options) ?? []).map(\.name) + ["help", "version"]
    for word in words where word.hasPrefix("--") {
      let name = String(word.dropFirst(2).prefix { $0 != "=" })
      if options.contains(name) { continue }
      let of = command?._commandName
      return WordProblem(
        text: "`\(of ?? "sluice")` has no option `--\(name)`; "
          + (nearest(name, of: options).map { "did you mean `--\($0)`?" }
            ?? "`sluice help\(of.map { " \($0)" } ?? "")` lists those it has"),
        command: command)
    }
    return nil
  }

  /// A number below zero, which the parser takes for an option.
  private func negativeValue(
    of command: any ParsableCommand.Type, among words: ArraySlice<String>
  ) -> WordProblem? {
    for (word, value) in zip(words, words.dropFirst())
    where word.hasPrefix("--") && value.hasPrefix("-") && value.dropFirst().first?.isNumber == true
    {
      guard let option = Self.options(of: command).first(where: { "--\($0.name)" == word }),
        let valueName = option.value
      else { continue }
      return WordProblem(
        text: "`\(word)` takes no number below zero (found \(value), expected <\(valueName)>)",
        command: command)
    }
    return nil
  }

  /// The command's options that begin with two dashes, without these, and what their values are called.
  private static func options(
    of command: any ParsableCommand.Type
  ) -> [(name: String, value: String?)] {
    let description = (try? JSONValue.parse(Array(command._dumpHelp().utf8)))?.object
    let arguments = description?["command"]?.object?["arguments"]?.array ?? []
    return arguments.compactMap(\.object).flatMap { argument in
      (argument["names"]?.array ?? []).compactMap(\.object)
        .filter { $0["kind"]?.string == "long" }.compactMap { $0["name"]?.string }
        .map { (name: $0, value: argument["valueName"]?.string) }
    }
  }
}

/// Says what is wrong with a value where the parser's message does not.
func explained(_ message: String) -> String {
  let lines = message.split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false)
  guard let first = lines.first,
    let match = first.firstMatch(of: #/The value '(.*)' is invalid for '--([a-z-]+) <([a-z]+)>'$/#)
  else { return message }
  let isTooLarge = match.output.1.allSatisfy { $0.isASCII && $0.isNumber }
  let reason =
    switch (match.output.2, match.output.3) {
    case _ where isTooLarge: "the number is too large"
    case ("layers", _): "expected layers such as 40-59 or 0,2,40-59"
    case ("group-size", _): "expected \(GroupSizeArgument.words)"
    case ("window", _): "expected a whole number, such as 4"
    case (_, "n"): "expected a whole number, such as 128"
    default: "expected a number, such as 0.01"
    }
  return first + ": \(reason)" + (lines.count > 1 ? "\n" + lines[1] : "")
}

/// The candidate that a few changed letters make of `word`, or that is a part of it, or that it shortens.
private func nearest(_ word: String, of candidates: [String]) -> String? {
  let far = max(2, word.count / 3)
  let byLetters = candidates.map { ($0, editDistance($0, word)) }.filter { $0.1 <= far }
    .min { $0.1 < $1.1 }?.0
  // `--num-samples` has the samples at its end.
  return byLetters
    ?? candidates.filter { word.hasSuffix("-" + $0) || word.hasSuffix("_" + $0) }
    .max { $0.count < $1.count }
    ?? candidates.first { shortens(word, $0) }
}

/// Whether `--src` stands for `--source`: three letters or more, the first the same, in their order.
private func shortens(_ word: String, _ candidate: String) -> Bool {
  guard word.count >= 3, word.first == candidate.first else { return false }
  var rest = word[...]
  for letter in candidate where letter == rest.first { rest.removeFirst() }
  return rest.isEmpty
}
