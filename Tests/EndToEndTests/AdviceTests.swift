// What a message advises can be done: its flags are those of the command that says it, or of one that it names.

import JSON
import SystemIO
import Testing
import TestSupport

@Suite struct AdviceTests {
  private static let marks = Set(",.;:()[]'\"`=")

  /// Flags in a text, each with the command it is said to belong to: `own`, or the one of `sluice COMMAND --flag`.
  private func flags(in text: String, own: String) -> [(command: String, flag: String)] {
    let words = text.split { $0 == " " || $0 == "\n" }.map { word in
      String(word.drop(while: Self.marks.contains).prefix { !Self.marks.contains($0) })
    }
    return words.indices.filter { words[$0].hasPrefix("--") && words[$0].count > 2 }.map { index in
      let isNamed = index >= 2 && words[index - 2] == "sluice"
      return (isNamed ? words[index - 1] : own, words[index])
    }
  }

  private func help(_ command: String) throws -> Set<String> {
    let help = try Program.run([command, "--help"])
    try #require(help.end == .exit(0), "\(help)")
    return Set(flags(in: help.stdout, own: command).map(\.flag))
  }

  /// The command fails, advises at least one flag, and only ones that there are.
  private func expectAdvice(
    _ arguments: [String], sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let outcome = try Program.run(arguments)
    #expect(outcome.end == .exit(1), "\(outcome)", sourceLocation: sourceLocation)
    let said = outcome.messages.last.map(String.init) ?? ""
    let advised = flags(in: said, own: arguments[0])
    #expect(!advised.isEmpty, "\(said)", sourceLocation: sourceLocation)
    for (command, flag) in advised {
      let known = try help(command)
      #expect(known.contains(flag), "\(command): \(said)", sourceLocation: sourceLocation)
    }
  }

  @Test func `the command that plan prints has no flag that only plan has`() throws {
    let own = try help("plan").subtracting(try help("quantize"))
    let values = ["--hosts": "2", "--within": "100d"]
    let given = own.sorted().flatMap { flag in [flag] + (values[flag].map { [$0] } ?? []) }
    let run = [fixtureModel, "--calibration", fixtureCalibration]
    let outcome = try Program.run(["plan"] + run + given)
    #expect(outcome.end == .exit(0), "\(outcome)")
    let best = try JSONValue.parse(Array(outcome.stdout.utf8)).object?["best_within"]?.object
    let words = try #require(best?["command"]?.array).compactMap(\.string)
    #expect(Array(words.dropFirst()) == ["quantize"] + run + ["--output", "OUT"])
  }

  @Test func `errors advise flags that their command has`() throws {
    try withTemporaryFolder { folder in
      let (output, rows, chats) = ("\(folder)/out", "\(folder)/a.jsonl", "\(folder)/b.jsonl")
      try write("{\"body\":\"Hi\"}\n".utf8, to: rows)
      try write("{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}\n".utf8, to: chats)
      let bare = "\(folder)/bare"
      try FileSystem.createFolder(bare)
      for name in try FileSystem.list(fixtureModel) where !name.hasPrefix("chat_template") {
        try FileSystem.copyFile(from: "\(fixtureModel)/\(name)", to: "\(bare)/\(name)")
      }
      try quantize(to: output)

      try expectAdvice(["plan", fixtureModel, "--memory", "30MiB"])
      try expectAdvice(["plan", fixtureModel, "--ignore", "re:.*"])
      try expectAdvice(["plan", fixtureModel, "--calibration", rows])
      try expectAdvice(["plan", bare, "--calibration", chats])
      try expectAdvice(["evaluate", fixtureModel, "--text", chats, "--memory", "30MiB"])
      try expectAdvice(["evaluate", fixtureModel, "--text", rows])
      try expectAdvice(["evaluate", bare, "--text", chats])
      try expectAdvice(["inspect", rows, "--model", fixtureModel])
      try expectAdvice(["inspect", chats, "--model", bare])
      try expectAdvice(["verify", output, "--memory", "8MiB"])
      try expectAdvice(["quantize", fixtureModel, "--output", "\(fixtureModel)/out"])
      try write("{\"layer\":1}\n".utf8, to: "\(output)/.sluice/choices.jsonl")
      try expectAdvice(["report", output])
      try write("{}".utf8, to: "\(output)/.sluice/state.json")
      for command in ["status", "report"] { try expectAdvice([command, output]) }
      try expectAdvice(["quantize", fixtureModel, "--output", output] + quickly)
    }
  }

  /// Notepad writes one, and editors told to.
  @Test func `a byte order mark before a model's files and a recipe changes nothing`() throws {
    try withTemporaryFolder { folder in
      let model = "\(folder)/model"
      try FileSystem.createFolder(model)
      for name in try FileSystem.list(fixtureModel) {
        let bytes = try FileSystem.readFile("\(fixtureModel)/\(name)")
        try write(
          name.hasSuffix(".json") ? Array("\u{FEFF}".utf8) + bytes : bytes, to: "\(model)/\(name)")
      }
      let recipe = try FileSystem.readFile(fixturePath("recipes/peer-awq.yaml"))
      try write(Array("\u{FEFF}".utf8) + recipe, to: "\(folder)/recipe.yaml")
      try quantize(
        to: "\(folder)/plain", quickly + ["--recipe", fixturePath("recipes/peer-awq.yaml")])
      try quantize(model, to: "\(folder)/marked", quickly + ["--recipe", "\(folder)/recipe.yaml"])
      let (plain, marked) = (try result("\(folder)/plain"), try result("\(folder)/marked"))
      // What is copied keeps its bytes.
      let copied = Set(try FileSystem.list(fixtureModel)).subtracting(["config.json"])
      #expect(differencesBesideCard(plain, marked).filter { !copied.contains($0) } == [])
      let verify = try Program.run(["verify", "\(folder)/marked", "--source", model])
      #expect(verify.end == .exit(0), "\(verify)")
    }
  }
}
