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
          "config.json", "GPT2LMHeadModel", "nearest: ",
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

  @Test func aModelThatIsNotThere() throws {
    try withTemporaryFolder { folder in
      try refuse(
        "\(folder)/nothing", quickly, output: "\(folder)/out",
        naming: ["\(folder)/nothing", "no such folder"])
    }
  }

  /// NaN and infinity in what is quantized, rescaled, copied, or of a layer that no one runs.
  @Test(arguments: [
    ("model.layers.2.mlp.experts.3.down_proj.weight", 128, 5, 7, [0xc0, 0x7f]),
    ("lm_head.weight", 256, 2047, 255, [0x80, 0x7f]),
    ("model.embed_tokens.weight", 256, 1900, 0, [0x80, 0xff]),
    ("model.norm.weight", 0, 0, 3, [0x80, 0xff]),
    ("model.layers.3.input_layernorm.weight", 0, 0, 255, [0x81, 0xff]),
    ("model.layers.1.mlp.gate.weight", 256, 7, 9, [0x80, 0x7f]),
  ])
  func aStoredNumberThatIsNone(
    tensor: String, columns: Int, row: Int, column: Int, bytes: [UInt8]
  ) throws {
    try withTemporaryFolder { folder in
      let model = try SpoiledModel("\(folder)/model")
      let (shard, range) = try model.place(of: tensor)
      let offset = range.lowerBound + 2 * (row * columns + column)
      let good = try FileSystem.readFile("\(model.path)/\(shard)")
      try model.change(shard) { $0.replaceSubrange(offset..<offset + 2, with: bytes) }
      let output = "\(folder)/out"
      let run = ["quantize", model.path, "--output", output] + quickly
      let refused = try Program.run(run)
      expectRefusal(refused, [shard, tensor, "[\(row), \(column)]", "NaN", "download"])
      #expect(!refused.stderr.contains("layer 0 of"), "it shows before any work")
      #expect(!FileSystem.exists("\(output)/config.json"))

      try write(good, to: "\(model.path)/\(shard)")
      let second = try Program.run(run)
      #expect(second.end == .exit(0), "\(second)")
      #expect(second.stderr.contains("going on"))
      #expect(differencesBesideCard(try result(output), try QuickRun.made.get().result) == [])
    }
  }

  /// The largest and the smallest number of bf16 in one group: their distance is infinite.
  @Test(arguments: ["compensated", "clip", "nearest"])
  func aGroupWhoseScaleWouldBeInfinite(rounding: String) throws {
    try withTemporaryFolder { folder in
      // No one reads what this one computes.
      let tensor = "model.layers.3.mlp.experts.3.down_proj.weight"
      let model = try SpoiledModel("\(folder)/model")
      let (shard, range) = try model.place(of: tensor)
      let offset = range.lowerBound + 2 * (9 * 128 + 100)
      try model.change(shard) {
        $0.replaceSubrange(offset..<offset + 4, with: [0x7f, 0x7f, 0x7f, 0xff])
      }
      let output = "\(folder)/out"
      let run =
        ["quantize", model.path, "--output", output, "--rounding", rounding, "--no-smoothing"]
        + quickly
      expectRefusal(
        try Program.run(run + ["--scheme", "W4A16_ASYM"]),
        [shard, tensor, "row 9", "columns 0 to 127", "infinite", "--scheme W4A16"])
      #expect(!FileSystem.exists("\(output)/config.json"))
      // The way out that it names is one.
      let other = try Program.run(run + ["--scheme", "W4A16", "--restart"])
      #expect(other.end == .exit(0), "\(other)")
      let verified = try Program.run(["verify", output])
      #expect(verified.end == .exit(0), "\(verified)")
    }
  }

  /// Numbers so large that what they are multiplied with is none any more.
  @Test func anActivationThatOverflowsNamesTheLargestWeight() throws {
    try withTemporaryFolder { folder in
      let tensor = "model.layers.1.mlp.experts.3.up_proj.weight"
      let model = try SpoiledModel("\(folder)/model")
      let (shard, range) = try model.place(of: tensor)
      let offset = range.lowerBound + 2 * (9 * 256 + 200)
      try model.change(shard) { $0.replaceSubrange(offset..<offset + 2, with: [0x7f, 0xff]) }
      let output = "\(folder)/out"
      let run = ["quantize", model.path, "--output", output] + quickly
      expectRefusal(
        try Program.run(run), ["experts.3.down_proj", "channel 9", shard, tensor, "[9, 200]"])
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
      ["none of 1 row", "line 1", "token 2", "2048", "tokenizer"]
    ),
    ("{\"input_ids\": [-1]}\n", ["line 1", "-1"]),
    ("{\"body\": \"a\"}\n", ["no column", "`input_ids`", "`body`", "--text-column"]),
    ("{\"input_ids\": []}\n", ["none of 1 row"]),
    ("", ["no rows in it"]),
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
        "data: 1 sequence, 3 tokens", "1 row empty", "2 rows unusable", "ids.jsonl: line 2",
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

  /// Someone's model beside an empty `.sluice`; and an output that lost its state.
  @Test func aModelWithoutAStateIsNotOverwritten() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let run = ["quantize", fixtureModel, "--output", output] + quickly
      try writeOutput(QuickRun.made.get().output, to: output)
      let whole = try result(output)
      try FileSystem.remove("\(output)/.sluice/state.json")
      let before = try contents(output)
      expectRefusal(try Program.run(run), [output, "state.json is gone", "--restart"])
      #expect(try contents(output) == before)
      let again = try Program.run(run + ["--restart"])
      #expect(again.end == .exit(0), "\(again)")
      #expect(differences(try result(output), whole) == [])

      for name in try FileSystem.list("\(output)/.sluice") {
        try FileSystem.remove("\(output)/.sluice/\(name)")
      }
      for name in ["", "config.json", "model.safetensors.index.json"] {
        if !name.isEmpty { try FileSystem.remove("\(output)/\(name)") }
        let before = try contents(output)
        for more in [[], ["--restart"]] {
          expectRefusal(try Program.run(run + more), [output, "not empty", "--output"])
          #expect(try contents(output) == before)
        }
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
    ["quantize", fixtureModel, "--output", "out", "--scheme", "FP8", "--group-size", "64"],
    ["quantize", fixtureModel, "--output", "out", "--memory", "much"],
    ["quantize", fixtureModel, "--output", "out", "--scheme", "W2"],
    ["quantize", fixtureModel, "--output", "out", "--smoothing"],
    ["quantize", fixtureModel, "--output", "out", "--samples", "1000000001"],
    ["plan", fixtureModel, "--sequence-length", "9223372036854775807"],
    ["evaluate", fixtureModel, "--text", fixtureCalibration, "--samples", "0"],
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
