// Input that cannot be used: one line that names it, and nothing half done.

import Glibc
import LinearAlgebra
import SystemIO
import Testing
import TestSupport

/// Exit code 1, one `error:` line, last, which holds all `fragments`.
func expectRefusal(
  _ outcome: Outcome, _ fragments: [String], sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(outcome.end == .exit(1), "\(outcome)", sourceLocation: sourceLocation)
  #expect(outcome.stdout == "", sourceLocation: sourceLocation)
  let errors = outcome.messages.filter { $0.hasPrefix("error: ") }
  #expect(errors.count == 1, "\(outcome)", sourceLocation: sourceLocation)
  #expect(errors.last == outcome.messages.last, "\(outcome)", sourceLocation: sourceLocation)
  for fragment in fragments {
    #expect(
      outcome.messages.last?.contains(fragment) == true, "no `\(fragment)` in \(outcome)",
      sourceLocation: sourceLocation)
  }
}

@Suite struct RefusalTests {
  /// Refused before anything was written.
  private func refuse(
    _ model: String, _ options: [String], output: String,
    naming fragments: [String], sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let outcome = try Program.run(["quantize", model, "--output", output] + options)
    expectRefusal(outcome, fragments, sourceLocation: sourceLocation)
    #expect(!FileSystem.exists(output), sourceLocation: sourceLocation)
  }

