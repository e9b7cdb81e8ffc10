// FIFOs where files should be: each command says so, and none waits for a writer.

import Glibc
import SystemIO
import Testing
import TestSupport

@Suite struct RegularFilesTests {
  private func makePipe(_ path: String) throws {
    try FileSystem.remove(path)
    try #require(unsafe mkfifo(path, 0o600) == 0)
  }

  @Test(arguments: [
    "config.json", "model.safetensors.index.json", "model-00003-of-00006.safetensors",
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
  ])
  func aFIFOInTheModel(name: String) throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      try makePipe("\(model.path)/\(name)")
      let outcome = try Program.run(["plan", model.path, "--samples", "2"])
      expectRefusal(outcome, ["\(model.path)/\(name)", "found a FIFO"])
    }
  }

  @Test(arguments: [".jsonl", ".ndjson.gz", ".json", ".txt", ".txt.zst", ".parquet"])
  func aFIFOAsData(ending: String) throws {
    try withTemporaryFolder { folder in
      try makePipe("\(folder)/rows\(ending)")
      for path in ["\(folder)/rows\(ending)", folder] {
        for command in [
          ["plan", fixtureModel, "--calibration", path],
          ["inspect", path, "--model", fixtureModel],
          ["evaluate", fixtureModel, "--text", path],
        ] {
          expectRefusal(
            try Program.run(command), ["\(folder)/rows\(ending)", "found a FIFO"])
        }
      }
    }
  }

  @Test(arguments: ["--recipe", "--chat-template"])
  func aFIFOBesideTheModel(flag: String) throws {
    try withTemporaryFolder { folder in
      try makePipe("\(folder)/pipe")
      let outcome = try Program.run([
        "plan", fixtureModel, "--samples", "2", flag, "\(folder)/pipe",
      ])
      expectRefusal(outcome, ["\(folder)/pipe", "found a FIFO"])
    }
  }

  /// A device would be read without end.
  @Test func aDeviceAsData() throws {
    try withTemporaryFolder { folder in
      try #require(unsafe symlink("/dev/zero", "\(folder)/rows.jsonl") == 0)
      let outcome = try Program.run(["plan", fixtureModel, "--calibration", folder])
      expectRefusal(outcome, ["\(folder)/rows.jsonl", "found a character device"])
    }
  }

  @Test func aFIFOAmongTheFilesThatAreCopied() throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      try makePipe("\(model.path)/generation_config.json")
      let outcome = try Program.run(
        ["quantize", model.path, "--output", "\(folder)/out", "--no-smoothing"])
      #expect(outcome.end == .exit(1), "\(outcome)")
      #expect(
        outcome.messages.last?.contains("\(model.path)/generation_config.json: expected") == true)
    }
  }

  @Test(arguments: ["config.json", "model.safetensors.index.json", ".safetensors"])
  func aFIFOInAnOutput(ending: String) throws {
    try withTemporaryFolder { folder in
      try quantize(to: "\(folder)/out", ["--no-smoothing"])
      let name = try #require(FileSystem.list("\(folder)/out").first { $0.hasSuffix(ending) })
      try makePipe("\(folder)/out/\(name)")
      let outcome = try Program.run(["verify", "\(folder)/out"])
      #expect(outcome.end == .exit(1), "\(outcome)")
      #expect((outcome.stdout + outcome.stderr).contains("found a FIFO"), "\(outcome)")
    }
  }
}
