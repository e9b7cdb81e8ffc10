// Commands to be given again.

/// Words as a shell takes them.
package func shellText(_ words: [String]) -> String {
  let plain = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:,@%+")
  return words.map { word in
    !word.isEmpty && word.allSatisfy(plain.contains)
      ? word
      : "'"
        + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''")
        + "'"
  }.joined(separator: " ")
}

/// What only `sluice plan` takes: options with a value, and flags.
private let plannersOptions: Set = ["--within", "--hosts"]
private let plannersFlags: Set = ["--json"]

/// The command that does what a command of `sluice plan` plans.
///
/// - Parameters:
///   - words: of `sluice plan`.
///   - flags: that take the place of those in it, each with its value: `--samples 128`.
package func runCommand(planned words: [String], with flags: [String]) -> [String] {
  let added = flags.map { $0.split(separator: " ").map(String.init) }
  let replaced = plannersOptions.union(added.compactMap(\.first))
  var result: [String] = []
  var rest = words[...]
  while let word = rest.popFirst() {
    let name = word.hasPrefix("--") ? String(word.prefix { $0 != "=" }) : word
    if replaced.contains(name) {
      if name == word { _ = rest.popFirst() }
    } else if word == "plan", result.count == 1 {
      result.append("quantize")
    } else if !plannersFlags.contains(word) {
      result.append(word)
    }
  }
  let hasOutput = result.contains { $0 == "-o" || $0 == "--output" || $0.hasPrefix("--output=") }
  return result + (hasOutput ? [] : ["--output", "OUT"]) + added.joined()
}
