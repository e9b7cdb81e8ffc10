"""Tiny configurations and the tensor names of ten architectures, as published checkpoints have them. A module, not a command.

`published` is a config.json with the keys of the model that the family is known by; `current` is the same as
transformers 5 writes it. `shapes` says which tensors there are on disk: per-expert 2-D weights, Mixtral's own names.
"""
import torch

from fixture_models import random_state

AUTO_MAP = {"AutoConfig": "configuration_deepseek.DeepseekV3Config", "AutoModel": "modeling_deepseek.DeepseekV3Model",
            "AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM"}
SIZES = {"hidden_size": 32, "intermediate_size": 40, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 64}
MEANT_FOR_TRAINING = {"attention_dropout": 0.0, "initializer_range": 0.02}
QWEN = SIZES | MEANT_FOR_TRAINING | {
    "bos_token_id": 2, "eos_token_id": 3, "hidden_act": "silu", "max_position_embeddings": 4096, "max_window_layers": 2,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": None,
    "tie_word_embeddings": False, "use_cache": True, "use_sliding_window": False}
QWEN_EXPERTS = {
    "decoder_sparse_step": 1, "moe_intermediate_size": 16, "norm_topk_prob": True, "num_experts": 6,
    "num_experts_per_tok": 2, "output_router_logits": False, "router_aux_loss_coef": 0.001}
DEEPSEEK = SIZES | MEANT_FOR_TRAINING | {
    "attention_bias": False, "auto_map": AUTO_MAP, "aux_loss_alpha": 0.001, "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1,
    "first_k_dense_replace": 1, "hidden_act": "silu", "kv_lora_rank": 20, "max_position_embeddings": 163840,
    "moe_intermediate_size": 16, "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 6, "n_shared_experts": 1,
    "norm_topk_prob": True, "num_experts_per_tok": 3, "num_key_value_heads": 4, "pretraining_tp": 1, "q_lora_rank": 24,
    "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 10000,
    "routed_scaling_factor": 1.0, "scoring_func": "sigmoid", "seq_aux": True, "tie_word_embeddings": False, "topk_group": 1,
    "topk_method": "noaux_tc", "use_cache": True, "v_head_dim": 16}

PUBLISHED = {
    "LlamaForCausalLM": SIZES | MEANT_FOR_TRAINING | {
        "model_type": "llama", "attention_bias": False, "bos_token_id": 1, "eos_token_id": [2, 3], "hidden_act": "silu",
        "max_position_embeddings": 4096, "mlp_bias": False, "num_key_value_heads": 2, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0, "tie_word_embeddings": False, "use_cache": True},
    "MistralForCausalLM": SIZES | {
        "model_type": "mistral", "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "initializer_range": 0.02,
        "max_position_embeddings": 32768, "num_key_value_heads": 2, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
        "sliding_window": None, "tie_word_embeddings": False, "use_cache": True},
    "Qwen2ForCausalLM": QWEN | {"model_type": "qwen2"},
    "Qwen3ForCausalLM": QWEN | {"model_type": "qwen3", "attention_bias": False, "head_dim": 16, "rope_scaling": None},
    "Qwen2MoeForCausalLM": QWEN | QWEN_EXPERTS | {
        "model_type": "qwen2_moe", "norm_topk_prob": False, "shared_expert_intermediate_size": 40},
    "Qwen3MoeForCausalLM": QWEN | QWEN_EXPERTS | {
        "model_type": "qwen3_moe", "attention_bias": False, "head_dim": 16, "mlp_only_layers": [], "rope_scaling": None},
    "MixtralForCausalLM": SIZES | MEANT_FOR_TRAINING | {
        "model_type": "mixtral", "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "intermediate_size": 16,
        "max_position_embeddings": 32768, "num_experts_per_tok": 2, "num_key_value_heads": 2, "num_local_experts": 6,
        "output_router_logits": False, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02,
        "sliding_window": None, "tie_word_embeddings": False, "use_cache": True},
    "DeepseekV2ForCausalLM": DEEPSEEK | {
        "model_type": "deepseek_v2", "n_shared_experts": 2, "norm_topk_prob": False, "scoring_func": "softmax",
        "topk_method": "greedy", "auto_map": {key: name.replace("V3", "V2") for key, name in AUTO_MAP.items()}},
    "DeepseekV3ForCausalLM": DEEPSEEK | {"model_type": "deepseek_v3", "num_nextn_predict_layers": 1},
    "Glm4MoeLiteForCausalLM": SIZES | {
        "model_type": "glm4_moe_lite", "attention_bias": False, "attention_dropout": 0.0, "eos_token_id": [1, 2, 3],
        "first_k_dense_replace": 1, "hidden_act": "silu", "kv_lora_rank": 20, "max_position_embeddings": 202752,
        "moe_intermediate_size": 16, "n_group": 1, "n_routed_experts": 6, "n_shared_experts": 1, "norm_topk_prob": True,
        "num_experts_per_tok": 3, "num_key_value_heads": 4, "num_nextn_predict_layers": 1, "pad_token_id": 0,
        "partial_rotary_factor": 1.0, "q_lora_rank": 24, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "rms_norm_eps": 1e-05,
        "rope_scaling": None, "rope_theta": 1000000, "routed_scaling_factor": 1.8, "tie_word_embeddings": False,
        "topk_group": 1, "topk_method": "noaux_tc", "v_head_dim": 16},
    "Glm4MoeForCausalLM": SIZES | {
        "model_type": "glm4_moe", "attention_bias": True, "attention_dropout": 0.0, "eos_token_id": [0, 1],
        "first_k_dense_replace": 1, "head_dim": 16, "hidden_act": "silu", "initializer_range": 0.02,
        "max_position_embeddings": 4096, "moe_intermediate_size": 16, "n_group": 1, "n_routed_experts": 6,
        "n_shared_experts": 1, "norm_topk_prob": True, "num_experts_per_tok": 2, "num_key_value_heads": 2,
        "num_nextn_predict_layers": 1, "pad_token_id": 0, "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-05,
        "rope_scaling": None, "rope_theta": 10000.0, "routed_scaling_factor": 1.0, "tie_word_embeddings": False,
        "topk_group": 1, "use_cache": True, "use_qk_norm": False},
}
ABSENT = object()


