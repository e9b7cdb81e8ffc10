"""Random tiny Glm4MoeForCausalLM checkpoints in the layout of published ones. A module of make_fixtures.py, not a command.

Experts are per-expert 2-D tensors, the router's correction bias is float32, and every norm has random weights, so that
a forgotten norm or bias shows.
"""
import json
import os

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def base_config(**changes):
    """The hyperparameters of one model, before they are put into one of the two layouts of config.json."""
    config = {
        "architectures": ["Glm4MoeForCausalLM"], "model_type": "glm4_moe", "attention_bias": False, "attention_dropout": 0.0,
        "eos_token_id": [0, 1], "first_k_dense_replace": 1, "head_dim": 16, "hidden_act": "silu", "hidden_size": 48,
        "initializer_range": 0.02, "intermediate_size": 80, "max_position_embeddings": 4096, "moe_intermediate_size": 32,
        "n_group": 1, "n_routed_experts": 8, "n_shared_experts": 1, "norm_topk_prob": True, "num_attention_heads": 4,
        "num_experts_per_tok": 2, "num_hidden_layers": 2, "num_key_value_heads": 2, "num_nextn_predict_layers": 1,
        "pad_token_id": 0, "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
        "routed_scaling_factor": 1.0, "tie_word_embeddings": False, "topk_group": 1, "use_cache": True,
        "use_qk_norm": False, "vocab_size": 96,
    }
    return config | changes


def published_layout(config, dtype):
    """config.json as in the published GLM-4.5 and 4.6 checkpoints."""
    return config | {"rope_scaling": None, "torch_dtype": dtype, "transformers_version": "4.54.0"}


def current_layout(config, dtype):
    """config.json as transformers 5 writes it: rope_parameters and dtype."""
    config = dict(config)
    theta = config.pop("rope_theta")
    rope = {"partial_rotary_factor": config["partial_rotary_factor"], "rope_theta": theta, "rope_type": "default"}
    return config | {"bos_token_id": None, "dtype": dtype, "rope_parameters": rope, "transformers_version": "5.17.0"}


def shapes(config, multi_token_prediction=False):
    """Name -> shape of every tensor; with the tensors of one multi-token-prediction layer on demand."""
    hidden, vocabulary, head = config["hidden_size"], config["vocab_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    names = {"model.embed_tokens.weight": [vocabulary, hidden], "model.norm.weight": [hidden], "lm_head.weight": [vocabulary, hidden]}

    def feed_forward(prefix, inner):
        names[prefix + "gate_proj.weight"] = [inner, hidden]
        names[prefix + "up_proj.weight"] = [inner, hidden]
        names[prefix + "down_proj.weight"] = [hidden, inner]

    def layer(index, dense):
        prefix = f"model.layers.{index}."
        names[prefix + "input_layernorm.weight"] = [hidden]
        names[prefix + "post_attention_layernorm.weight"] = [hidden]
        for name, rows in ("q", queries), ("k", keys), ("v", keys):
            names[prefix + f"self_attn.{name}_proj.weight"] = [rows, hidden]
            if config["attention_bias"]:
                names[prefix + f"self_attn.{name}_proj.bias"] = [rows]
        names[prefix + "self_attn.o_proj.weight"] = [hidden, queries]
        if config["use_qk_norm"]:
            names[prefix + "self_attn.q_norm.weight"] = [head]
            names[prefix + "self_attn.k_norm.weight"] = [head]
        if dense:
            feed_forward(prefix + "mlp.", config["intermediate_size"])
            return
        names[prefix + "mlp.gate.weight"] = [config["n_routed_experts"], hidden]
        names[prefix + "mlp.gate.e_score_correction_bias"] = [config["n_routed_experts"]]
        for expert in range(config["n_routed_experts"]):
            feed_forward(prefix + f"mlp.experts.{expert}.", config["moe_intermediate_size"])
        feed_forward(prefix + "mlp.shared_experts.", config["moe_intermediate_size"] * config["n_shared_experts"])

    layers = config["num_hidden_layers"]
    for index in range(layers):
        layer(index, dense=index < config["first_k_dense_replace"])
    if multi_token_prediction:
        layer(layers, dense=False)
        prefix = f"model.layers.{layers}."
        names[prefix + "eh_proj.weight"] = [hidden, 2 * hidden]
        names[prefix + "enorm.weight"] = names[prefix + "hnorm.weight"] = names[prefix + "shared_head.norm.weight"] = [hidden]
        names[prefix + "embed_tokens.weight"] = names[prefix + "shared_head.head.weight"] = [vocabulary, hidden]
    return names


def random_state(names, generator):
    """Lively float32 tensors for `names`: activations of order 1, log-probabilities several nats apart."""
    state = {}
    for name, shape in sorted(names.items()):
        noise = torch.randn(shape, generator=generator)
        if name.endswith("e_score_correction_bias"):
            state[name] = 0.4 * noise
        elif "norm.weight" in name:
            state[name] = 0.3 + 1.5 * torch.rand(shape, generator=generator)
        elif name.endswith("bias"):
            state[name] = 0.5 * noise
        elif "embed_tokens" in name:
            state[name] = noise
        else:
            gain = 2.0 if name.endswith(("down_proj.weight", "w2.weight", "lm_head.weight", "head.weight")) else 1.2
            state[name] = gain * noise / shape[-1] ** 0.5
    return state


def stored(state, dtype):
    """`state` in the checkpoint's dtype; the router's correction bias stays float32, as in published checkpoints."""
    return {n: t if n.endswith("e_score_correction_bias") else t.to(DTYPES[dtype]) for n, t in state.items()}


def write_checkpoint(folder, config, state, shards=1):
    """config.json and one model.safetensors, or `shards` files of about equal size with an index."""
    os.makedirs(folder, exist_ok=True)
    write_json(folder + "/config.json", config)
    if shards == 1:
        save_file(state, folder + "/model.safetensors", metadata={"format": "pt"})
        return
    size = lambda tensor: tensor.numel() * tensor.element_size()
    total, seen, files, where = sum(map(size, state.values())), 0, {}, {}
    for name in sorted(state):
        part = min(seen * shards // total, shards - 1) + 1
        where[name] = f"model-{part:05d}-of-{shards:05d}.safetensors"
        files.setdefault(where[name], {})[name] = state[name]
        seen += size(state[name])
    for path, tensors in files.items():
        save_file(tensors, f"{folder}/{path}", metadata={"format": "pt"})
    write_json(folder + "/model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})


def write_json(path, value):
    with open(path, "w") as file:
        json.dump(value, file, indent=2, sort_keys=True)
        file.write("\n")


def load_float32(folder):
    """The checkpoint in transformers: float32, eager attention, every tensor used except those of extra layers."""
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager", output_loading_info=True)
    extra = f"model.layers.{model.config.num_hidden_layers}."
    amiss = {kind: sorted(map(str, names)) for kind, names in info.items()
             if any(not str(name).startswith(extra) for name in names)}
    if amiss:
        raise SystemExit(f"{folder}: {amiss}")
    return model.eval()
