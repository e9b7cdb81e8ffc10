// The program where weights are not downloaded yet.

import CompressedTensors
import JSON
import SystemIO
import Testing
import TestSupport

@Suite struct ShapesTests {
  private func withConfigAlone(_ body: (String) throws -> Void) throws {
    try withTemporaryFolder { folder in
      let model = folder + "/GLM"
      try FileSystem.createFolder(model)
      try FileSystem.copyFile(
        from: fixtureModel + "/config.json", to: model + "/config.json")
      try body(model)
    }
  }

  @Test func `plan tells memory, disk and arithmetic from config json alone`() throws {
    try withConfigAlone { model in
      let outcome = try Program.run(["plan", model, "--samples", "4", "--memory", "1GiB"])
      #expect(outcome.end == .exit(0), "\(outcome)")
      for fragment in [
        "memory    ", "output    ", "scratch   ", "which are not here, is not counted",
      ] {
        #expect(outcome.stdout.contains(fragment), "\(outcome)")
      }
      #expect(outcome.stderr.contains("the weights are not here"))
      #expect(outcome.stderr.contains("there is no tokenizer here"))
      let json = try Program.run([
        "plan", model, "--samples", "4", "--memory", "1GiB", "--json",
      ])
      let object = try #require(JSONValue.parse(Array(json.stdout.utf8)).object)
      #expect((object["seconds"]?.double ?? 0) > 0 && (object["output_bytes"]?.int ?? 0) > 0)
    }
  }

  @Test func `quantize still needs the weights`() throws {
    try withConfigAlone { model in
      expectRefusal(
        try Program.run(["quantize", model, "--output", model + "-out"]),
        ["model.safetensors", "downloaded model"])
      #expect(!FileSystem.exists(model + "-out"))
    }
  }

  @Test func `inspect shows what config json tells`() throws {
    try withConfigAlone { model in
      let outcome = try Program.run(["inspect", model, "--tensors"])
      #expect(outcome.end == .exit(0), "\(outcome)")
      #expect(outcome.stdout.contains("Glm4MoeForCausalLM"))
      #expect(outcome.stdout.contains("model.layers.1.mlp.experts.0.gate_proj.weight  BF16"))
      #expect(outcome.stderr.contains("note: the weights are not here"))
    }
  }

  @Test func `a data set is shown with a tokenizer alone`() throws {
    try withTemporaryFolder { folder in
      for name in try FileSystem.list(fixtureModel) where !name.hasSuffix(".safetensors") {
        try FileSystem.copyFile(from: "\(fixtureModel)/\(name)", to: "\(folder)/\(name)")
      }
      // A model of any class, with any key.
      let config = JSONObject([("architectures", ["NobodysForCausalLM"]), ("vocab_size", 2048)])
      try write(JSONValue.object(config).serialized().utf8, to: "\(folder)/config.json")
      let outcome = try Program.run([
        "inspect", "builtin", "--model", folder, "--samples", "2",
      ])
      #expect(outcome.end == .exit(0), "\(outcome)")
      #expect(outcome.stdout.contains("2 used"))
    }
  }

  @Test func `plan takes an entry of the cache without weights`() throws {
    try withTemporaryFolder { cache in
      let entry = cache + "/models--me--GLM"
      let snapshot = entry + "/snapshots/0123"
      try FileSystem.createFolder(snapshot)
      try FileSystem.createFolder(entry + "/refs")
      try write("0123".utf8, to: entry + "/refs/main")
      try FileSystem.copyFile(
        from: fixtureModel + "/config.json", to: snapshot + "/config.json")
      for command in ["plan", "inspect"] {
        let outcome = try Program.run(
          [command, "me/GLM"] + (command == "plan" ? ["--samples", "4", "--memory", "1GiB"] : []),
          in: cache, environment: ["HF_HUB_CACHE=" + cache])
        #expect(outcome.end == .exit(0), "\(outcome)")
      }
      let run = try Program.run(
        ["quantize", "me/GLM", "--output", "out"], in: cache,
        environment: ["HF_HUB_CACHE=" + cache])
      expectRefusal(run, ["model.safetensors", "hf download me/GLM"])
    }
  }

  @Test func `an unknown key is refused with the flag that accepts it`() throws {
    try withConfigAlone { model in
      let path = model + "/config.json"
      var config = try #require(JSONValue.parse(FileSystem.readFile(path)).object)
      config["moon_phase"] = 3
      try write(JSONValue.object(config).serialized().utf8, to: path)
      let plan = ["plan", model, "--samples", "4", "--memory", "1GiB"]
      expectRefusal(try Program.run(plan), ["`moon_phase` = 3", "--accept-config-key"])
      let accepted = try Program.run(plan + ["--accept-config-key", "moon_phase"])
      #expect(accepted.end == .exit(0), "\(accepted)")
      #expect(accepted.stderr.contains("`moon_phase` = 3 is not known and passed over"))
    }
  }

  @Test(arguments: [
    ("rope_thet", "did you mean `rope_theta`?"), ("note", "did you mean `rope_scaling.note`?"),
    ("frobnication_level", "has no such key; take the name from the error"),
  ])
  func `an accepted key that config json does not have is refused with the nearest`(
    key: String, advice: String
  ) throws {
    try withConfigAlone { model in
      let path = model + "/config.json"
      var config = try #require(JSONValue.parse(FileSystem.readFile(path)).object)
      config["rope_theta"] = config["rope_theta"] ?? 10000
      config["rope_scaling"] = .object(JSONObject([("note", 1)]))
      try write(JSONValue.object(config).serialized().utf8, to: path)
      #expect(throws: AcceptedKeyMissing.self) {
        try AcceptedKeyMissing.check([key], in: [config], file: path)
      }
      config["rope_scaling"] = nil
      try write(JSONValue.object(config).serialized().utf8, to: path)
      let flag = ["--accept-config-key", key]
      let words = ["--accept-config-key \(key): \(path) has no such key; "]
      for command in [["plan", "--samples", "4", "--memory", "1GiB"], ["inspect"]] {
        expectRefusal(try Program.run([command[0], model] + command.dropFirst() + flag), words)
      }
      config["rope_scaling"] = .object(JSONObject([("note", 1)]))
      do {
        try AcceptedKeyMissing.check([key], in: [config], file: path)
      } catch {
        #expect("\(error)".contains(advice), "\(error)")
      }
    }
  }

  @Test func `sequences beyond the model's positions are warned about before the weights are here`()
    throws
  {
    try withConfigAlone { model in
      let plan = [
        "plan", model, "--samples", "2", "--memory", "4GiB", "--sequence-length", "70000",
      ]
      let outcome = try Program.run(plan)
      #expect(outcome.stderr.contains("(`max_position_embeddings`)"), "\(outcome)")
    }
  }

  @Test func `an output in the model's folder, and a model that is nowhere, are refused at once`()
    throws
  {
    try withConfigAlone { model in
      expectRefusal(
        try Program.run([
          "plan", model, "-o", model + "/out", "--samples", "2", "--memory", "1GiB",
        ]),
        ["the output folder lies in the model's folder"])
      expectRefusal(
        try Program.run(["inspect", fixtureCalibration, "--model", model + "/nowhere"]),
        ["\(model)/nowhere: no such folder"])
      expectRefusal(
        try Program.run([
          "quantize", fixtureModel, "-o", model + "/out", "--report", model + "/nowhere/r.html",
        ]),
        ["\(model)/nowhere/r.html: there is no folder \(model)/nowhere"])
    }
  }
}
