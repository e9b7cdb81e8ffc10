// A command or an option that is none: told before what is missing because of it, with the one that was meant.

import ArgumentParser
internal import CompressedTensors
internal import JSON

/// - Parameters:
///   - words: the command line without the program's name.
///   - isUsageError: whether the parser refused them. Where it did not, someone asked for help, and options do not count.
/// - Returns: what to say of the first word that is not known; nil where all are.
func unknownWord(in words: [String], isUsageError: Bool) -> String? {
  let words = words.prefix { $0 != "--" }
  let commands = Sluice.configuration.subcommands
  let names = commands.map { $0._commandName }
  let asked = words.first == "help" ? words.dropFirst() : words
  guard let word = asked.first, !word.isEmpty, !word.hasPrefix("-") else { return nil }
  guard let command = zip(names, commands).first(where: { $0.0 == word })?.1 else {
    return "`\(word)` is no command; "
      + (nearest(word, of: names).map { "did you mean `\($0)`?" }
        ?? "there are \(names.map { "`\($0)`" }.joined(separator: ", "))")
  }
  if !isUsageError { return nil }
  let options = longNames(of: command)
  for word in asked.dropFirst() where word.hasPrefix("--") {
    let name = String(word.dropFirst(2).prefix { $0 != "=" })
    if options.contains(name) { continue }
    return "`\(command._commandName)` has no option `--\(name)`; "
      + (nearest(name, of: options).map { "did you mean `--\($0)`?" }
        ?? "`sluice help \(command._commandName)` lists those it has")
  }
  return nil
}

/// The names of a command's options that begin with two dashes, without these.
private func longNames(of command: any ParsableCommand.Type) -> [String] {
  let description = (try? JSONValue.parse(Array(command._dumpHelp().utf8)))?.object
  let arguments = description?["command"]?.object?["arguments"]?.array ?? []
  let names = arguments.flatMap { $0.object?["names"]?.array ?? [] }.compactMap(\.object)
  return names.filter { $0["kind"]?.string == "long" }.compactMap { $0["name"]?.string }
    + ["help", "version"]
}

/// The candidate that a few changed letters make of `word`, or that is a part of it.
private func nearest(_ word: String, of candidates: [String]) -> String? {
  let far = max(2, word.count / 3)
  let byLetters = candidates.map { ($0, editDistance($0, word)) }.filter { $0.1 <= far }
    .min { $0.1 < $1.1 }?.0
  // `--num-samples` has the samples at its end.
  return byLetters
    ?? candidates.filter { word.hasSuffix("-" + $0) || word.hasSuffix("_" + $0) }
    .max { $0.count < $1.count }
}
