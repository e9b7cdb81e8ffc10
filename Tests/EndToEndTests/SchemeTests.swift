// Schemes as a user names them: one for all Linears, and others for some.

import JSON
import SystemIO
import Testing
import TestSupport

private let options = [
  "--calibration", fixtureCalibration, "--samples", "6", "--memory", "256MiB", "--group-size", "64",
  "--scheme", "w4a16_asym", "--scheme", "attention=W8A16", "--scheme", "shared=w8a16",
]

@Suite struct SchemeTests {
  private static let reference = Result {
    try withTemporaryFolder { folder in
      let start = ContinuousClock.now
      try quantize(to: "\(folder)/out", options)
      return (
        files: try result("\(folder)/out"), milliseconds: (.now - start) / .milliseconds(1)
      )
    }
  }

  @Test func `parts of a model get schemes of their own`() throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try quantize(to: output, options)
      let verify = try Program.run(["verify", output, "--source", fixtureModel])
      #expect(verify.end == .exit(0), "\(verify)")
      let inspect = try Program.run(["inspect", output])
      for part in [
        "8 bits symmetric in groups of 64 for re:", "4 bits asymmetric in groups of 64",
        #"\.shared_experts\.down_proj$"#,
      ] {
        #expect(inspect.stdout.contains(part), "\(part) in \(inspect)")
      }
      let recipe = String(
        decoding: try FileSystem.readFile("\(output)/recipe.yaml"), as: UTF8.self)
      #expect(recipe.contains("group_1:") && recipe.contains("targets: [Linear]"))
      let page = String(
        decoding: try FileSystem.readFile("\(output)/.sluice/report.html"), as: UTF8.self)
      #expect(page.contains("W8A16 in groups of 64") && page.contains("in groups of 64"))
      let json = try Program.run(
        [
          "evaluate", output, "--reference", fixtureModel, "--text", fixtureCalibration,
          "--samples",
          "4", "--json",
        ])
      let object = try #require(try JSONValue.parse(Array(json.stdout.utf8)).object)
      #expect(try #require(object["kl_mean"]?.double) < 0.05)
    }
  }

  @Test func `the head, the embedding, and keys and values have schemes on the command line`()
    throws
  {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try quantize(
        to: output,
        options + [
          "--scheme", "lm_head=W8A16", "--scheme", "embed_tokens=w4a16", "--kv-cache", "fp8_head",
        ])
      let verify = try Program.run(["verify", output, "--source", fixtureModel])
      #expect(verify.end == .exit(0), "\(verify)")
      let config = String(
        decoding: try FileSystem.readFile("\(output)/config.json"), as: UTF8.self)
      #expect(config.contains("\"lm_head\"") && config.contains("model.embed_tokens"))
      #expect(config.contains("\"strategy\": \"attn_head\""))
      let recipe = String(
        decoding: try FileSystem.readFile("\(output)/recipe.yaml"), as: UTF8.self)
      #expect(recipe.contains("kv_cache_scheme:") && recipe.contains("strategy: attn_head"))
      let evaluation = try Program.run(
        ["evaluate", output, "--text", fixtureCalibration, "--samples", "2", "--json"])
      #expect(evaluation.end == .exit(0), "\(evaluation)")
    }
  }

  @Test(arguments: ["quantize", "plan"])
  func `another word for keys and values is refused`(command: String) throws {
    let found = try Program.run([command, fixtureModel, "-o", "/nowhere", "--kv-cache", "int8"])
    #expect(found.end == .exit(64))
    #expect(
      found.stderr.contains("'int8' is invalid for '--kv-cache <scheme>'")
        && found.stderr.contains("'fp8' and 'fp8_head'"), "\(found)")
  }

  @Test(arguments: ["1", "3"]) func `threads change nothing`(threads: String) throws {
    try withTemporaryFolder { folder in
      try quantize(to: "\(folder)/out", options + ["--threads", threads])
      #expect(differences(try result("\(folder)/out"), try Self.reference.get().files) == [])
    }
  }

  @Test(arguments: [0.3, 0.5, 0.7, 0.9])
  func `a killed run goes on to the same bytes`(part: Double) throws {
    let reference = try Self.reference.get()
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      let command = ["quantize", fixtureModel, "--output", output] + options
      _ = try Program(command).kill(after: part * reference.milliseconds)
      let second = try Program.run(command)
      #expect(second.end == .exit(0), "\(second)")
      #expect(differences(try result(output), reference.files) == [])
    }
  }

  /// What is asked for, the exit, and what the refusal says.
  private static let refusals: [(schemes: [String], exit: Int32, words: [String])] = [
    (["UNQUANTIZED"], 64, ["UNQUANTIZED", "not written yet", "`weights`", "W4A16, W4A16_ASYM"]),
    (["experts=W4"], 64, ["no scheme of compressed-tensors"]),
    (["=W4A16"], 64, ["no target"]),
    (["W4A16", "W8A16"], 64, ["given twice", "TARGET=SCHEME"]),
    (["*q_proj=W8A16"], 1, ["q_proj", "k_proj", "W8A16", "W4A16", "as one"]),
    (["dense=W8A16", "*mlp*=W4A16"], 1, ["model.layers.0.mlp", "narrower"]),
    (["*qkv*=W8A16"], 1, ["matches no Linear", "sluice inspect"]),
    (["re:(=W8A16"], 1, ["not a regular expression"]),
  ]

  @Test(arguments: refusals)
  func `what cannot be is refused before anything is written`(
    schemes: [String], exit: Int32, words: [String]
  ) throws {
    try withTemporaryFolder { folder in
      let outcome = try Program.run(
        ["quantize", fixtureModel, "--output", "\(folder)/out"] + quickly
          + schemes.flatMap { ["--scheme", $0] })
      #expect(outcome.end == .exit(exit), "\(outcome)")
      for word in words { #expect(outcome.stderr.contains(word), "\(word) in \(outcome)") }
      #expect(!FileSystem.exists("\(folder)/out"))
    }
  }
}