  @Test func aTruncatedShard() throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      let shard = "model-00003-of-00006.safetensors"
      try model.change(shard) { $0.removeLast(1000) }
      try refuse(
        model.path, quickly, output: "\(folder)/out",
        naming: [shard, "download"])
    }
  }

  @Test(.enabled(if: Engine.bf16.isAvailable))
  func anEngineThatWouldRoundTheWeights() throws {
    try withTemporaryFolder { folder in
      try refuse(
        fixturePath("awq/dense-first"),
        [
          "--calibration", fixturePath("awq/dense-first/calibration.jsonl"), "--group-size", "32",
          "--engine", "bf16",
        ], output: "\(folder)/out",
        naming: ["model.safetensors", "q_proj.weight", "F32", "--engine f32"])
    }
  }

  @Test(.enabled(if: !Engine.bf16.isAvailable))
  func anEngineThatTheCPULacks() throws {
    try withTemporaryFolder { folder in
      try refuse(
        fixtureModel, quickly + ["--engine", "bf16"], output: "\(folder)/out",
        naming: ["--engine bf16", "AVX512_BF16", CPU.instructionSet, "--engine f32"])
    }
  }

  @Test func aShardThatIsNotThere() throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      try FileSystem.remove("\(model.path)/model-00003-of-00006.safetensors")
      try refuse(
        model.path, quickly, output: "\(folder)/out",
        naming: ["model-00003-of-00006.safetensors", "download"])
    }
  }

  @Test func aTensorThatIsNotThere() throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      let tensor = "model.layers.2.mlp.experts.3.down_proj.weight"
      let other = "model.layers.2.mlp.experts.9.down_proj.weight"
      try model.change(model.place(of: tensor).shard, replacing: tensor, with: other)
      try model.change("model.safetensors.index.json", replacing: tensor, with: other)
      try refuse(
        model.path, quickly, output: "\(folder)/out", naming: [tensor, "missing", "download"])
    }
  }

  @Test func aTensorOfAnotherShape() throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      try model.change("config.json", replacing: "\"head_dim\": 32", with: "\"head_dim\": 16")
      try refuse(
        model.path, quickly, output: "\(folder)/out",
        naming: ["self_attn", "expected", "found", "256"])
    }
  }

  @Test func anUnknownArchitecture() throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      try model.change(
        "config.json", replacing: "Glm4MoeForCausalLM", with: "GPT2LMHeadModel")
      try refuse(
        model.path, quickly, output: "\(folder)/out",
        naming: [
          "config.json", "GPT2LMHeadModel", "known: DeepseekV2ForCausalLM",
          "named like those of Glm4MoeForCausalLM",
        ])
    }
  }

  @Test func aConfigThatIsNotJSON() throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      try model.change("config.json") { $0.removeLast(5) }
      try refuse(model.path, quickly, output: "\(folder)/out", naming: ["config.json"])
    }
  }

  @Test func aModelThatIsNotThereOrQuantizedAlready() throws {
    try withTemporaryFolder { folder in
      try refuse(
        "\(folder)/nothing", quickly, output: "\(folder)/out",
        naming: ["\(folder)/nothing", "no such folder"])
      try quantize(to: "\(folder)/first", ["--no-smoothing"])
      try refuse(
        "\(folder)/first", quickly, output: "\(folder)/out",
        naming: ["already quantized", "original"])
    }
  }

  /// NaN is found only when the weight is read; what was done before stays good.
  @Test func aWeightThatIsNotANumber() throws {
    try withTemporaryFolder { folder in
      let tensor = "model.layers.2.mlp.experts.3.down_proj.weight"
      let model = try SpoiledModel("\(folder)/model")
      let (shard, range) = try model.place(of: tensor)
      // bf16, 128 columns, row 5, column 7.
      let offset = range.lowerBound + 2 * (5 * 128 + 7)
      let good = try FileSystem.readFile("\(model.path)/\(shard)")
      try model.change(shard) { $0.replaceSubrange(offset..<offset + 2, with: [0xc0, 0x7f]) }
      let output = "\(folder)/out"
      let run = ["quantize", model.path, "--output", output] + quickly
      let refused = try Program.run(run)
      expectRefusal(refused, [shard, tensor, "[5, 7]", "NaN", "download"])
      #expect(refused.stderr.contains("layer 1 of 0-3: "), "the layers before are done")
      #expect(!FileSystem.exists("\(output)/config.json"))

      try write(good, to: "\(model.path)/\(shard)")
      let second = try Program.run(run)
      #expect(second.end == .exit(0), "\(second)")
      #expect(second.stderr.contains("going on"))
      try quantize(to: "\(folder)/straight")
      #expect(differences(try result(output), try result("\(folder)/straight")) == [])
    }
  }

  @Test(arguments: [
    (["--calibration", "/nowhere/ids.jsonl"], ["/nowhere/ids.jsonl"]),
    (
      quickly + ["--ignore", "model.layer.0.*"],
      ["model.layer.0.*", "near misses", "model.layers.0."]
    ),
    (quickly + ["--ignore", "lm_haed"], ["lm_haed", "near misses", "lm_head"]),
    (quickly + ["--ignore", "re:("], ["re:("]),
    (quickly + ["--memory", "20MiB"], ["20 MiB", "too small", "raise --memory to"]),
  ])
  func optionsThatDoNotFit(options: [String], named: [String]) throws {
    try withTemporaryFolder { folder in
      try refuse(fixtureModel, options, output: "\(folder)/out", naming: named)
    }
  }

  @Test(arguments: [
    (
      "{\"input_ids\": [1, 2, 2048]}\n",
      ["none of 1 rows", "line 1", "token 2", "2048", "tokenizer"]
    ),
    ("{\"input_ids\": [-1]}\n", ["line 1", "-1"]),
    ("{\"body\": \"a\"}\n", ["no column", "`input_ids`", "`body`", "--text-column"]),
    ("{\"input_ids\": []}\n", ["none of 1 rows"]),
    ("", ["no column", "none"]),
  ])
  func calibrationThatCannotBeUsed(rows: String, named: [String]) throws {
    try withTemporaryFolder { folder in
      try write(rows.utf8, to: "\(folder)/ids.jsonl")
      try refuse(
        fixtureModel, ["--calibration", "\(folder)/ids.jsonl"], output: "\(folder)/out",
        naming: ["ids.jsonl"] + named)
    }
  }

  @Test func rowsThatCannotBeUsedAreCountedAndTheOthersUsed() throws {
    try withTemporaryFolder { folder in
      let rows = "{\"input_ids\": [1, 2, 3]}\nhello\n{\"input_ids\": [-1]}\n{\"input_ids\": []}\n"
      try write(rows.utf8, to: "\(folder)/ids.jsonl")
      let outcome = try Program.run([
        "quantize", fixtureModel, "--output", "\(folder)/out", "--calibration",
        "\(folder)/ids.jsonl", "--samples", "4",
      ])
      #expect(outcome.end == .exit(0))
      for fragment in [
        "data: 1 sequences, 3 tokens", "1 rows empty", "2 rows unusable", "ids.jsonl: line 2",
        "4 samples were asked for, the data gives 1",
      ] {
        #expect(outcome.stderr.contains(fragment), "\(outcome.stderr)")
      }
    }
  }

  @Test func withoutDataTheBuiltInChatsAreUsed() throws {
    try withTemporaryFolder { folder in
      let outcome = try Program.run([
        "quantize", fixtureModel, "--output", "\(folder)/out", "--samples", "8",
        "--sequence-length", "32",
      ])
      #expect(outcome.end == .exit(0))
      #expect(outcome.stderr.contains("built-in chats"))
    }
  }

  @Test func aGroupSizeThatDoesNotDivide() throws {
    try withTemporaryFolder { folder in
      try refuse(
        fixturePath("forward/null-head-dim"), ["--no-smoothing"], output: "\(folder)/out",
        naming: ["q_proj", "48", "128", "--group-size", "--ignore"])
    }
  }

  @Test func anotherOnesFolderStaysUntouched() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/thesis"
      try FileSystem.createFolder(output)
      try write("mine".utf8, to: "\(output)/chapter-1.txt")
      let before = try contents(output)
      for more in [[], ["--restart"]] {
        let outcome = try Program.run(
          ["quantize", fixtureModel, "--output", output] + quickly + more)
        expectRefusal(outcome, [output, "not empty", "--output"])
        #expect(try contents(output) == before)
      }
    }
  }

  @Test func anOutputInsideTheModelOrOnIt() throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      let before = try FileSystem.list(model.path)
      for output in [model.path, "\(model.path)/out", "\(folder)/other/../model/out/"] {
        let outcome = try Program.run(["quantize", model.path, "--output", output] + quickly)
        expectRefusal(outcome, ["--output"])
        #expect(try FileSystem.list(model.path) == before)
      }
    }
  }

  @Test func anOutputBelowAFile() throws {
    try withTemporaryFolder { folder in
      try write("".utf8, to: "\(folder)/file")
      for output in ["\(folder)/file", "\(folder)/file/out"] {
        let outcome = try Program.run(["quantize", fixtureModel, "--output", output] + quickly)
        expectRefusal(outcome, ["\(folder)/file", "a file stands where a folder is needed"])
      }
    }
  }

  /// Root may write anywhere.
  @Test(.enabled(if: getuid() != 0, "runs only without root's rights"))
  func anOutputThatMayNotBeWritten() throws {
    try withTemporaryFolder { folder in
      let outcome = try Program.run(
        ["quantize", fixtureModel, "--output", "/proc/out"] + quickly)
      expectRefusal(outcome, ["/proc"])
    }
  }

  @Test(arguments: [
    ["quantize"], ["quantize", fixtureModel], ["qantize", fixtureModel],
    ["quantize", fixtureModel, "--output", "out", "--group-size", "48"],
    ["quantize", fixtureModel, "--output", "out", "--memory", "much"],
    ["quantize", fixtureModel, "--output", "out", "--scheme", "W2"],
    ["quantize", fixtureModel, "--output", "out", "--smoothing"],
    ["verify"],
  ])
  func usageErrorsExitWith64(arguments: [String]) throws {
    try withTemporaryFolder { folder in
      let outcome = try Program.run(arguments, in: folder)
      #expect(outcome.end == .exit(64), "\(outcome)")
      #expect(outcome.stdout.isEmpty)
      #expect(outcome.stderr.contains("Usage:"))
      #expect(try FileSystem.list(folder) == [])
    }
  }
}
