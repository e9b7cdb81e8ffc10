// Every architecture on the configurations that transformers judged: what is claimed, and what is refused.

import JSON
import Models
import Safetensors
import SystemIO
import Testing
import TestSupport
import Transformer

private let cases = fixtures(in: "forward")

@Suite struct ArchitecturesTests {
  private func config(_ name: String) throws -> JSONObject {
    try #require(
      JSONValue.parse(FileSystem.readFile(fixturePath("forward/\(name)/config.json"))).object)
  }

  private func describe(_ config: JSONObject, tensors: [String] = []) throws -> ModelSpec {
    try Architectures.describe(
      config: config, file: "config.json", ignoring: ["quantization_config"]
    ) { tensors }
  }

  private func architecture(_ config: JSONObject) -> String {
    config["architectures"]?.array?.first?.string ?? ""
  }

  private func tensors(_ name: String) throws -> [StoredTensor] {
    try ShardedModel(folder: fixturePath("forward/" + name)).tensors
  }

  @Test func everyArchitectureHasACase() throws {
    let judged = Set(try cases.map { architecture(try config($0)) })
    #expect(judged == Set(Architectures.known))
  }

  @Test(arguments: cases)
  func everyTensorIsClaimedOnceWithItsShape(name: String) throws {
    let spec = try describe(config(name))
    #expect(spec.architecture == architecture(try config(name)))
    let claims = spec.claims.map { "\($0.name) \($0.shape)" }
    #expect(Set(claims).count == claims.count)
    let stored = try tensors(name).filter {
      !spec.passesThrough($0.name) && !$0.name.hasSuffix(".weight_scale")
        && !$0.name.hasSuffix("_scale_inv")
    }
    let shapes = Dictionary(uniqueKeysWithValues: stored.map { ($0.name, $0.shape) })
    let places = try spec.places { shapes[$0].map { .shape($0) } }
    let shared = Set(places.values.flatMap(\.tensors))
    let found =
      shapes.filter { !shared.contains($0.key) }.map { "\($0.key) \($0.value)" }
      + places.map { "\($0.key) \($0.value.shape)" }
    #expect(claims.sorted() == found.sorted())
  }

  @Test(arguments: cases)
  func aKeyThatTheDescriptionDoesNotKnowIsRefusedWithItsValue(name: String) throws {
    var config = try config(name)
    config.text["attention_sinks"] = 4
    #expect(
      throws: ConfigError.unknownKeys(
        file: "config.json", architecture: architecture(config),
        entries: ["`\(config.textPrefix)attention_sinks` = 4"])
    ) { try describe(config) }
  }

  @Test(arguments: cases)
  func anotherActivationIsRefused(name: String) throws {
    var config = try config(name)
    let key =
      ["hidden_activation", "mlp_hidden_act"].first { config.text[$0] != nil } ?? "hidden_act"
    // Some files leave the usual one open, and one class has two.
    let own = config.text[key] ?? "silu"
    config.text[key] = "gelu"
    let hasTwo = name.hasPrefix("kimi-k3")
    #expect(
      throws: ConfigError.unsupported(
        file: "config.json", key: config.textPrefix + key,
        expected: hasTwo ? "silu or situ" : own.serialized(), found: hasTwo ? "gelu" : "\"gelu\"")
    ) { try describe(config) }
  }

  @Test(arguments: cases)
  func anUnknownRotationIsRefused(name: String) throws {
    var config = try config(name)
    let key = config.text["rope_parameters"] == nil ? "rope_scaling" : "rope_parameters"
    config.text[key] = .object(JSONObject([("rope_type", "spiral"), ("rope_theta", 10_000)]))
    config.text["rope_theta"] = nil
    let turns = try describe(self.config(name)).layers.flatMap(\.parts).contains { part in
      switch part.sequence?.mixer {
      case .groupedQuery(let spec): spec.rotary.dimensions > 0
      case .latent(let spec): spec.turns
      default: false
      }
    }
    // Nobody asks where nothing turns.
    if !turns { return }
    let error = #expect(throws: ConfigError.self) { try describe(config) }
    guard case .unsupported(_, "\(config.textPrefix)\(key).rope_type", _, "spiral") = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  /// Lists of these lengths would take all the memory there is, or trap.
  @Test(arguments: cases, [1 << 20, 1_000_000_000, 1 << 40, Int.max])
  func countsBeyondTheTensorsThatAreThereAreRefusedBeforeListsAreMade(name: String, count: Int)
    throws
  {
    let config = try config(name)
    let names = try tensors(name).map(\.name)
    for key in [
      "num_hidden_layers", "n_routed_experts", "num_experts", "num_local_experts",
      "moe_num_experts", "num_nextn_predict_layers",
    ] where config.text[key]?.int ?? 0 > 0 {
      var spoiled = config
      spoiled.text[key] = .number(JSONNumber(count))
      let layers =
        key.hasPrefix("num_hidden") || key.hasPrefix("num_next")
        ? 1
        : try #require(
          config.text["num_hidden_layers"]?.int ?? config.text["layers_block_type"]?.array?.count)
      let error = ConfigError.tooMany(
        file: "config.json", key: config.textPrefix + key, count: count, layers: layers,
        tensors: names.count)
      #expect(throws: error) { try describe(spoiled, tensors: names) }
      // Without any weights, too.
      #expect(throws: ConfigError.self) { try describe(spoiled) }
    }
  }

  @Test func `every spelling of the number of prediction layers is counted`() throws {
    for (name, key) in [
      ("published-mtp-bf16", "num_nextn_predict_layers"), ("published-mtp-bf16", "num_mtp_layers"),
      ("minimax-m2-partial", "num_mtp_modules"), ("qwen35-moe-fused", "mtp_num_hidden_layers"),
    ] {
      var config = try config(name)
      config["num_nextn_predict_layers"] = nil
      config[key] = .number(JSONNumber(1 << 26))
      #expect(
        throws: ConfigError.tooMany(
          file: "config.json", key: key, count: 1 << 26, layers: 1, tensors: 0)
      ) { try describe(config) }
    }
  }

  /// They are as good as one large number.
  @Test func `numbers in a list are held within what is believed`() throws {
    let large = JSONNumber(9_000_000_000_000_000_000)
    func filled(_ name: String, _ keys: [String]) throws -> JSONObject {
      var config = try config(name)
      let layers = try #require(config["num_hidden_layers"]?.int)
      for key in keys { config[key] = .array(Array(repeating: .number(large), count: layers)) }
      return config
    }
    let experts = try filled("hunyuan-v1-moe-lists", ["num_experts"])
    let error = #expect(throws: ConfigError.self) { try describe(experts) }
    guard case .tooMany(_, "num_experts", 9_000_000_000_000_000_000, _, 0)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    for (name, key) in [
      ("laguna-heads", "num_attention_heads_per_layer"), ("hunyuan-v1-moe-lists", "moe_topk"),
      ("hunyuan-v1-moe-lists", "moe_intermediate_size"),
    ] {
      let config = try filled(name, [key])
      let error = #expect(throws: ConfigError.self) { try describe(config) }
      guard case .wrongType(_, key, "a list of whole numbers of at most 67108864", _)? = error
      else {
        Issue.record("\(String(describing: error))")
        continue
      }
    }
  }

  // MARK: What is assumed where nothing is said

  /// Heads of keys and values, and groups and scales of experts, of the classes in transformers.
  @Test func `an absent key is what transformers makes of it`() throws {
    func firstRouter(_ name: String, without keys: [String]) throws -> RouterSpec {
      var config = try config(name)
      for key in keys { config.text[key] = nil }
      // Enough for eight groups of two.
      if config.text["n_routed_experts"] != nil { config.text["n_routed_experts"] = 16 }
      return try #require(
        describe(config).layers.flatMap(\.mlps).compactMap(\.router).first)
    }
    let keys = ["n_group", "num_expert_group", "topk_group", "routed_scaling_factor"]
    for (name, groups, chosen, scale) in [
      ("deepseek-v3-kimi-k2", 8, 4, 2.5), ("kimi-k25-yarn", 8, 4, 2.5),
      ("deepseek-v32-yarn-groups", 8, 4, 2.5), ("glm-moe-dsa-shared-indexers", 1, 1, 2.5),
      ("published-qk-norm", 1, 1, 1), ("glm4-moe-lite-published", 1, 1, 1.8),
      ("exaone-moe-windows", 1, 1, 2.5), ("kimi-linear-published", 1, 1, 2.446),
      ("sarvam-moe-published", 1, 1, 2.5), ("sarvam-mla-published", 1, 1, 2.5),
    ] as [(String, Int, Int, Float)] {
      let router = try firstRouter(name, without: keys)
      #expect(router.groups == groups && router.chosenGroups == chosen, "\(name)")
      #expect(router.scalingFactor == scale, "\(name)")
    }
    let router = try firstRouter("hy-v3-published", without: ["router_scaling_factor"])
    #expect(router.scalingFactor == 2.826)
    for (name, key) in [
      ("ling2-published", "n_group"), ("ling2-published", "routed_scaling_factor"),
      ("deepseek-v2-groups", "topk_group"), ("minimax-m3-images", "rotary_dim"),
    ] {
      var config = try config(name)
      config.text[key] = nil
      if key == "rotary_dim" { config.text["partial_rotary_factor"] = nil }
      let named = config.textPrefix + key
      #expect(throws: ConfigError.missing(file: "config.json", key: named)) { try describe(config) }
    }
  }

  @Test func `heads of keys and values that nobody counts are those of the class`() throws {
    for (name, count) in [
      ("gpt-oss-published", 8), ("llama4-published", 8), ("minimax-text01-published", 8),
      ("phimoe-published", 8), ("dots1-window", 32), ("exaone4-windows", 32),
      ("exaone-moe-windows", 32),
    ] {
      var config = try config(name)
      func found() throws -> Int {
        for part in try describe(config).layers.flatMap(\.parts) {
          if case .groupedQuery(let spec)? = part.sequence?.mixer { return spec.keyValueHeads }
        }
        return 0
      }
      config["num_attention_heads"] = 64
      config["num_key_value_heads"] = nil
      #expect(try found() == count, "\(name)")
      config["num_key_value_heads"] = .null
      #expect(try found() == 64, "\(name)")
    }
  }

  // MARK: Shares of a head

  /// 30 of 88 dimensions are 29.99… of them where the share is a Double.
  @Test(arguments: [
    "minimax-m2-partial", "minimax-m3-images", "minimax-text01-published", "ling2-published",
  ])
  func `rotated dimensions are taken as a whole number, or refused`(name: String) throws {
    func rotated(_ dimensions: Int, of width: Int, share: JSONValue? = nil) throws -> Int? {
      var config = try config(name)
      config.text["head_dim"] = .number(JSONNumber(width))
      config.text["rotary_dim"] = .number(JSONNumber(dimensions))
      config.text["partial_rotary_factor"] = share
      for part in try describe(config).layers.flatMap(\.parts) {
        if case .groupedQuery(let spec)? = part.sequence?.mixer { return spec.rotary.dimensions }
      }
      return nil
    }
    for (dimensions, width) in [(30, 88), (60, 104), (8, 16), (16, 16)] {
      #expect(try rotated(dimensions, of: width) == dimensions)
    }
    for dimensions in [7, 18] {
      let error = #expect(throws: ConfigError.self) { try rotated(dimensions, of: 16) }
      guard case .implausible(_, let key, _, "\(dimensions)")? = error,
        key.hasSuffix("rotary_dim")
      else {
        Issue.record("\(String(describing: error))")
        continue
      }
    }
    if name == "minimax-text01-published" { return }
    let half = JSONValue.number(JSONNumber(literal: "0.5"))
    #expect(try rotated(8, of: 16, share: half) == 8)
    #expect(throws: ConfigError.self) { try rotated(4, of: 16, share: half) }
  }

  // MARK: Layers with experts

  @Test func `layers that a text numbers are read with blanks, and refused where one is no number`()
    throws
  {
    var config = try config("step35-limits")
    let plain = try describe(config)
    for same in ["1, 2", " 1 ,2 ", "1,2,", "2,1"] {
      config["moe_layers_enum"] = .string(same)
      #expect(try describe(config) == plain, "\(same)")
    }
    for wrong in ["1, two", "1 2", "1;2"] {
      config["moe_layers_enum"] = .string(wrong)
      #expect(
        throws: ConfigError.implausible(
          file: "config.json", key: "moe_layers_enum",
          expected: "a text of whole numbers between commas", found: "\"\(wrong)\"")
      ) { try describe(config) }
    }
  }

  @Test func `a model without shared experts claims none`() throws {
    let layers = try describe(config("ernie45-moe-routed-alone")).layers
    #expect(layers.flatMap(\.mlps).contains { $0.router != nil && $0.alwaysOn.isEmpty })
    var config = try config("published-qk-norm")
    config["n_shared_experts"] = 0
    let claims = try describe(config).claims
    #expect(!claims.contains { $0.name.contains("shared_experts") })
  }

  @Test func `another choice of experts by name is refused`() throws {
    var config = try config("ernie45-moe-tied")
    let plain = try describe(config)
    config["moe_gate"] = "topk_fused"
    #expect(try describe(config) == plain)
    config["moe_gate"] = "sinkhorn"
    #expect(
      throws: ConfigError.unsupported(
        file: "config.json", key: "moe_gate", expected: "topk or topk_fused", found: "sinkhorn")
    ) { try describe(config) }
  }

  /// transformers and vLLM read neither key of the first files: what they say must be what is assumed without them.
  @Test func `the first files of K-EXAONE may name no other layers with experts`() throws {
    var config = try config("exaone-moe-first")
    let plain = try describe(config)
    #expect(plain.architecture == "ExaoneMoEForCausalLM")
    #expect(plain.layers.map { $0.routers.isEmpty } == [true, false, false])
    config["is_moe_layer"] = [0, 1, 1]
    #expect(try describe(config) == plain)
    for (key, value) in [
      ("is_moe_layer", [false, true]), ("is_moe_layer", [true, true, true]),
      ("first_last_k_dense_replace", 2),
    ] as [(String, JSONValue)] {
      var other = config
      other[key] = value
      let error = #expect(throws: ConfigError.self) { try describe(other) }
      guard case .implausible(_, key, _, _)? = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
    }
  }

  @Test func countsThatTheCheckpointHasTensorsForAreBelieved() throws {
    var config = try config("llama-plain")
    config["num_hidden_layers"] = 2000
    let names = (0..<2000).map { "model.layers.\($0).input_layernorm.weight" }
    #expect(try describe(config, tensors: names).layers.count == 2000)
  }

  @Test(arguments: cases)
  func anUnknownClassIsToldWhoseTensorsAreNamedLikeIts(name: String) throws {
    var config = try config(name)
    let own = try describe(config)
    config["architectures"] = ["SomebodysForCausalLM"]
    let names = try tensors(name).map(\.name)
    let error = #expect(throws: ConfigError.self) { try describe(config, tensors: names) }
    guard case .unknownArchitecture(_, "SomebodysForCausalLM", _, let nearest?) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    config["architectures"] = [.string(nearest)]
    let kinds = Set(own.claims.map { $0.name.filter { !$0.isNumber } })
    #expect(Set(try describe(config).claims.map { $0.name.filter { !$0.isNumber } }) == kinds)
  }

  // MARK: Delta nets

  @Test func `layers are delta nets as the list says, or all but every fourth`() throws {
    var config = try config("qwen3-next-published")
    func deltaNets() throws -> [Bool] {
      try describe(config).layers.map { layer in
        guard case .deltaNet = layer.attention else { return false }
        return true
      }
    }
    #expect(try deltaNets() == [true, false, true])
    config["layer_types"] = ["full_attention", "full_attention", "linear_attention"]
    #expect(try deltaNets() == [false, false, true])
    config["layer_types"] = nil
    config["full_attention_interval"] = nil
    config["num_hidden_layers"] = 5
    #expect(try deltaNets() == [true, true, true, false, true])
  }

  @Test func `values that no whole number of key heads share are refused`() throws {
    var config = try config("qwen3-next-published")
    config["linear_num_value_heads"] = 5
    #expect(
      throws: ConfigError.implausible(
        file: "config.json", key: "linear_num_value_heads", expected: "a multiple of 2 key heads",
        found: "5")
    ) { try describe(config) }
  }

  /// They stand beside the model: no name of theirs begins like those of its layers.
  @Test func `prediction layers beside a model are counted and passed through`() throws {
    for (name, key) in [
      ("qwen3-next-published", "num_nextn_predict_layers"),
      ("qwen35-moe-fused", "mtp_num_hidden_layers"),
    ] {
      var config = try config(name)
      config[key] = 2
      let spec = try describe(config)
      #expect(spec.passedThrough == ["mtp.layers.0.", "mtp.layers.1."])
      #expect(spec.passesThrough("mtp.fc.weight"))
      config[key] = .number(JSONNumber(1 << 20))
      let error = #expect(throws: ConfigError.self) { try describe(config) }
      guard case .tooMany(_, key, _, _, _)? = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
    }
  }

  // MARK: State spaces

  /// Without a number of layers, a long list of them is as good as a large number.
  @Test func `layers that are named one by one are counted`() throws {
    for (key, value) in [
      ("hybrid_override_pattern", .string(String(repeating: "E", count: 5000))),
      ("layers_block_type", .array(Array(repeating: "moe", count: 5000))),
    ] as [(String, JSONValue)] {
      var config = try config("nemotron-h-published")
      config["num_hidden_layers"] = nil
      config["hybrid_override_pattern"] = nil
      config[key] = value
      #expect(
        throws: ConfigError.tooMany(
          file: "config.json", key: key, count: 5000, layers: 1, tensors: 0)
      ) { try describe(config) }
    }
    var config = try config("nemotron-h-published")
    config["num_hidden_layers"] = 7
    #expect(
      throws: ConfigError.implausible(
        file: "config.json", key: "num_hidden_layers", expected: "6", found: "7")
    ) { try describe(config) }
    config["num_hidden_layers"] = 6
    config["layers_block_type"] = .array(Array(repeating: "mamba", count: 6))
    #expect(
      throws: ConfigError.implausible(
        file: "config.json", key: "layers_block_type",
        expected: "the layers of `hybrid_override_pattern`", found: "others")
    ) { try describe(config) }
    config["layers_block_type"] = nil
    config["hybrid_override_pattern"] = "MEX*E-"
    #expect(
      throws: ConfigError.unsupported(
        file: "config.json", key: "hybrid_override_pattern",
        expected: "M, E, * or - for each layer", found: "MEX*E-")
    ) { try describe(config) }
  }

  /// A layer has one branch; experts of the larger models read a latent.
  @Test func `layers of Nemotron are state spaces, experts, attention or dense, one each`() throws {
    func kinds(_ name: String) throws -> [String] {
      try describe(config(name)).layers.map { layer in
        #expect(layer.branches.count == 1)
        return switch layer.branches[0].mixer {
        case .sequence(.stateSpace): "state space"
        case .sequence: "attention"
        case .tokens(let mlp): mlp.router == nil ? "dense" : "experts"
        }
      }
    }
    #expect(
      try kinds("nemotron-h-published")
        == ["state space", "experts", "state space", "attention", "experts", "dense"])
    #expect(
      try kinds("nemotron-h-latent-listed")
        == ["state space", "experts", "attention", "experts"])
    let mlp = try describe(config("nemotron-h-latent-listed")).layers[1].mlps[0]
    #expect(mlp.latent?.down.outputs == 20 && mlp.routed.allSatisfy { $0.up.inputs == 20 })
    #expect(mlp.units.allSatisfy { $0.gate == nil })
  }

  @Test func `heads that do not make up the width of a state space are refused`() throws {
    for (name, key, value, expected) in [
      ("granite-moe-hybrid-published", "mamba_d_head", 4, "64 channels over 8 heads"),
      ("granite-moe-hybrid-published", "mamba_n_groups", 3, "a divisor of 8 heads"),
      ("nemotron-h-published", "n_groups", 3, "a divisor of 8 heads"),
    ] {
      var config = try config(name)
      config[key] = .number(JSONNumber(value))
      #expect(
        throws: ConfigError.implausible(
          file: "config.json", key: key, expected: expected, found: "\(value)")
      ) { try describe(config) }
    }
    var config = try config("granite-moe-hybrid-published")
    let open = try describe(config)
    // As Python writes it.
    config["time_step_limit"] = try JSONValue.parse(
      Array("[0.0, Infinity]".utf8), allowsNonFinite: true)
    #expect(try describe(config) == open)
    config["time_step_limit"] = [3, 2]
    let error = #expect(throws: ConfigError.self) { try describe(config) }
    guard case .wrongType(_, "time_step_limit", _, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  // MARK: Convolutions and channels

  @Test func `layers of LFM2 attend as either list says`() throws {
    func attending(_ edits: [(String, JSONValue?)]) throws -> [Int] {
      var config = try config("lfm2-published")
      for (key, value) in edits { config[key] = value }
      return try describe(config).layers.filter { layer in
        if case .groupedQuery = layer.attention { true } else { false }
      }.map(\.index)
    }
    #expect(try attending([]) == [1])
    #expect(try attending([("full_attn_idxs", nil)]) == [0, 1, 2])
    #expect(try attending([("full_attn_idxs", [])]) == [])
    let kinds: JSONValue = ["conv", "full_attention", "full_attention"]
    #expect(try attending([("layer_types", kinds)]) == [1, 2])
  }

  @Test func `the width of LFM2's units is adjusted as the file says, or is refused`() throws {
    func width(_ edits: [(String, JSONValue)]) throws -> Int? {
      var config = try config("lfm2-published")
      for (key, value) in edits { config[key] = value }
      return try describe(config).layers[0].mlp.units.first?.down.inputs
    }
    #expect(try width([]) == 48)
    #expect(try width([("block_auto_adjust_ff_dim", false)]) == 60)
    #expect(try width([("block_ffn_dim_multiplier", .number(JSONNumber(literal: "1.3")))]) == 64)
    for multiplier in ["1e18", "1e-9"] {
      let error = #expect(throws: ConfigError.self) {
        try width([("block_ffn_dim_multiplier", .number(JSONNumber(literal: multiplier)))])
      }
      guard case .unsupported(_, "block_ffn_dim_multiplier", _, _) = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
    }
  }

  @Test func `layers of Kimi Linear are those of both lists, counted from 1`() throws {
    var config = try config("kimi-linear-published")
    let isDelta = try describe(config).layers.map { layer in
      if case .channelDeltaNet = layer.attention { true } else { false }
    }
    #expect(isDelta == [true, true, false, true])
    var nested = try #require(config["linear_attn_config"]?.object)
    for lists in [([1, 2], [3]), ([1, 2, 3, 4], [3]), ([0, 1, 2, 4], [3])] as [([Int], [Int])] {
      nested["kda_layers"] = .array(lists.0.map { .number(JSONNumber($0)) })
      nested["full_attn_layers"] = .array(lists.1.map { .number(JSONNumber($0)) })
      config["linear_attn_config"] = .object(nested)
      let error = #expect(throws: ConfigError.self) { try describe(config) }
      guard case .implausible(_, "linear_attn_config.kda_layers", _, _) = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
    }
    // What Kimi K3 has beside it is other mathematics.
    nested["use_full_rank_gate"] = true
    config["linear_attn_config"] = .object(nested)
    #expect(throws: ConfigError.self) { try describe(config) }
  }

  @Test func `branches of Kimi K3 read what the blocks before them left`() throws {
    let spec = try describe(config("kimi-k3-published"))
    let residuals = spec.layers.map { $0.branches.compactMap(\.residual) }
    #expect(
      residuals.map { $0.map(\.blocks) } == [[0, 1], [1, 1], [1, 2], [2, 2], [2, 3]])
    #expect(
      residuals.map { $0.map(\.closes) }
        == [true, false, true, false, true].map { [$0, false] })
    #expect(spec.exit?.blocks == 3)
    #expect(spec.layers.map { $0.parts[0].statesBefore } == [1, 2, 2, 3, 3])
    #expect(spec.layers.map { $0.parts[0].statesBetween } == [2, 2, 3, 3, 4])
    // What scores states is never quantized, and the output says so.
    #expect(spec.deciding.contains { $0.name == "language_model.model.output_attn_res_proj" })
    for layer in spec.layers {
      #expect(layer.deciding.count { $0.name.hasSuffix("_res_proj") } == 2)
    }
  }

  @Test func `what Kimi K3 cannot be is refused`() throws {
    for (key, value) in [
      ("hidden_act", "gelu"), ("mla_use_nope", false), ("topk_method", "greedy"),
      ("attn_res_block_size", 0), ("activation_situ_beta", -1), ("activation_situ_linear_beta", 0),
      ("routed_expert_hidden_size", 0), ("moe_router_activation_func", "softmax"),
      ("kda_beta", 2), ("moe_layer_freq", 2),
    ] as [(String, JSONValue)] {
      var config = try config("kimi-k3-published")
      config.text[key] = value
      #expect(throws: ConfigError.self, "\(key)") { try describe(config) }
    }
    var config = try config("kimi-k3-published")
    var nested = try #require(config.text["linear_attn_config"]?.object)
    nested["gate_lower_bound"] = 5
    config.text["linear_attn_config"] = .object(nested)
    #expect(throws: ConfigError.self) { try describe(config) }
  }

  // MARK: Windows

  private func windows(_ edits: [(String, JSONValue)]) throws -> [Int?] {
    var config = JSONObject([
      ("architectures", ["Qwen2ForCausalLM"]), ("hidden_size", 8), ("num_attention_heads", 2),
      ("num_key_value_heads", 2),
      ("rms_norm_eps", 1), ("vocab_size", 8), ("num_hidden_layers", 3), ("rope_theta", 10_000),
      ("intermediate_size", 8), ("hidden_act", "silu"), ("max_position_embeddings", 64),
    ])
    for (key, value) in edits { config[key] = value }
    return try describe(config).layers.map { layer in
      guard case .groupedQuery(let spec) = layer.attention else { return -1 }
      return if case .window(let size) = spec.reach { size } else { nil }
    }
  }

  @Test func windowsAreThoseOfTheLayersThatTheConfigNames() throws {
    #expect(try windows([("sliding_window", 16)]) == [nil, nil, nil])
    #expect(
      try windows([
        ("use_sliding_window", true), ("sliding_window", 16), ("max_window_layers", 2),
      ]) == [nil, nil, 16])
    let kinds: JSONValue = ["sliding_attention", "full_attention", "sliding_attention"]
    #expect(
      try windows([
        ("use_sliding_window", true), ("sliding_window", 16), ("layer_types", kinds),
      ]) == [16, nil, 16])
    #expect(
      throws: ConfigError.implausible(
        file: "config.json", key: "use_sliding_window",
        expected: "true where `layer_types` has sliding_attention", found: "false")
    ) { try windows([("sliding_window", 16), ("layer_types", kinds)]) }
    #expect(
      throws: ConfigError.unsupported(
        file: "config.json", key: "layer_types",
        expected: "3 times full_attention or sliding_attention, one a layer",
        found: "[\"chunked_attention\"]")
    ) { try windows([("layer_types", ["chunked_attention"])]) }
    #expect(
      throws: ConfigError.implausible(
        file: "config.json", key: "layer_types",
        expected: "3 times full_attention or sliding_attention, one a layer",
        found: "[\"full_attention\"]")
    ) { try windows([("layer_types", ["full_attention"])]) }
  }

  @Test func `prediction layers have experts, too, and are counted with them`() throws {
    var config = try config("published-mtp-bf16")
    config["num_hidden_layers"] = 2
    config["n_routed_experts"] = .number(JSONNumber(1 << 15))
    config["num_nextn_predict_layers"] = 1000
    let error = #expect(throws: ConfigError.self) { try describe(config) }
    guard case .tooMany(_, "n_routed_experts", _, _, 0)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect("\(error!)".contains("there are none beside it") && !"\(error!)".contains(" 0 tensors"))
  }
}
