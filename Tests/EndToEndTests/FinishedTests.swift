// A finished command given again: every byte is looked at, what can be made again is, the rest is refused.

import SystemIO
import Testing
import TestSupport

private let options = quickly + ["--max-shard-size", "2MB"]

@Suite struct FinishedTests {
  /// A finished output, by path in it.
  private static let finished = Result {
    try withTemporaryFolder { folder in
      try quantize(to: "\(folder)/out", options)
      return try outputFiles("\(folder)/out")
    }
  }

  enum Damage: CaseIterable {
    case changed, cut, emptied, removed
  }

  /// Calls `body` with an output in which one file is not as it was.
  private func withDamage(
    _ damage: Damage, to name: String, model: String = fixtureModel,
    _ body: (_ output: String, _ again: Outcome) throws -> Void
  ) throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try writeOutput(Self.finished.get(), to: output)
      var bytes = try #require(try Self.finished.get()[name])
      switch damage {
      case .changed: bytes[bytes.count - 2] ^= 1
      case .cut: bytes.removeLast((bytes.count + 1) / 2)
      case .emptied: bytes = []
      case .removed: break
      }
      try write(bytes, to: "\(output)/\(name)")
      if damage == .removed { try FileSystem.remove("\(output)/\(name)") }
      try body(output, try Program.run(["quantize", model, "--output", output] + options))
    }
  }

  private func isNews(_ name: String) -> Bool { name.hasPrefix(".sluice/") }

  @Test func givenAgainItSaysThatItIsDone() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try quantize(to: output, options)
      let before = try contents(output).filter { !$0.key.contains("/.sluice/") }
      let again = try Program.run(["quantize", fixtureModel, "--output", output] + options)
      #expect(again.end == .exit(0), "\(again)")
      #expect(again.stderr.contains("already finished: \(output)"), "\(again)")
      for text in ["done:", "starting", "going on", "made again", "layer "] {
        #expect(!again.stderr.contains(text), "\(again)")
      }
      #expect(try contents(output).filter { !$0.key.contains("/.sluice/") } == before)
    }
  }

  @Test(arguments: Damage.allCases)
  func whatCanBeMadeAgainIs(damage: Damage) throws {
    let names = try Self.finished.get().keys.filter { !$0.hasSuffix(".safetensors") && !isNews($0) }
    #expect(names.contains("config.json") && names.contains("recipe.yaml"))
    #expect(names.contains("tokenizer.json") && names.contains("model.safetensors.index.json"))
    for name in names {
      try withDamage(damage, to: name) { output, again in
        #expect(again.end == .exit(0), "\(name): \(again)")
        #expect(again.stderr.contains("already finished"), "\(name): \(again)")
        #expect(again.stderr.contains("made again, as it was gone or changed: \(name)"))
        for (path, bytes) in try Self.finished.get() where !isNews(path) {
          #expect(try FileSystem.readFile("\(output)/\(path)") == bytes, "\(path) after \(name)")
        }
      }
    }
  }

  @Test(arguments: Damage.allCases)
  func whatCannotBeMadeAgainIsRefused(damage: Damage) throws {
    let names = try Self.finished.get().keys.filter {
      $0.hasSuffix(".safetensors") || $0 == ".sluice/choices.jsonl"
    }
    #expect(names.count > 3)
    for name in names {
      try withDamage(damage, to: name) { output, again in
        let file = try #require(name.split(separator: "/").last)
        expectRefusal(again, [output, String(file), "--restart"])
      }
    }
  }

  @Test func aSideFileWhoseOriginalIsGoneTooIsRefused() throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      try FileSystem.remove("\(model.path)/generation_config.json")
      try withDamage(.removed, to: "generation_config.json", model: model.path) { output, again in
        expectRefusal(
          again,
          [
            "\(output)/generation_config.json", "\(model.path)/generation_config.json", "--restart",
          ])
      }
      // As long as the output has it, the original may be gone.
      try withDamage(.removed, to: "recipe.yaml", model: model.path) { _, again in
        #expect(again.end == .exit(0), "\(again)")
      }
    }
  }

  /// What vLLM cannot do without is told of, not only tensors.
  @Test func verifyTellsOfFilesBesideTheShards() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try quantize(to: output, options)
      try write("changed".utf8, to: "\(output)/chat_template.jinja")
      let changed = try Program.run(["verify", output])
      #expect(changed.end == .exit(0), "\(changed)")
      #expect(changed.stdout.contains("note: `chat_template.jinja`: is not as the run copied it"))
      try FileSystem.remove("\(output)/tokenizer.json")
      let gone = try Program.run(["verify", output])
      #expect(gone.end == .exit(1), "\(gone)")
      #expect(gone.stdout.contains("FINDING  `tokenizer.json`: is missing"), "\(gone)")
      try FileSystem.remove("\(output)/config.json")
      for command in [["verify", output], ["evaluate", output, "--text", fixtureCalibration]] {
        expectRefusal(
          try Program.run(command), [output, "config.json is gone", "sluice", "quantize"])
      }
    }
  }

  @Test(arguments: ["config.json", "model.safetensors.index.json", "tokenizer.json", "recipe.yaml"])
  func `status and inspect say which file of an output is gone`(name: String) throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try writeOutput(Self.finished.get(), to: output)
      let whole = try Program.run(["status", output])
      #expect(whole.end == .exit(0) && !whole.stdout.contains("gone"), "\(whole)")
      try FileSystem.remove("\(output)/\(name)")
      let status = try Program.run(["status", output])
      #expect(status.end == .exit(0) && status.stdout.contains("gone         \(name)"), "\(status)")
      let inspect = try Program.run(["inspect", output])
      #expect(
        inspect.stderr.contains("\(name) is gone; the command that made the output"), "\(inspect)")
      #expect(inspect.end == .exit(name == "config.json" ? 1 : 0), "\(inspect)")
    }
  }

  @Test(arguments: ["config.json", "tokenizer.json"])
  func `a folder in the place of a file is refused as that`(name: String) throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try writeOutput(Self.finished.get(), to: output)
      try FileSystem.remove("\(output)/\(name)")
      try FileSystem.createFolder("\(output)/\(name)")
      let again = try Program.run(["quantize", fixtureModel, "--output", output] + options)
      #expect(again.end == .exit(1), "\(again)")
      #expect(again.stderr.contains("\(output)/\(name): is a folder"), "\(again)")
      #expect(!again.stderr.contains("the same command goes on"), "\(again)")
    }
  }
}
