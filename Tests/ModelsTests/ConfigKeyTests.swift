// Keys of config.json that no description asks for: inert, harmless at some values, accepted, or refused.

import JSON
import Models
import SystemIO
import Testing
import TestSupport

@Suite struct ConfigKeyTests {
  /// One published configuration of each architecture.
  static let published = [
    "deepseek-v2-lite", "deepseek-v3-kimi-k2", "deepseek-v32-yarn-groups", "glm-moe-dsa-listed",
    "published-qk-norm", "glm4-moe-lite-published",
    "gemma3-published", "gemma4-images", "gemma4-published", "glm4v-moe-half", "gpt-oss-published",
    "kimi-k25-yarn", "llama4-images", "llama4-published", "llama-plain", "mistral3-head-dim",
    "mistral-head-dim-yarn",
    "mixtral-published", "olmo2-published",
    "olmoe-published", "qwen2-tied", "qwen2-moe-published", "qwen3-tied", "qwen3-moe-published",
    "qwen3-omni-thinker", "qwen3-vl-moe-fused", "qwen3-vl-tied", "afmoe-gated", "dots1-window",
    "ernie45-moe-tied", "exaone4-full-llama3", "exaone-moe-groups", "exaone-moe-first",
    "granite-multipliers",
    "hy-v3-published", "minimax-m2-partial", "olmo3-yarn-whole", "seed-oss-biases",
    "smollm3-tied", "solar-open-published", "qwen3-next-published",
    "qwen35-moe-fused", "qwen35-moe-images", "qwen35-dense", "qwen35-dense-images",
    "flex-olmo-published", "hunyuan-v1-dense-alpha", "hunyuan-v1-moe-lists", "laguna-heads",
    "mimo-v2-flash-published", "minimax-m3-images", "phi3-longrope-partial", "step35-limits",
    "step37-images",
    "lfm2-moe-published", "lfm2-published",
    "nemotron-h-published", "granite-moe-multipliers", "granite-moe-hybrid-published",
    "kimi-linear-published", "jamba-published",
    "cohere-published", "cohere2-published", "cohere2-moe-published", "ling2-published",
    "ling3-published", "minimax-hf-window", "minimax-m1-full-last", "minimax-text01-published",
    "phimoe-published", "sarvam-mla-published", "sarvam-moe-published",
    "deepseek-moe-published", "mimo-published", "kimi-k3-published",
  ]

  /// Keys of others that a class reads itself.
  static let read: [String: Set<String>] = [
    "ernie45-moe-tied": ["moe_num_experts"], "granite-multipliers": ["embedding_multiplier"],
    "granite-moe-multipliers": ["embedding_multiplier"],
    "granite-moe-hybrid-published": ["embedding_multiplier", "position_embedding_type"],
    "nemotron-h-published": ["use_bias"],
    "qwen35-moe-fused": ["attn_output_gate", "mtp_num_hidden_layers"],
    "qwen35-moe-images": ["attn_output_gate", "mtp_num_hidden_layers"],
    "qwen35-dense": ["attn_output_gate", "mtp_num_hidden_layers"],
    "phimoe-published": ["lm_head_bias"],
    "cohere-published": ["logit_scale", "position_embedding_type"],
    "cohere2-published": ["logit_scale", "position_embedding_type"],
    "cohere2-moe-published": ["logit_scale", "position_embedding_type"],
    "step35-limits": ["moe_num_experts"], "step37-images": ["moe_num_experts"],
    "qwen35-dense-images": ["attn_output_gate", "mtp_num_hidden_layers"],
  ]