def published(architecture, dtype, **changes):
    """config.json with the keys of the published models; a change to ABSENT takes a key away."""
    config = PUBLISHED[architecture] | {"architectures": [architecture], "torch_dtype": dtype, "transformers_version": "4.51.0"}
    return {key: value for key, value in (config | changes).items() if value is not ABSENT}


def current(architecture, dtype, **changes):
    """The same as transformers 5 writes it: rope_parameters and dtype."""
    config = published(architecture, dtype, **changes) | {"dtype": dtype, "transformers_version": "5.17.0"}
    del config["torch_dtype"]
    config.pop("auto_map", None)
    scaling = config.pop("rope_scaling", None) or {}
    rope = {"rope_theta": config.pop("rope_theta"), "rope_type": scaling.get("type", "default")} | scaling
    rope.pop("type", None)
    if "partial_rotary_factor" in config:
        rope["partial_rotary_factor"] = config["partial_rotary_factor"]
    return config | {"rope_parameters": rope}


def is_latent(config):
    return "kv_lora_rank" in config


def is_sparse(config, layer):
    """Whether the layer has experts."""
    kind = config["model_type"]
    if kind in ("qwen2_moe", "qwen3_moe"):
        return layer not in config.get("mlp_only_layers", []) and (layer + 1) % config["decoder_sparse_step"] == 0
    if "mlp_layer_types" in config:
        return config["mlp_layer_types"][layer] == "sparse"
    return kind == "mixtral" or layer >= config.get("first_k_dense_replace", config["num_hidden_layers"])


def shapes(config, prediction_layer=False):
    """Name -> shape of every tensor; with those of one multi-token-prediction layer on demand."""
    hidden, vocabulary, layers = config["hidden_size"], config["vocab_size"], config["num_hidden_layers"]
    names = {"model.embed_tokens.weight": [vocabulary, hidden], "model.norm.weight": [hidden]}
    if not config["tie_word_embeddings"]:
        names["lm_head.weight"] = [vocabulary, hidden]
    for index in range(layers):
        names |= layer_shapes(config, f"model.layers.{index}.", is_sparse(config, index))
    if prediction_layer:
        prefix = f"model.layers.{layers}."
        names |= layer_shapes(config, prefix, sparse=True) | {prefix + "eh_proj.weight": [hidden, 2 * hidden]}
        names |= {prefix + name + ".weight": [hidden] for name in ("enorm", "hnorm", "shared_head.norm")}
        names |= {prefix + name + ".weight": [vocabulary, hidden] for name in ("embed_tokens", "shared_head.head")}
    return names


