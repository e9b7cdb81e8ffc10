// What is known of config.json's keys that no description asks for: a key is inert, or harmless at some values, or
// unknown. The one place for all of them, and for all architectures.

internal import JSON

/// The values of a key at which it changes nothing.
struct HarmlessValues: Sendable {
  private let values: [JSONValue]
  /// Another key: this one changes nothing where it is at least as large, either.
  private let bound: String?
  /// Whether lists of nothing but such values are as good.
  private let isForEachLayer: Bool

  init(_ values: [JSONValue], orAtLeast bound: String? = nil, forEachLayer: Bool = false) {
    self.values = values
    self.bound = bound
    isForEachLayer = forEachLayer
  }

  func contain(_ value: JSONValue, in config: JSONObject) -> Bool {
    if values.contains(where: { $0.isSame(as: value) }) { return true }
    if isForEachLayer, let items = value.array {
      return items.allSatisfy { item in values.contains { $0.isSame(as: item) } }
    }
    if let number = value.double, let least = bound.flatMap({ config[$0]?.double }) {
      return number >= least
    }
    return false
  }

  /// For messages.
  var text: String {
    let alternatives = values.map { $0.serialized() } + (bound.map { ["at least `\($0)`"] } ?? [])
    return alternatives.joined(separator: " or ") + (isForEachLayer ? " for every layer" : "")
  }
}

extension JSONValue {
  /// Equality that takes 1 and 1.0 for the same.
  func isSame(as other: JSONValue) -> Bool {
    if let number = double, let other = other.double { return number == other }
    if let items = array, let others = other.array {
      return items.count == others.count && zip(items, others).allSatisfy { $0.isSame(as: $1) }
    }
    return self == other
  }
}

enum ConfigKeys {
  // MARK: Inert, at any value

  /// Whether a key says who made, trained, packed or serves the file, and nothing of what a forward pass computes.
  ///
  /// Everything that `to_dict()` of a `PretrainedConfig` holds is here, transformers 4.31 to 5.24, and what training
  /// and serving tools add. A key that any of the models' code in transformers or vLLM reads in a forward pass is not.
  static func isInert(_ key: String) -> Bool {
    inert.contains(key) || inertPrefixes.contains { key.hasPrefix($0) }
      || inertSuffixes.contains { key.hasSuffix($0) }
      || key.hasPrefix("is_") && key.hasSuffix("_config")
  }

  /// Beginnings of keys that tools write in whole families.
  private static let inertPrefixes = [
    "unsloth_", "_attn_implementation", "_experts_implementation", "transformers.js", "neuron",
    "optimum_", "summary_", "classifier_", "wandb_",
  ]

  /// Ids of special tokens; what is at work in training alone.
  private static let inertSuffixes = [
    "_token_id", "_token_ids", "_dropout", "_dropout_prob", "_dropout_rate", "_pdrop", "_loss_coef",
    "_loss_coeff", "_loss_alpha", "_loss_weight", "_loss_factor",
  ]

