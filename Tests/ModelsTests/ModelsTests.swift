// config.json to description: what is read, what is refused.

import JSON
import Models
import Safetensors
import SystemIO
import Testing
import TestSupport
import Transformer

@Suite struct ModelsTests {
  private func config(_ fixture: String) throws -> JSONObject {
    try #require(
      JSONValue.parse(FileSystem.readFile(fixturePath(fixture + "/config.json"))).object)
  }

  private var published: JSONObject { get throws { try config("forward/published-qk-norm") } }

  private func describe(_ config: JSONObject, ignoring: [String] = []) throws -> ModelSpec {
    try Architectures.describe(config: config, file: "config.json", ignoring: ignoring)
  }

  private func edited(_ edits: [(String, JSONValue?)]) throws -> JSONObject {
    var config = try published
    for (key, value) in edits { config[key] = value }
    return config
  }

  private func expect(
    _ error: ConfigError, with edits: [(String, JSONValue?)],
    _ location: SourceLocation = #_sourceLocation
  ) throws {
    let config = try edited(edits)
    #expect(throws: error, sourceLocation: location) { try describe(config) }
  }

  private func unsupported(_ key: String, _ expected: String, _ found: String) -> ConfigError {
    .unsupported(file: "config.json", key: key, expected: expected, found: found)
  }

  private func implausible(_ key: String, _ expected: String, _ found: String) -> ConfigError {
    .implausible(file: "config.json", key: key, expected: expected, found: found)
  }

  private func rope(_ entries: [(String, JSONValue)]) -> JSONValue { .object(JSONObject(entries)) }

  private func number(_ literal: String) -> JSONValue { .number(JSONNumber(literal: literal)) }

  private func groupedQuery(_ layer: LayerSpec) throws -> GroupedQuerySpec {
    guard case .groupedQuery(let spec) = layer.attention else {
      throw ConfigError.missing(file: layer.linears[0].name, key: "grouped-query attention")
    }
    return spec
  }

  // MARK: what is read

  @Test func theFixtureIsDescribedAsItsConfigSays() throws {
    let spec = try describe(published)
    #expect(spec.architecture == "Glm4MoeForCausalLM")
    #expect(spec.layers.count == 3 && spec.hiddenSize == 32 && spec.vocabularySize == 96)
    #expect(spec.passedThrough == ["model.layers.3."] && !spec.tiesEmbeddings)
    let (dense, sparse) = (spec.layers[0], spec.layers[1])
    #expect(dense.mlp.router == nil && dense.mlp.routed.isEmpty)
    #expect(dense.mlp.alwaysOn.map(\.up.outputs) == [80])
    #expect(sparse.mlp.routed.count == 8 && sparse.mlp.alwaysOn.map(\.up.outputs) == [32])
    #expect(
      sparse.mlp.routed[7].down
        == LinearSpec("model.layers.1.mlp.experts.7.down_proj", inputs: 32, outputs: 32))
    let router = try #require(sparse.mlp.router)
    #expect(router.scalingFactor == 2.5 && router.expertsPerToken == 2 && router.normalizes)
    #expect(router.groups == 1 && router.chosenGroups == 1)
    let attention = try groupedQuery(sparse)
    #expect(attention.heads == 4 && attention.keyValueHeads == 2 && attention.headDimension == 16)
    #expect(attention.rotary == RotarySpec(dimensions: 8, theta: 1_000_000))
    #expect(attention.query.hasBias && attention.value.hasBias && !attention.output.hasBias)
    #expect(
      attention.queryNorm == NormSpec("model.layers.1.self_attn.q_norm", size: 16, epsilon: 1e-5))
  }

  @Test func bothLayoutsGiveTheSameDescription() throws {
    let current = try edited([
      ("rope_theta", nil), ("rope_scaling", nil), ("torch_dtype", nil), ("n_routed_experts", nil),
      ("dtype", "float32"), ("num_local_experts", 8), ("partial_rotary_factor", nil),
      (
        "rope_parameters",
        rope([
          ("partial_rotary_factor", number("0.5")), ("rope_theta", 1_000_000),
          ("rope_type", "default"),
        ])
      ),
    ])
    #expect(try describe(current) == describe(published))
    #expect(try describe(edited([("num_experts", 8)])) == describe(published))
  }

  @Test func headDimNullOrMissingIsTheHiddenSizeOverTheHeads() throws {
    let spec = try describe(config("forward/null-head-dim"))
    #expect(try groupedQuery(spec.layers[0]).headDimension == 16)
    var missing = try config("forward/null-head-dim")
    missing["head_dim"] = nil
    #expect(try describe(missing) == spec)
  }

  @Test func defaultsAreThoseOfTheReference() throws {
    let spec = try describe(
      edited([
        ("attention_bias", nil), ("use_qk_norm", nil), ("n_group", nil), ("topk_group", nil),
        ("norm_topk_prob", nil), ("routed_scaling_factor", nil), ("num_nextn_predict_layers", nil),
        ("partial_rotary_factor", nil), ("tie_word_embeddings", nil),
      ]))
    let layer = spec.layers[1]
    let attention = try groupedQuery(layer)
    #expect(!attention.query.hasBias && attention.queryNorm == nil)
    #expect(layer.mlp.router?.normalizes == true && layer.mlp.router?.scalingFactor == 1)
    #expect(attention.rotary.dimensions == 8 && spec.passedThrough.isEmpty)
    #expect(!spec.tiesEmbeddings)
  }

  @Test func aTiedHeadClaimsNoTensorOfItsOwn() throws {
    let spec = try describe(edited([("tie_word_embeddings", true)]))
    #expect(spec.tiesEmbeddings)
    #expect(!spec.claims.contains { $0.name == "lm_head.weight" })
    #expect(spec.claims.filter { $0.name == "model.embed_tokens.weight" }.count == 1)
  }

  @Test(arguments: [
    "glm4-moe-4m", "rtn/bf16/source", "forward/published-mtp-bf16", "forward/null-head-dim",
    "forward/published-dense-3",
  ])
  func claimsAreExactlyTheTensorsOfTheCheckpoint(fixture: String) throws {
    let spec = try describe(config(fixture))
    let model = try ShardedModel(folder: fixturePath(fixture))
    let tensors = model.tensors.filter { !spec.passesThrough($0.name) }
    #expect(
      spec.claims.map { "\($0.name) \($0.shape)" }.sorted()
        == tensors.map { "\($0.name) \($0.shape)" }.sorted())
    let passed = model.tensors.count - tensors.count
    #expect((passed > 0) == (fixture == "forward/published-mtp-bf16"))
  }

  // MARK: what is refused

  @Test(arguments: [
    "hidden_size", "num_attention_heads", "num_key_value_heads", "rms_norm_eps", "vocab_size",
    "num_hidden_layers", "first_k_dense_replace", "intermediate_size", "moe_intermediate_size",
    "n_routed_experts", "n_shared_experts", "num_experts_per_tok", "rope_theta",
  ])
  func aMissingKeyIsNamed(key: String) throws {
    try expect(.missing(file: "config.json", key: key), with: [(key, nil)])
    try expect(.missing(file: "config.json", key: key), with: [(key, .null)])
  }

  @Test func aValueOfTheWrongTypeIsShownBesideTheExpectedOne() throws {
    func wrong(_ key: String, _ expected: String, _ found: String) -> ConfigError {
      .wrongType(file: "config.json", key: key, expected: expected, found: found)
    }
    let whole = "a whole number of at least 1"
    try expect(wrong("hidden_size", whole, "\"32\""), with: [("hidden_size", "32")])
    try expect(wrong("hidden_size", whole, "0"), with: [("hidden_size", 0)])
    try expect(wrong("hidden_size", whole, "32.0"), with: [("hidden_size", number("32.0"))])
    try expect(
      wrong("first_k_dense_replace", "a whole number of at least 0", "-1"),
      with: [("first_k_dense_replace", -1)])
    try expect(wrong("rms_norm_eps", "a number above 0", "0"), with: [("rms_norm_eps", 0)])
    try expect(wrong("attention_bias", "true or false", "1"), with: [("attention_bias", 1)])
    try expect(
      wrong("rope_parameters", "an object", "\"default\""), with: [("rope_parameters", "default")])
    try expect(
      wrong("rope_parameters.rope_theta", "a number above 0", "\"big\""),
      with: [("rope_parameters", rope([("rope_theta", "big")]))])
  }

  @Test func spellingsOfOneKeyMustAgree() throws {
    try expect(
      .conflict(
        file: "config.json", first: "n_routed_experts", second: "num_local_experts",
        values: "8 and 16"),
      with: [("num_local_experts", 16)])
    try expect(
      .conflict(
        file: "config.json", first: "rope_parameters.rope_type", second: "rope_parameters.type",
        values: "\"default\" and \"yarn\""),
      with: [
        ("rope_parameters", rope([("rope_theta", 1), ("rope_type", "default"), ("type", "yarn")]))
      ])
  }

  @Test func bothPlacesOfARotarySettingMustAgree() throws {
    try expect(
      implausible("rope_theta", "500.0 as in `rope_parameters`", "1000000.0"),
      with: [("rope_parameters", rope([("rope_theta", 500), ("rope_type", "default")]))])
    try expect(
      implausible("partial_rotary_factor", "0.25 as in `rope_parameters`", "0.5"),
      with: [
        (
          "rope_parameters",
          rope([("rope_theta", 1_000_000), ("partial_rotary_factor", number("0.25"))])
        )
      ])
  }

  @Test func whatTheForwardPassDoesNotDoIsRefused() throws {
    try expect(unsupported("hidden_act", "\"silu\"", "\"gelu\""), with: [("hidden_act", "gelu")])
    try expect(
      unsupported(
        "rope_parameters.rope_type",
        "deepseek_yarn or default or dynamic or linear or llama3 or longrope or proportional or "
          + "yarn", "mrope"),
      with: [("rope_parameters", rope([("rope_theta", 1_000_000), ("rope_type", "mrope")]))])
    try expect(
      .missing(file: "config.json", key: "rope_scaling.factor"),
      with: [("rope_scaling", rope([("type", "linear")]))])
    try expect(
      implausible("num_key_value_heads", "a divisor of 4 attention heads", "3"),
      with: [("num_key_value_heads", 3)])
    try expect(
      implausible("partial_rotary_factor", "an even number of rotated dimensions of 16", "0.2"),
      with: [("partial_rotary_factor", number("0.2"))])
    try expect(
      implausible("partial_rotary_factor", "an even number of rotated dimensions of 16", "2.0"),
      with: [("partial_rotary_factor", 2)])
  }

  @Test(arguments: [(3, 1, 2), (8, 8, 2), (2, 3, 2), (4, 1, 3)])
  func aChoiceOfExpertsThatTheGroupsDoNotAllowIsRefused(groups: Int, chosen: Int, k: Int) throws {
    let config = try edited([
      ("n_group", .number(JSONNumber(groups))), ("topk_group", .number(JSONNumber(chosen))),
      ("num_experts_per_tok", .number(JSONNumber(k))),
    ])
    let error = #expect(throws: ConfigError.self) { try describe(config) }
    guard case .implausible(_, "num_experts_per_tok", _, "\(k)") = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func unknownKeysAreRefusedWithTheirValues() throws {
    try expect(
      .unknownKeys(
        file: "config.json", architecture: "Glm4MoeForCausalLM",
        entries: ["`rope_kind` = 4096", "`attn_type` = \"new\""]),
      with: [("rope_kind", 4096), ("attn_type", "new")])
    try expect(
      .unknownKeys(
        file: "config.json", architecture: "Glm4MoeForCausalLM",
        entries: ["`rope_parameters.twist` = 2"]),
      with: [("rope_parameters", rope([("rope_theta", 1_000_000), ("twist", 2)]))])
  }

  @Test func keysThatAreNullInertOrReadByTheCallerPass() throws {
    let config = try edited([
      ("sliding_window", .null), ("_name_or_path", "x"), ("quantization_config", ["any"]),
    ])
    #expect(try describe(config, ignoring: ["quantization_config"]) == describe(published))
    #expect(throws: ConfigError.self) { try describe(config) }
  }

  @Test func anUnknownArchitectureListsTheKnownOnes() throws {
    #expect(Architectures.known.contains("Glm4MoeForCausalLM"))
    try expect(
      .unknownArchitecture(
        file: "config.json", found: "GPT2LMHeadModel", known: Architectures.known, nearest: nil),
      with: [("architectures", ["GPT2LMHeadModel"])])
    try expect(
      .unknownArchitecture(
        file: "config.json", found: "(no `architectures`)", known: Architectures.known,
        nearest: nil),
      with: [("architectures", nil)])
    try expect(
      .unknownArchitecture(
        file: "config.json", found: "[]", known: Architectures.known, nearest: nil),
      with: [("architectures", [])])
  }

  @Test func everyKnownArchitectureHasADescription() throws {
    for name in Architectures.known {
      let config = JSONObject([("architectures", [.string(name)])])
      let error = #expect(throws: ConfigError.self) { try describe(config) }
      if case .unknownArchitecture = error { Issue.record("\(name) is listed but not known") }
    }
  }

  @Test func errorsSayWhatIsWrongAndWhatToDo() {
    #expect(
      "\(ConfigError.missing(file: "m/config.json", key: "vocab_size"))"
        == "m/config.json: `vocab_size` is missing; compare the file with the published one")
    #expect(
      "\(implausible("num_key_value_heads", "a divisor of 4 attention heads", "3"))"
        == "config.json: `num_key_value_heads` is 3 where a divisor of 4 attention heads is expected; "
        + "compare the file with the published one")
    #expect(
      "\(ConfigError.unknownArchitecture(file: "c", found: "X", known: ["A", "B"], nearest: "A"))"
        == "c: unknown architecture X (nearest: A, B); its tensors are named like those of A: where the two compute "
        + "the same, name that one in a copy of the file")
  }

  @Test func `an unknown class is told the nearest three, how many there are, and what lists them`()
  {
    func text(_ found: String) -> String {
      "\(ConfigError.unknownArchitecture(file: "c", found: found, known: Architectures.known, nearest: nil))"
    }
    let lists =
      "; `sluice inspect --architectures` lists the \(Architectures.known.count) that are known"
    #expect(
      text("Qwen3NextMoeForCausalLM").hasPrefix(
        "c: unknown architecture Qwen3NextMoeForCausalLM (nearest: Qwen3NextForCausalLM, "))
    #expect(text("Llama4ForCausalLm").contains("(nearest: Llama4ForCausalLM, "))
    // Of the same family rather than of the same length.
    #expect(
      text("MiniMaxM3ForCausalLM").contains("(nearest: MiniMaxM3SparseForConditionalGeneration, "))
    #expect(text("MiMoV2ForCausalLM").contains("(nearest: MiMoV2FlashForCausalLM, "))
    for found in ["Qwen3NextMoeForCausalLM", "GPT2LMHeadModel", "X"] {
      #expect(text(found).hasSuffix(lists) && text(found).count < 250, "\(text(found))")
    }
    #expect(text("[]") == "c: unknown architecture []" + lists)
  }

  @Test func `scalings that no number holds are refused`() throws {
    let factors: JSONValue = .array(Array(repeating: number("1.0"), count: 4))
    let longrope = rope([
      ("rope_type", "longrope"), ("original_max_position_embeddings", 1), ("factor", 2),
      ("short_factor", factors), ("long_factor", factors),
    ])
    let error = #expect(throws: ConfigError.self) {
      try describe(try edited([("rope_scaling", longrope)]))
    }
    #expect("\(error!)".contains("original_max_position_embeddings"), "\(error!)")
  }
}
