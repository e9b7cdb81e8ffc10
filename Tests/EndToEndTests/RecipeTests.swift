// Recipes and models by name, as a user runs the program.

import Glibc
import SystemIO
import Testing
import TestSupport

@Suite struct RecipeTests {
  private func recipe(_ name: String) -> [String] { ["--recipe", fixturePath("recipes/\(name)")] }

  @Test func `a run with flags and a run with the recipe it wrote give identical bytes`() throws {
    try withTemporaryFolder { folder in
      let (first, second) = ("\(folder)/flags", "\(folder)/recipe")
      try quantize(
        to: first,
        quickly + [
          "--ignore", "model.layers.[0-1].*", "--ignore", "re:.*layers\\.2\\..*o_proj$",
          "--scheme", "W4A16_ASYM", "--group-size", "64",
        ])
      try quantize(to: second, quickly + ["--recipe", "\(first)/recipe.yaml"])
      #expect(differences(try result(first), try result(second)) == [])
      #expect(try result(first)["recipe.yaml"] != nil)
    }
  }

  @Test(arguments: [
    "peer-awq.yaml", "peer-torch-device.yaml", "peer-rtn.yaml", "peer-config-groups.yaml",
  ])
  func `a recipe of the peer becomes a checkpoint that verifies`(name: String) throws {
    try withTemporaryFolder { folder in
      let output = "\(folder)/out"
      try quantize(to: output, quickly + recipe(name))
      let verify = try Program.run(["verify", output, "--source", fixtureModel])
      #expect(verify.end == .exit(0), "\(verify)")
    }
  }

  /// The peer's recipe names all that Sluice smooths outside the dense layer, which it ignores.
  @Test func `the peer's AWQ recipe is the run with its flags`() throws {
    try withTemporaryFolder { folder in
      let (first, second) = ("\(folder)/flags", "\(folder)/recipe")
      try quantize(to: first, quickly + ["--ignore", "model.layers.0.*", "--rounding", "nearest"])
      let outcome = try quantize(to: second, quickly + recipe("peer-awq.yaml"))
      #expect(differences(try result(first), try result(second)) == ["README.md", "recipe.yaml"])
      #expect(
        outcome.stderr.contains("warning: mapping of `re:.*layers\\.(1|2|3|4)\\.self_attn.v_proj$`")
      )
    }
  }

  @Test func `flags replace what the recipe says`() throws {
    try withTemporaryFolder { folder in
      let (first, second) = ("\(folder)/flags", "\(folder)/recipe")
      let flags = [
        "--scheme", "W8A16", "--group-size", "64", "--ignore", "model.layers.1.*", "--no-smoothing",
      ]
      try quantize(to: first, flags)
      try quantize(to: second, flags + recipe("peer-awq.yaml"))
      #expect(differences(try result(first), try result(second)) == [])
      try quantize(to: "\(folder)/size", ["--group-size", "64"] + recipe("peer-rtn.yaml"))
      let written = try #require(try result("\(folder)/size")["recipe.yaml"])
      let text = String(decoding: written, as: UTF8.self)
      #expect(text.contains("num_bits: 4") && text.contains("group_size: 64"))
      #expect(text.contains("'re:.*layers\\.0\\..*'"))
    }
  }

  @Test func `a recipe that cannot be followed is refused before anything is written`() throws {
    try withTemporaryFolder { folder in
      for (text, named) in [
        ("SpinQuantModifier: {scheme: W4A16}", ["r.yaml:1: `SpinQuantModifier`"]),
        ("QuantizationModifier: {scheme: W4A17}", ["r.yaml:1: `scheme` is W4A17"]),
        (
          "QuantizationModifier: {scheme: W4A16, ignore: [lm_haed]}",
          ["r.yaml: ignore 'lm_haed'", "lm_head"]
        ),
        (
          "AWQModifier: {scheme: W4A16, mappings: [{smooth_layer: 're:.*q_proj', "
            + "balance_layers: ['re:.*o_proj']}]}",
          ["r.yaml: mapping of `re:.*q_proj`", "no smoothing"]
        ),
      ] {
        try write(text.utf8, to: "\(folder)/r.yaml")
        for command in [
          ["quantize", fixtureModel, "--output", "\(folder)/out"], ["plan", fixtureModel],
        ] {
          let outcome = try Program.run(command + quickly + ["--recipe", "\(folder)/r.yaml"])
          expectRefusal(outcome, named)
        }
        #expect(!FileSystem.exists("\(folder)/out"))
      }
    }
  }
}

