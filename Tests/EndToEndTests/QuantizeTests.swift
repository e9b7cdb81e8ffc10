// What a finished run leaves behind.

import CompressedTensors
import JSON
import Safetensors
import SystemIO
import Testing
import TestSupport

@Suite struct QuantizeTests {
  @Test func theFixtureModelBecomesACheckpointThatVerifies() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let run = try quantize(to: output, quickly + ["--memory", "256MiB"])
      #expect(run.stdout.isEmpty)
      let checkpoint = try Checkpoint(folder: output)
      #expect(checkpoint.quantization != nil)
      let layers = run.messages.filter { $0.hasPrefix("layer ") }
      #expect(layers.map { $0.prefix { $0 != ":" } } == (0...3).map { "layer \($0) of 0-3" })
      #expect(!run.stderr.contains("\u{1B}"), "no live line without a terminal")
      #expect(run.messages.contains { $0.hasPrefix("done: \(output)") })

      let verify = try Program.run(["verify", output, "--source", fixtureModel])
      #expect(verify.end == .exit(0), "\(verify)")
      #expect(verify.stdout.contains("no findings"))
      #expect(!FileSystem.exists("\(output)/.sluice/scratch"))
    }
  }

  @Test func thePlanShowsWhatFewerTokensForExpertsSave() throws {
    let arguments =
      ["plan", fixtureModel, "--memory", "256MiB"] + quickly + ["--expert-tokens", "100"]
    let plan = try Program.run(arguments)
    #expect(plan.end == .exit(0), "\(plan)")
    #expect(plan.stdout.contains("experts   see 100 tokens beside their own of "))
    #expect(plan.stdout.contains(" instead of "))
    let json = try Program.run(arguments + ["--json"])
    let object = try #require(try JSONValue.parse(Array(json.stdout.utf8)).object)
    #expect(object["expert_tokens"]?.int == 100)
    let all = try #require(object["operations_of_all_tokens"]?.double)
    #expect(try #require(object["operations"]?.double) < all)
    #expect(object["seconds_of_all_tokens"]?.double != nil)
    let refused = try Program.run(arguments + ["--expert-tokens=-1"])
    #expect(
      refused.end == .exit(64)
        && refused.stderr.contains("expected auto, all, or a number of tokens"))
  }

  @Test func everySmoothingAndEveryLinearIsOnRecord() throws {
    let choices = try #require(QuickRun.made.get().output[".sluice/choices.jsonl"])
    let text = String(decoding: choices, as: UTF8.self)
    var linears: [String: String] = [:]
    var smoothings: Set<String> = []
    for line in text.split(separator: "\n") {
      let object = try #require(try JSONValue.parse(Array(line.utf8)).object)
      if let name = object["linear"]?.string {
        #expect(linears.updateValue(object["fate"]?.string ?? "", forKey: name) == nil)
      } else if let data = object["data"]?.object {
        #expect(data["tokens"]?.int ?? 0 > 0)
      } else if let tokens = object["routing"]?.array {
        #expect(tokens.count == 8)
      } else {
        let name = try #require(object["smoothing"]?.string)
        #expect(smoothings.insert(name).inserted)
        let before = try #require(object["loss_before"]?.double)
        let after = try #require(object["loss_after"]?.double)
        #expect(after <= before, "\(name)")
      }
    }
    let source = try ShardedModel(folder: fixtureModel)
    let layers = source.tensors.map(\.name).filter { $0.hasPrefix("model.layers.") }
    let projections = layers.filter {
      $0.hasSuffix("_proj.weight") && !$0.hasPrefix("model.layers.4.")
    }
    for projection in projections {
      #expect(linears[String(projection.dropLast(".weight".count))] == "packed", "\(projection)")
    }
    #expect(linears.values.count { $0 == "packed" } == projections.count)
    // Both norms of a layer, and up to down of every MLP: one dense, three with 8 experts and a shared one.
    let ups = projections.count { $0.hasSuffix("up_proj.weight") }
    #expect(smoothings.count == 2 * 4 + ups)
  }

  @Test func whatIsNotQuantizedStaysTheSameToTheByte() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try quantize(to: output, quickly + ["--ignore", "model.layers.0.*"])
      let before = try ShardedModel(folder: fixtureModel)
      let after = try ShardedModel(folder: output)
      func isKept(_ name: String) throws -> Bool {
        let first = try #require(before[name])
        let second = try #require(after[name], "\(name)")
        return unsafe first.dtype == second.dtype && first.shape == second.shape
          && first.withBytes { one in
            unsafe second.withBytes { two in unsafe one.elementsEqual(two) }
          }
      }
      let kept = before.tensors.map(\.name).filter {
        !$0.hasPrefix("model.layers.") || $0.hasPrefix("model.layers.0.")
          || $0.hasPrefix("model.layers.4.") || $0.hasSuffix("e_score_correction_bias")
      }
      #expect(kept.contains("lm_head.weight") && kept.contains("model.embed_tokens.weight"))
      #expect(kept.count { $0.hasSuffix("e_score_correction_bias") } >= 3)
      for name in kept { #expect(try isKept(name), "\(name)") }
      // The router reads what the norm before it wrote: it takes part in that norm's smoothing.
      for layer in 1...3 { #expect(try !isKept("model.layers.\(layer).mlp.gate.weight")) }
      #expect(after["model.layers.1.mlp.gate.weight_packed"] == nil)
    }
  }

  @Test func filesBesideTheWeightsComeAlong() throws {
    let output = try QuickRun.made.get().output
    for name in try FileSystem.list(fixtureModel)
    where !name.contains("safetensors") && name != "config.json" {
      #expect(try output[name] == FileSystem.readFile("\(fixtureModel)/\(name)"), "\(name)")
    }
  }

  @Test(arguments: [
    ["--no-smoothing"],
    ["--no-smoothing", "--scheme", "W8A16", "--group-size", "32"],
    quickly + ["--scheme", "W4A16_ASYM", "--group-size", "64"],
    quickly + ["--scheme", "W8A16"],
    quickly + ["--group-size", "32", "--loss", "gram"],
    quickly + ["--ignore", "re:.*experts.*", "--ignore", "model.layers.[02].self_attn.*"],
  ])
  func everySchemeVerifies(options: [String]) throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try quantize(to: output, options)
      let verify = try Program.run(["verify", output, "--source", fixtureModel])
      #expect(verify.end == .exit(0), "\(verify)")
    }
  }

  @Test func anEmptyFolderIsTakenAndAFinishedRunHasNothingToDo() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/a/b"
      try FileSystem.createFolder(output)
      try quantize(to: output + "/")
      let before = try contents(output)
      try quantize(to: output)
      #expect(try contents(output) == before)
    }
  }
}