  private func config(_ name: String, _ edits: [(String, JSONValue)]) throws -> JSONObject {
    var config = try #require(
      JSONValue.parse(FileSystem.readFile(fixturePath("forward/\(name)/config.json"))).object)
    for (key, value) in edits { config.text[key] = value }
    return config
  }

  private func describe(
    _ name: String, _ edits: [(String, JSONValue)] = [], accepting: Set<String> = []
  ) throws -> ModelSpec {
    try Architectures.describe(
      config: config(name, edits), file: "config.json", accepting: accepting)
  }

  private func number(_ literal: String) -> JSONValue { .number(JSONNumber(literal: literal)) }

  @Test func everyArchitectureIsTried() throws {
    let tried = try Self.published.map { try describe($0).architecture }
    #expect(tried.sorted() == Architectures.known.sorted())
  }

  // MARK: Inert

  /// What `to_dict()` of a configuration holds in transformers 4.31 to 4.57, beside what describes the model; and keys
  /// that Unsloth, transformers.js, llama.cpp's converters and optimum-neuron write.
  static let ofTools: [(String, JSONValue)] = [
    ("_attn_implementation_autoset", true), ("_attn_implementation_internal", "sdpa"),
    ("_commit_hash", "0123"), ("_flash_attn_2_enabled", true), ("_from_model_config", true),
    ("attn_implementation", "eager"), ("bad_words_ids", [[5]]), ("begin_suppress_tokens", [1]),
    ("chunk_size_feed_forward", 4), ("classifier_dropout", 1), ("cls_token_id", 7),
    ("cross_attention_hidden_size", 64), ("decoder_start_token_id", 7), ("diversity_penalty", 1),
    ("do_sample", true), ("dtype", "float64"), ("early_stopping", true), ("embd_pdrop", 1),
    ("encoder_no_repeat_ngram_size", 3), ("exponential_decay_length_penalty", [1, 2]),
    ("experts_implementation", "grouped_mm"), ("finetuning_task", "chat"),
    ("forced_bos_token_id", 7), ("forced_eos_token_id", 7), ("hidden_dropout", 1),
    ("gradient_checkpointing", true), ("is_decoder", true), ("is_llama_config", true),
    ("is_qwen_config", true), ("language_model_only", true), ("length_penalty", 2),
    ("mask_token_id", 7), ("max_length", 7),
    ("max_sequence_length", 7), ("min_length", 7), ("model_max_length", 7),
    ("neuron", .object(JSONObject([("compiler_version", "2")]))), ("no_repeat_ngram_size", 3),
    ("num_beam_groups", 3), ("num_beams", 3), ("num_return_sequences", 3), ("output_scores", true),
    ("prefix", "a"), ("problem_type", "regression"), ("remove_invalid_values", true),
    ("repetition_penalty", 2), ("resid_pdrop", 1), ("return_dict_in_generate", true),
    ("router_z_loss_coef", 1), ("sep_token_id", 7), ("seq_length", 7), ("suppress_tokens", [1]),
    ("task_specific_params", .object(JSONObject([("a", 1)]))), ("temperature", 2),
    ("tf_legacy_loss", true), ("tie_encoder_decoder", true), ("tokenizer_class", "X"),
    ("top_k", 1), ("top_p", 1), ("torchscript", true),
    ("transformers.js_config", .object(JSONObject([("dtype", "q4")]))), ("typical_p", 2),
    ("unk_token_id", 0), ("unsloth_fixed", true), ("unsloth_version", "2025.3.19"),
    ("use_bfloat16", true), ("use_flash_attn", true),
  ]

  @Test(arguments: published)
  func `keys of tools are inert in every architecture at any value`(name: String) throws {
    #expect(try describe(name, Self.ofTools) == describe(name))
  }

  // MARK: Harmless at some values

  /// At the first value a key changes nothing; at the second it would.
  static let harmless: [(key: String, same: JSONValue, other: JSONValue)] = [
    ("lm_head_bias", false, true), ("use_bias", false, true), ("use_alibi", false, true),
    ("is_causal", true, false), ("add_cross_attention", false, true), ("logit_scale", 1, 2),
    ("embedding_multiplier", 1, 12), ("norm_head", false, true), ("qk_layernorm", false, true),
    ("use_parallel_residual", false, true), ("rotary_pct", 1, 2), ("activation", "swiglu", "gelu"),
    ("mtp_num_hidden_layers", 0, 1), ("pruned_heads", .object(JSONObject()), ["1"]),
    ("attn_output_gate", false, true), ("post_norm", false, true),
    ("moe_num_experts", 0, 8), ("position_embedding_type", "rope", "alibi"),
  ]

  @Test(arguments: published, harmless.indices)
  func `a key that would matter must have the value that changes nothing`(
    name: String, index: Int
  ) throws {
    let (key, same, other) = Self.harmless[index]
    if Self.read[name]?.contains(key) == true { return }
    #expect(try describe(name, [(key, same)]) == describe(name))
    let error = #expect(throws: ConfigError.self) {
      // What is known to matter is no matter of opinion.
      try describe(name, [(key, other)], accepting: [key])
    }
    let prefix = try config(name, []).textPrefix
    guard case .unsupported(_, prefix + key, _, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func `numbers that are written otherwise are the same`() throws {
    #expect(
      try describe("llama-plain", [("logit_scale", number("1.0")), ("rope_ratio", number("1e0"))])
        == describe("llama-plain"))
  }

  @Test func `a window that is as long as all positions is none`() throws {
    let plain = try describe("llama-plain")
    #expect(try describe("llama-plain", [("sliding_window", 1_000_000)]) == plain)
    #expect(try describe("llama-plain", [("sliding_window", 0)]) == plain)
    let error = #expect(throws: ConfigError.self) {
      try describe("llama-plain", [("sliding_window", 4)])
    }
    #expect(error?.description.contains("0 or at least `max_position_embeddings`") == true)
  }

  @Test func `all layers of the kind that the class has are no other kinds`() throws {
    let full: JSONValue = ["full_attention", "full_attention"]
    #expect(try describe("llama-plain", [("layer_types", full)]) == describe("llama-plain"))
    #expect(throws: ConfigError.self) {
      try describe("llama-plain", [("layer_types", ["full_attention", "linear_attention"])])
    }
  }

  /// As Qwen3-Coder-480B has them: `use_qk_norm` true says what its class always does.
  @Test func `what a class always does may be said`() throws {
    for name in ["qwen3-moe-published", "qwen3-tied"] {
      let said: [(String, JSONValue)] = [
        ("qkv_bias", false), ("shared_expert_intermediate_size", 0), ("use_qk_norm", true),
      ]
      #expect(try describe(name, said) == describe(name))
      for (key, value) in [("use_qk_norm", false), ("qkv_bias", true)] as [(String, JSONValue)] {
        #expect(throws: ConfigError.self) { try describe(name, [(key, value)]) }
      }
    }
    for value: JSONValue in [true, false] {
      #expect(try describe("qwen2-tied", [("qkv_bias", value)]) == describe("qwen2-tied"))
    }
    #expect(throws: ConfigError.self) {
      try describe("deepseek-v3-kimi-k2", [("rope_interleaved", false)])
    }
    #expect(throws: ConfigError.self) {
      try describe("mixtral-published", [("norm_topk_prob", false)])
    }
  }

  /// transformers 5 writes 0 for every Qwen2-MoE without a window.
  @Test(arguments: ["qwen2-moe-published", "qwen2-tied", "qwen3-tied", "qwen3-moe-published"])
  func `the size of a window that is not used may be anything`(name: String) throws {
    let plain = try describe(name, [("use_sliding_window", false)])
    for size: JSONValue in [0, 4, .null, "wide"] {
      let edits: [(String, JSONValue)] = [("use_sliding_window", false), ("sliding_window", size)]
      #expect(try describe(name, edits) == plain)
    }
    #expect(throws: ConfigError.self) {
      try describe(
        name, [("use_sliding_window", true), ("max_window_layers", 0), ("sliding_window", 0)])
    }
  }

  // MARK: Accepted and refused

  @Test func `an unknown key is refused by name and accepted by name`() throws {
    let edits: [(String, JSONValue)] = [("attn_kind", "new"), ("moon_phase", 3)]
    let error = #expect(throws: ConfigError.self) {
      try describe("llama-plain", edits, accepting: ["moon_phase"])
    }
    #expect(
      error?.description == "config.json: not covered by the description of LlamaForCausalLM: "
        + "`attn_kind` = \"new\"; if a key does not change the forward pass, say so with "
        + "--accept-config-key NAME")
    var spec = try describe("llama-plain", edits, accepting: ["moon_phase", "attn_kind"])
    #expect(
      spec.notes == [
        .accepted(key: "attn_kind", value: "\"new\""), .accepted(key: "moon_phase", value: "3"),
      ])
    spec.notes = []
    #expect(try spec == describe("llama-plain"))
  }

  @Test func `a key of a nested object is accepted by its whole name`() throws {
    let nested = JSONValue.object(
      JSONObject([("rope_type", "linear"), ("factor", 2), ("rope_theta", 10_000), ("twist", 1)]))
    let edits: [(String, JSONValue)] = [
      ("rope_scaling", nested), ("rope_theta", .null), ("rope_parameters", .null),
    ]
    #expect(throws: ConfigError.self) { try describe("llama-plain", edits, accepting: ["twist"]) }
    let spec = try describe("llama-plain", edits, accepting: ["rope_scaling.twist"])
    #expect(spec.notes == [.accepted(key: "rope_scaling.twist", value: "1")])
  }

  // MARK: What others read

  /// vLLM 0.33 and transformers 5 do not read `attn_factor`; DeepSeek-R1-0528-Qwen3-8B has it.
  @Test func `attn_factor is passed over with a note`() throws {
    func scaling(_ more: [(String, JSONValue)]) -> [(String, JSONValue)] {
      let entries: [(String, JSONValue)] = [
        ("rope_type", "yarn"), ("factor", 4), ("original_max_position_embeddings", 32),
        ("rope_theta", 10_000),
      ]
      return [
        ("rope_scaling", .object(JSONObject(entries + more))), ("rope_theta", .null),
        ("rope_parameters", .null),
      ]
    }
    let plain = try describe("qwen3-tied", scaling([]))
    #expect(try describe("qwen3-tied", scaling([("attn_factor", number("1.0"))])) == plain)
    var noted = try describe("qwen3-tied", scaling([("attn_factor", number("0.878"))]))
    #expect(noted.notes.map(\.description).joined().contains("`rope_scaling.attn_factor` = 0.878"))
    noted.notes = []
    #expect(noted == plain)
  }

  @Test func `chunked attention for long texts is passed over with a note`() throws {
    let chunks = JSONValue.object(JSONObject([("chunk_size", 262_144), ("local_size", 8192)]))
    var noted = try describe("qwen2-tied", [("dual_chunk_attention_config", chunks)])
    #expect(noted.notes.map(\.description).joined().contains("vLLM 0.33 cannot load"))
    noted.notes = []
    #expect(try noted == describe("qwen2-tied"))
  }

  // MARK: Tensors that follow from config.json

  @Test(arguments: [
    "model.layers.3.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq",
    "rotary_emb.inv_freq", "model.rotary_pos_emb.inv_freq", "model.rotary_emb.cos_cached",
  ])
  func `stored rotations of layers and of the model are passed through`(tensor: String) throws {
    let spec = try describe("llama-plain")
    #expect(spec.passesThrough(tensor))
    #expect(!spec.passesThrough(tensor + ".weight"))
    #expect(!spec.passesThrough("model.layers.0.self_attn.inv_freq"))
  }

  @Test(arguments: ["slope_rate", "query_decay", "key_decay", "diagonal_decay"])
  func `stored decays of lightning attention are passed through`(tensor: String) throws {
    let spec = try describe("minimax-hf-window")
    #expect(spec.passesThrough("model.layers.0.self_attn.\(tensor)"))
    #expect(!spec.passesThrough("model.layers.0.\(tensor)"))
    #expect(!spec.passesThrough("model.layers.0.self_attn.first_decay"))
  }
}
