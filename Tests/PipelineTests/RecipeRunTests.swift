// What a recipe changes in a run: grid, producers, fingerprint, and the recipe that is written.

import CompressedTensors
import JSON
import Models
import Pipeline
import Quantization
import Recipes
import SystemIO
import Testing
import TestSupport

@Suite struct RecipeRunTests {
  private func choices(_ output: String) throws -> [JSONObject] {
    let text = String(
      decoding: try FileSystem.readFile("\(output)/.sluice/choices.jsonl"), as: UTF8.self)
    return try text.split(separator: "\n").compactMap {
      try JSONValue.parse(Array($0.utf8)).object
    }.filter { $0["smoothing"] != nil }
  }

  @Test func `the grid of a recipe is the one that is searched`() throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options("\(folder)/out")
      options.duoScaling = .off
      options.gridPoints = 5
      try SmallRun.run(options)
      let found = try choices(options.output)
      #expect(!found.isEmpty)
      for choice in found {
        #expect(choice["duo_scaling"]?.bool == false)
        let point = try #require(choice["grid_point"]?.int)
        #expect(choice["ratio"]?.double == Double(point) / 4)
      }
    }
  }

  @Test func `a recipe with mappings smooths only their producers, and verifies`() throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options("\(folder)/out")
      options.mappings = [
        RecipeMapping(smoothLayer: "re:.*up_proj$", balanceLayers: ["re:.*down_proj$"])
      ]
      try SmallRun.run(options)
      let found = try choices(options.output).compactMap { $0["smoothing"]?.string }
      #expect(!found.isEmpty && found.allSatisfy { $0.hasSuffix(".up_proj") })
      let report = try VerifyModel(
        output: options.output, source: options.model, threads: 2
      ).run()
      #expect(report.findings == [])
    }
  }

  /// The values of grouped queries are all that is mapped: the run rounds, and smooths nothing.
  @Test func `a recipe whose mappings fit nothing still makes a checkpoint`() throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options("\(folder)/out")
      options.model = fixturePath("glm4-moe-4m")
      options.mappings = [
        RecipeMapping(smoothLayer: "re:.*v_proj$", balanceLayers: ["re:.*o_proj$"])
      ]
      try SmallRun.run(options)
      #expect(try choices(options.output).isEmpty)
      let report = try VerifyModel(
        output: options.output, source: options.model, threads: 2
      ).run()
      #expect(report.findings == [] && report.rescaledTensors == 0)
    }
  }

  @Test func `mappings that cover everything give the bytes of a run without mappings`() throws {
    try withTemporaryFolder { folder in
      let plain = SmallRun.options("\(folder)/plain")
      try SmallRun.run(plain)
      var mapped = SmallRun.options("\(folder)/mapped")
      mapped.mappings = [
        RecipeMapping(
          smoothLayer: "re:.*input_layernorm$", balanceLayers: ["re:.*self_attn.[qkv]_proj$"]),
        RecipeMapping(smoothLayer: "re:.*v_proj$", balanceLayers: ["re:.*o_proj$"]),
        RecipeMapping(
          smoothLayer: "re:.*post_attention_layernorm$", balanceLayers: ["re:.*mlp.*gate_proj$"]),
        RecipeMapping(smoothLayer: "re:.*up_proj$", balanceLayers: ["re:.*down_proj$"]),
      ]
      var notes = 0
      try SmallRun.run(mapped) { if case .warning(.mapping) = $0 { notes += 1 } }
      #expect(notes == 1)
      var (first, second) = (
        try SmallRun.contents(plain.output, card: false),
        try SmallRun.contents(mapped.output, card: false)
      )
      // files.txt has the recipe's checksum.
      for name in ["recipe.yaml", ".sluice/files.txt"] {
        #expect(first.removeValue(forKey: name) != second.removeValue(forKey: name))
      }
      #expect(first == second)
      // And one can go on where the other stopped.
      mapped.output = plain.output
      try SmallRun.run(mapped)
    }
  }

  @Test func `what a recipe changes is refused by name when a run goes on`() throws {
    try withTemporaryFolder { folder in
      let options = SmallRun.options("\(folder)/out")
      try SmallRun.run(options)
      func refused(_ change: (inout QuantizeOptions) -> Void) -> String? {
        var other = options
        change(&other)
        let error = #expect(throws: RunStateError.self) { try SmallRun.run(other) }
        guard case .otherOptions(_, let option, _, _) = error else { return nil }
        return option
      }
      #expect(refused { $0.duoScaling = .both } == "duo_scaling of --recipe")
      #expect(refused { $0.gridPoints = 21 } == "n_grid of --recipe")
      #expect(
        refused {
          $0.mappings = [
            RecipeMapping(smoothLayer: "re:.*up_proj$", balanceLayers: ["re:.*down_proj$"])
          ]
        } == "mappings of --recipe")
    }
  }

  @Test func `the recipe that is written says what was done, in the peer's words`() throws {
    try withTemporaryFolder { folder in
      var options = SmallRun.options("\(folder)/out")
      options.ignore = ["model.layers.0.*", "re:.*layers\\.1\\..*o_proj$"]
      options.duoScaling = .both
      options.gridPoints = 8
      try SmallRun.run(options)
      let path = "\(options.output)/recipe.yaml"
      #expect(
        try Recipe(path: path)
          == Recipe(
            schemes: options.schemes,
            ignore: [#"re:model\.layers\.0\..*$"#, "re:.*layers\\.1\\..*o_proj$", "lm_head"],
            rounding: .compensated, damping: options.damping, duoScaling: .both, gridPoints: 8))

      var again = SmallRun.options("\(folder)/again")
      again.follow(try Recipe(path: path), file: path)
      try SmallRun.run(again) { event in
        if case .warning(.headStays) = event { Issue.record("lm_head is ignored") }
      }
      #expect(try SmallRun.contents(again.output) == SmallRun.contents(options.output))
    }
  }

  /// What activations become counts in the search, and only then.
  @Test(arguments: ["W8A8", "W4A16"])
  func `SmoothQuant is the search for smoothing scales, and a warning says so`(scheme: String)
    throws
  {
    try withTemporaryFolder { folder in
      var options = SmallRun.options("\(folder)/awq")
      let recipe = Recipe(
        schemes: [try SchemePreset.written(scheme).grouped(by: 32)], ignore: ["lm_head"],
        rounding: .compensated, damping: options.damping)
      options.follow(recipe, file: "awq.yaml")
      try SmallRun.run(options)
      var other = recipe
      other.smoothQuant = SmoothQuant(strength: 0.8)
      var smoothQuant = SmallRun.options("\(folder)/smooth")
      smoothQuant.follow(other, file: "r.yaml")
      var warnings: [RunWarning] = []
      try SmallRun.run(smoothQuant) {
        if case .warning(let warning) = $0 { warnings.append(warning) }
      }
      #expect(
        warnings.contains(
          .smoothQuant(file: "r.yaml", strength: 0.8, seesActivations: scheme == "W8A8")))
      var (first, second) = (
        try SmallRun.contents(options.output, card: false),
        try SmallRun.contents(smoothQuant.output, card: false)
      )
      for name in ["recipe.yaml", ".sluice/files.txt"] {
        #expect(first.removeValue(forKey: name) != second.removeValue(forKey: name))
      }
      #expect(first == second)
      #expect(
        try Recipe(path: smoothQuant.output + "/recipe.yaml").smoothQuant == other.smoothQuant)
    }
  }

  @Test func `what SmoothQuant ignores whole is not smoothed`() throws {
    try withTemporaryFolder { folder in
      func producers(_ ignore: [String]) throws -> Set<String> {
        var options = SmallRun.options("\(folder)/\(ignore.count)")
        options.smoothQuant = SmoothQuant(ignore: ignore)
        try SmallRun.run(options)
        return Set(try choices(options.output).compactMap { $0["smoothing"]?.string })
      }
      let all = try producers([])
      // A producer without its readers stays.
      let norms = try producers(["re:.*input_layernorm$"])
      #expect(norms == all)
      let attention = try producers(["re:.*input_layernorm$", "re:.*self_attn.[qkv]_proj$"])
      #expect(attention == all.filter { !$0.hasSuffix("input_layernorm") })
      #expect(attention.count < all.count)
    }
    var options = SmallRun.options("/nowhere")
    options.recipe = "r.yaml"
    options.smoothQuant = SmoothQuant(ignore: ["model.layers.9"])
    let error = #expect(throws: IgnorePatternError.self) { try QuantizePlan(options) }
    #expect(error?.description.hasPrefix("r.yaml: ignore 'model.layers.9' matches no") == true)
  }

  @Test func `a recipe that does not ignore lm_head is followed with a warning`() throws {
    var options = SmallRun.options("/nowhere")
    options.follow(Recipe(schemes: options.schemes), file: "r.yaml")
    let plan = try QuantizePlan(options)
    #expect(plan.warnings.contains(.headStays(recipe: "r.yaml")))
    #expect(
      RunWarning.headStays(recipe: "r.yaml").description
        == "r.yaml does not ignore `lm_head`; it is not quantized all the same, but where a target spells it "
        + "(`lm_head` in a recipe, --scheme lm_head=W8A16)")
    options.ignore = ["lm_head"]
    #expect(try QuantizePlan(options).warnings == [.roundingOfRecipe(file: "r.yaml")])
  }

  @Test func `an ignore entry that matches nothing is refused with the recipe's name`() {
    var options = SmallRun.options("/nowhere")
    options.follow(Recipe(schemes: options.schemes, ignore: ["lm_haed"]), file: "r.yaml")
    let error = #expect(throws: IgnorePatternError.self) { try QuantizePlan(options) }
    #expect(error?.description.hasPrefix("r.yaml: ignore 'lm_haed' matches no module") == true)
  }

  /// transformers has a module of that name, also where the checkpoint has no tensor for it.
  @Test func `lm_head may be ignored where it shares the embedding`() throws {
    try withCopiedFixture("awq/dense-first") { folder in
      let path = "\(folder)/config.json"
      let text = String(decoding: try FileSystem.readFile(path), as: UTF8.self)
        .replacing(#""tie_word_embeddings": false"#, with: #""tie_word_embeddings": true"#)
      var spec = try Checkpoint(folder: folder).spec
      #expect(!spec.tiesEmbeddings)
      let config = try JSONValue.parse(Array(text.utf8))
      spec = try Architectures.describe(config: config.object ?? JSONObject(), file: path)
      #expect(spec.tiesEmbeddings)
      var tied = try Checkpoint(folder: folder)
      tied.spec = spec
      #expect(OutputPlan.modules(of: CheckpointShapes(tied)).count { $0 == "lm_head" } == 1)
    }
  }
}