  private static let inert = names(
    """
    the file and its makers:
    _commit_hash _configuration_file _from_auto _from_model_config _from_pipeline _name_or_path architectures
    attribute_map author auto_map base_config_key base_model base_model_name base_model_name_or_path base_model_pp_plan
    base_model_tp_plan config_class configuration_class creator custom_pipelines description finetuned_from
    finetuning_task id2label ignore_keys_at_rope_validation keys_to_ignore_at_inference label2id language languages
    library_name license model_author model_creator model_name model_type name name_or_path num_labels organization
    original_model problem_type release_date repo_id revision sub_configs tags task task_specific_params torch_dtype
    dtype transformers_version trust_remote_code version

    tokens and texts:
    add_bos_token add_eos_token add_prefix_space bos_token chat_template decoder_start_token_id eos_token
    make_vocab_size_divisible_by mask_token model_max_length orig_vocab_size original_vocab_size pad_to_multiple_of
    pad_token pad_vocab_size_multiple pad_vocab_size_multiple_of padding_side padding_idx prefix sep_token
    special_tokens tokenizer tokenizer_class tokenizer_name tokenizer_type truncation_side unk_token use_fast

    lengths that limit or remember, and scale nothing:
    context_length context_window max_context_length max_position_embeddings max_seq_len max_seq_length
    max_sequence_length n_ctx n_positions seq_len seq_length sequence_length train_max_seq_len train_seq_len
    training_sequence_length

    defaults of generation:
    bad_words_ids begin_suppress_tokens cache_implementation diversity_penalty do_sample early_stopping
    encoder_no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id
    generation_config length_penalty max_length max_new_tokens min_length min_new_tokens min_p no_repeat_ngram_size
    num_beam_groups num_beams num_return_sequences output_scores remove_invalid_values repetition_penalty
    return_dict_in_generate suppress_tokens temperature top_k top_p typical_p use_cache use_cache_kernel

    what a call returns, encoders and decoders, frameworks:
    chunk_size_feed_forward cross_attention_hidden_size gguf_file is_composition is_decoder loss_type
    output_attentions output_hidden_states output_router_logits return_dict tf_legacy_loss tie_encoder_decoder
    torchscript use_bfloat16 use_return_dict xla_device

    training:
    attention_probs_dropout_prob aux_loss_alpha aux_loss_coef aux_loss_weight batch_size data_seed deepspeed
    dropout dropout_prob dropout_rate ffn_dropout gradient_accumulation_steps gradient_checkpointing init_device
    init_method init_method_std init_std initializer_cutoff_factor initializer_factor initializer_range
    input_jitter_noise learning_rate load_balancing_loss_coef loss_fn moe_aux_loss_coef moe_z_loss_coef
    mtp_loss_scaling_factor neftune_noise_alpha num_train_epochs optimizer pretraining_tp rescale_prenorm_residual
    router_aux_loss_coef router_bias_update_rate router_bias_update_speed router_jitter_noise router_z_loss_coef seed
    seq_aux train_batch_size training_args use_reentrant warmup_ratio warmup_steps weight_decay z_loss_coef
    z_loss_weight

    devices, kernels, and the precision that they work in:
    attention_softmax_in_fp32 attn_implementation bf16 device device_map ep_size experts_implementation
    expert_parallel_size flash_attention flash_attn flash_attn_version fp16 fp32 fp32_residual_connection
    fused_bias_fc fused_dropout_add_ln fused_mlp fused_rms_norm fused_rotary_emb fused_swiglu fuse_attention_ffn
    fuse_attention_qkv fuse_cross_entropy fuse_norm fuse_swiglu head_dtype low_cpu_mem_usage mamba_ssm_dtype
    max_window_layers
    model_parallel moe_router_dtype num_redundant_experts onnx pipeline_parallel_size pp_size residual_in_fp32
    router_dtype sequence_parallel softmax_in_fp32 tensor_parallel tensor_parallel_degree tensor_parallel_output
    tensor_parallel_size tp_size upcast_attention use_flash_attention use_flash_attention_2 use_flash_attn
    use_fused_cross_entropy use_fused_mlp use_fused_rms_norm use_fused_rope use_fused_swiglu use_sdpa use_xformers
    _flash_attn_2_enabled

    inside of rope_scaling, read by neither transformers nor vLLM:
    finetuned

    how positions in images are spread over a head, where a text has one for each token:
    mrope_interleaved mrope_section

    whether an engine leaves out the towers for images and sounds:
    language_model_only
    """)

  /// The words of the lines that are no headings.
  private static func names(_ text: String) -> Set<String> {
    Set(
      text.split(separator: "\n").filter { !$0.hasSuffix(":") }
        .flatMap { $0.split(separator: " ").map(String.init) })
  }

  // MARK: Harmless, at some values