def layer_shapes(config, prefix, sparse):
    hidden = config["hidden_size"]
    names = {"input_layernorm.weight": [hidden], "post_attention_layernorm.weight": [hidden]}
    names |= (latent_attention if is_latent(config) else grouped_attention)(config)
    names |= mixture(config) if sparse else feed_forward(config, "mlp.", config["intermediate_size"])
    return {prefix + name: shape for name, shape in names.items()}


def grouped_attention(config):
    hidden, heads, kind = config["hidden_size"], config["num_attention_heads"], config["model_type"]
    head = config.get("head_dim") or hidden // heads
    keys = config.get("num_key_value_heads", heads) * head
    shape = {"q": [heads * head, hidden], "k": [keys, hidden], "v": [keys, hidden], "o": [hidden, heads * head]}
    names = {f"self_attn.{name}_proj.weight": shape[name] for name in shape}
    biased = {"qwen2": "qkv", "qwen2_moe": "qkv" if config.get("qkv_bias", True) else "",
              "glm4_moe": "qkv" if config.get("attention_bias") else ""}
    for name in biased.get(kind, "qkvo" if config.get("attention_bias") else ""):
        names[f"self_attn.{name}_proj.bias"] = shape[name][:1]
    if kind in ("qwen3", "qwen3_moe") or config.get("use_qk_norm"):
        names |= {"self_attn.q_norm.weight": [head], "self_attn.k_norm.weight": [head]}
    return names


def latent_attention(config):
    hidden, heads, biased = config["hidden_size"], config["num_attention_heads"], config["attention_bias"]
    rank, keys, turned = config["kv_lora_rank"], config["qk_nope_head_dim"], config["qk_rope_head_dim"]
    names = {"kv_a_proj_with_mqa.weight": [rank + turned, hidden], "kv_a_layernorm.weight": [rank],
             "kv_b_proj.weight": [heads * (keys + config["v_head_dim"]), rank],
             "o_proj.weight": [hidden, heads * config["v_head_dim"]]}
    queries = heads * (keys + turned)
    if config["q_lora_rank"] is None:
        names["q_proj.weight"] = [queries, hidden]
    else:
        rank = config["q_lora_rank"]
        names |= {"q_a_proj.weight": [rank, hidden], "q_a_layernorm.weight": [rank], "q_b_proj.weight": [queries, rank]}
    if biased:
        names |= {name.replace("weight", "bias"): names[name][:1]
                  for name in ("q_a_proj.weight", "kv_a_proj_with_mqa.weight", "o_proj.weight") if name in names}
    return {"self_attn." + name: shape for name, shape in names.items()}


def feed_forward(config, prefix, inner, names=("gate_proj", "up_proj", "down_proj")):
    hidden = config["hidden_size"]
    shapes = dict(zip(names, ([inner, hidden], [inner, hidden], [hidden, inner])))
    found = {f"{prefix}{name}.weight": shape for name, shape in shapes.items()}
    if config.get("mlp_bias"):
        found |= {f"{prefix}{name}.bias": shape[:1] for name, shape in shapes.items()}
    return found


def mixture(config):
    hidden, kind = config["hidden_size"], config["model_type"]
    experts = config.get("n_routed_experts") or config.get("num_experts") or config["num_local_experts"]
    block = "block_sparse_moe." if kind == "mixtral" else "mlp."
    names = {block + "gate.weight": [experts, hidden]}
    for expert in range(experts):
        prefix = f"{block}experts.{expert}."
        if kind == "mixtral":
            names |= feed_forward(config, prefix, config["intermediate_size"], ("w1", "w3", "w2"))
        else:
            names |= feed_forward(config, prefix, config["moe_intermediate_size"])
    if kind == "qwen2_moe":
        names |= feed_forward(config, "mlp.shared_expert.", config["shared_expert_intermediate_size"])
        names["mlp.shared_expert_gate.weight"] = [1, hidden]
    if config.get("n_shared_experts"):
        names |= feed_forward(config, "mlp.shared_experts.", config["moe_intermediate_size"] * config["n_shared_experts"])
    if kind in ("deepseek_v3", "kimi_k2", "glm4_moe_lite", "glm4_moe"):
        names["mlp.gate.e_score_correction_bias"] = [experts]
    return names


def lively_state(config, generator, prediction_layer=False):
    """Random float32 tensors; embeddings that are the head as well are half as large, so that logits are no larger."""
    state = random_state(shapes(config, prediction_layer), generator)
    if config["tie_word_embeddings"]:
        state["model.embed_tokens.weight"] *= 0.5
    return state