@Suite struct ModelNameTests {
  /// A cache that holds the fixture model as `org/tiny`, in links as huggingface_hub makes them.
  private func makeCache(_ home: String) throws -> String {
    let model = "\(home)/hub/models--org--tiny"
    for folder in ["refs", "blobs", "snapshots/abc"] {
      try FileSystem.createFolder("\(model)/\(folder)")
    }
    try write("abc".utf8, to: "\(model)/refs/main")
    for name in try FileSystem.list(fixtureModel) {
      for (target, path) in [
        ("\(fixtureModel)/\(name)", "\(model)/blobs/\(name)"),
        ("../../blobs/\(name)", "\(model)/snapshots/abc/\(name)"),
      ] where unsafe symlink(target, path) != 0 {
        throw SystemError(path: path, call: "symlink", code: errno)
      }
    }
    return model
  }

  @Test func `every command takes a hub id of the local cache`() throws {
    try withTemporaryFolder { home in
      _ = try makeCache(home)
      let environment = ["HF_HOME=\(home)", "HF_HUB_CACHE="]
      let output = "\(home)/out"
      for command in [
        ["inspect", "org/tiny"], ["plan", "org/tiny", "--no-smoothing"],
        ["quantize", "org/tiny@main", "--output", output, "--no-smoothing"],
        ["verify", output, "--source", "org/tiny@abc"],
        [
          "evaluate", output, "--reference", "org/tiny", "--text", fixtureCalibration, "--samples",
          "2",
        ],
      ] {
        let outcome = try Program.run(command, in: home, environment: environment)
        #expect(outcome.end == .exit(0), "\(command): \(outcome)")
      }
      try quantize(to: "\(home)/folder", ["--no-smoothing"])
      #expect(differencesBesideCard(try result(output), try result("\(home)/folder")) == [])
      // The card knows the model's name, and what the evaluation found.
      let card = String(decoding: try FileSystem.readFile("\(output)/README.md"), as: UTF8.self)
      #expect(card.contains("\nbase_model: org/tiny\n"), "\(card)")
      #expect(card.contains("\n# tiny-W4A16\n"), "\(card)")
      #expect(card.contains("\n| calibration.jsonl | "), "\(card)")
    }
  }

  @Test func `a folder of that name wins over the cache`() throws {
    try withTemporaryFolder { home in
      _ = try makeCache(home)
      try FileSystem.createFolder("\(home)/org/tiny")
      let outcome = try Program.run(
        ["inspect", "org/tiny/"], in: home, environment: ["HF_HOME=\(home)", "HF_HUB_CACHE="])
      expectRefusal(outcome, ["org/tiny: no config.json"])
    }
  }

  @Test func `a model that is not there, or not whole, is refused with the command to get it`()
    throws
  {
    try withTemporaryFolder { home in
      let model = try makeCache(home)
      let environment = ["HF_HOME=\(home)", "HF_HUB_CACHE="]
      let other = try Program.run(["inspect", "org/huge"], in: home, environment: environment)
      expectRefusal(other, ["org/huge: no such folder", "\(home)/hub", "`hf download org/huge`"])
      let shard = "model-00003-of-00006.safetensors"
      try FileSystem.remove("\(model)/blobs/\(shard)")
      let partial = try Program.run(
        ["quantize", "org/tiny", "--output", "\(home)/out", "--no-smoothing"], in: home,
        environment: environment)
      expectRefusal(partial, [shard, "`hf download org/tiny`"])
      #expect(!FileSystem.exists("\(home)/out"))
    }
  }

  @Test func `an output inside the snapshot is refused, also by way of a link`() throws {
    try withTemporaryFolder { home in
      let model = try makeCache(home)
      if unsafe symlink("\(model)/snapshots/abc", "\(home)/link") != 0 {
        throw SystemError(path: "\(home)/link", call: "symlink", code: errno)
      }
      let before = try FileSystem.list("\(model)/snapshots/abc")
      for (source, output) in [
        ("org/tiny", "\(model)/snapshots/abc/out"), ("org/tiny", "\(home)/link/out"),
        ("\(home)/link", "\(model)/snapshots/abc"),
      ] {
        let outcome = try Program.run(
          ["quantize", source, "--output", output, "--no-smoothing"], in: home,
          environment: ["HF_HOME=\(home)", "HF_HUB_CACHE="])
        expectRefusal(outcome, ["lies in the model's folder"])
      }
      #expect(try FileSystem.list("\(model)/snapshots/abc") == before)
    }
  }
}