  /// Keys of other architectures, and of other code for the same ones, that would change the forward pass: what each
  /// must be for an architecture that does not ask for it.
  static let harmless: [String: HarmlessValues] = {
    var result: [String: HarmlessValues] = [:]
    func add(_ keys: String, _ values: HarmlessValues) {
      for key in names(keys) { result[key] = values }
    }
    // Biases, norms of heads, gates and sinks of attention.
    add(
      """
      attention_bias attention_out_bias attention_output_bias attention_qkv_bias attn_bias bias enable_bias
      expert_bias ffn_bias gate_bias head_bias lm_head_bias mlp_bias moe_bias o_bias o_proj_bias out_proj_bias
      qkv_bias router_bias use_attention_bias use_attn_bias use_bias use_lm_head_bias use_mlp_bias use_o_bias
      use_qkv_bias add_bias_linear add_qkv_bias
      """, HarmlessValues([false]))
    add(
      """
      qk_layernorm qk_norm qk_rms_norm use_qk_layernorm use_qk_norm use_query_key_norm use_head_norm
      attention_output_gate attn_output_gate gated_attention use_attention_gate use_gated_attention use_output_gate
      use_attention_sink use_attention_sinks use_attn_sink use_sinks
      """, HarmlessValues([false]))
    // Who attends to whom.
    add("causal is_causal use_causal_mask", HarmlessValues([true]))
    add(
      """
      add_cross_attention bidirectional bidirectional_attention is_encoder_decoder is_prefix_lm
      use_bidirectional_attention use_mla use_mrope use_sliding_window attn_temperature_tuning
      """, HarmlessValues([false]))
    add("sliding_window", HarmlessValues([0], orAtLeast: "max_position_embeddings"))
    add("layer_types attention_types", HarmlessValues(["full_attention"], forEachLayer: true))
    add("pruned_heads", HarmlessValues([.object(JSONObject())]))
    // Positions.
    add(
      """
      alibi use_alibi use_dynamic_ntk use_logn_attn interleaved_rope rope_interleave rope_interleaved
      rotary_interleaved rotary_emb_interleaved use_interleaved_rope
      """, HarmlessValues([false]))
    add("is_neox_style rope_is_neox_style rotary use_rope use_rotary", HarmlessValues([true]))
    add(
      """
      partial_rotary_factor rope_pct rope_percent rope_ratio rope_scale rope_scaling_factor rotary_pct
      rotary_percent extrapolation_factor
      """, HarmlessValues([1]))
    add("factor", HarmlessValues([1]))
    add("position_embedding_type", HarmlessValues(["rope", "rotary"]))
    add("no_rope_layers nope_layers", HarmlessValues([[]]))
    // Norms and residuals.
    add(
      "use_rms_norm use_rmsnorm rms_norm rmsnorm pre_norm use_pre_norm", HarmlessValues([true]))
    add(
      """
      add_unit_offset apply_residual_connection_post_layernorm embedding_norm norm_head parallel_attn parallel_block
      parallel_residual post_norm rms_norm_unit_offset sandwich_norm use_embedding_norm use_parallel_attn
      use_parallel_residual use_post_norm use_sandwich_norm zero_centered_gamma new_decoder_architecture
      ada_rms_norm_t_cond is_heterogeneous
      """, HarmlessValues([false]))
    add(
      "layernorm_type ln_type norm_type normalization normalization_type",
      HarmlessValues(["rms_norm", "rmsnorm", "RMSNorm", "rms"]))
    // The feed-forward half.
    add(
      "activation activation_fn activation_function act_fn ffn_activation hidden_activation mlp_activation",
      HarmlessValues(["silu", "swiglu", "SwiGLU", "swish"]))
    add("gated_mlp glu_mlp swiglu use_gated_mlp use_swiglu", HarmlessValues([true]))
    add(
      """
      is_moe moe moe_intermediate_size moe_num_experts moe_num_shared_experts moe_shared_expert_intermediate_size
      moe_topk n_routed_experts n_shared_experts num_experts num_experts_per_tok num_experts_per_token
      num_local_experts num_moe_experts num_shared_expert num_shared_experts shared_expert_intermediate_size
      shared_intermediate_size use_moe first_k_dense_replace
      """, HarmlessValues([0, false]))
    add("decoder_sparse_step moe_layer_freq n_group topk_group", HarmlessValues([1]))
    add("routed_scaling_factor", HarmlessValues([1]))
    add("mlp_only_layers", HarmlessValues([[]]))
    add("scoring_func", HarmlessValues(["softmax"]))
    add("topk_method", HarmlessValues(["greedy"]))
    // Without experts there are no weights of theirs to norm.
    add("norm_topk_prob", HarmlessValues([false, true]))
    add(
      "kv_lora_rank q_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim", HarmlessValues([0]))
    // Layers that predict further tokens.
    add(
      "mtp_num_hidden_layers mtp_num_layers num_mtp_layers num_mtp_modules num_nextn_predict_layers",
      HarmlessValues([0]))
    // Scales of embeddings, residuals and logits.
    add(
      """
      emb_scale embed_scale embedding_multiplier embedding_scale lm_head_multiplier logit_scale logits_scale
      logits_scaling output_multiplier residual_multiplier residual_scale scale_emb width_multiplier
      """, HarmlessValues([1]))
    add(
      """
      mup mup_enabled normalize_embedding normalize_embeddings scale_embedding scale_embeddings use_mup
      use_cache_quantization
      """, HarmlessValues([false]))
    return result
  }()
}
