"""Applies recorded smoothing scales to a plain checkpoint, by an own reading of which weights read what. A module, not a command.

A producer's scale s divides what it gives (a norm's weight, rows of a Linear) and multiplies the columns of everything
that reads it, so that the function stays the same.
"""
import torch

ATTENTION_READERS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "q_a_proj", "kv_a_proj_with_mqa", "gate_proj", "g_proj", "index_q_proj",
                     "index_k_proj", "indexer.wk", "indexer.weights_proj", "b_proj", "f_a_proj", "g_a_proj",
                     "query_key_value", "f_proj", "output_gate")
MLP_READERS = ("gate_proj", "up_proj", "gate_up_proj", "w1", "w3", "gate", "wg", "router", "shared_expert_gate", "layer",
               "input_linear", "routed_expert_down_proj")
# Of Nemotron's layers, which have one mixer under one name.
MIXER_READERS = ("in_proj", "q_proj", "k_proj", "v_proj", "up_proj", "gate", "fc1_latent_proj")


def readers(producer, state):
    """Names of the weights that read what `producer` gives."""
    block, _, leaf = producer.rpartition(".")
    has_latent = any(f"{block}.{way}.weight" in state for way in (
        "mixer.fc1_latent_proj", "block_sparse_moe.routed_expert_down_proj"))
    if leaf == "norm" and not block.endswith((".mixer", ".mamba", ".self_attn")):
        names = [name for name in state if name.startswith(block + ".mixer.") and name.endswith(".weight")
                 and name.split(".")[-2] in MIXER_READERS and not (has_latent and ".experts." in name)]
    elif leaf == "norm":
        names = [f"{block}.out_proj.weight"]
    elif leaf == "fc1_latent_proj":
        names = [name for name in state if name.startswith(block + ".experts.") and name.endswith(".up_proj.weight")]
    elif leaf == "routed_expert_down_proj":
        names = [name for name in state if name.startswith(block + ".experts.") and name.endswith((".w1.weight", ".w3.weight"))]
    elif leaf in ("input_layernorm", "operator_norm"):
        names = [f"{block}.{module}.{name}.weight" for module in ("self_attn", "attention") for name in ATTENTION_READERS]
        if f"{block}.post_attention_layernorm.weight" not in state:  # attention and MLP side by side
            names += [name for name in state if name.startswith(block + ".mlp.") and name.split(".")[-2] in MLP_READERS]
        names += [name for name in state if name.startswith((block + ".linear_attn.in_proj_", block + ".mamba.in_proj."))]
        names += [f"{block}.conv.in_proj.weight"]
    elif leaf == "pre_feedforward_layernorm_2":
        names = [name for name in state if name.startswith(block + ".experts.") and name.split(".")[-2] in MLP_READERS]
    elif leaf == "q_a_layernorm":
        names = [f"{block}.q_b_proj.weight", f"{block}.indexer.wq_b.weight"]
    elif leaf in ("post_attention_layernorm", "pre_feedforward_layernorm", "pre_mlp_layernorm", "ffn_norm", "pre_ff_layernorm"):
        names = [name for name in state if name.startswith(tuple(
                     f"{block}.{part}." for part in ("mlp", "block_sparse_moe", "feed_forward", "moe", "share_expert", "shared_mlp")))
                 and (name.split(".")[-2] in MLP_READERS and name.endswith(".weight") or name.endswith(".w13_weight"))
                 and not (has_latent and ".experts." in name)]
    else:
        read = {"kv_a_layernorm": "kv_b_proj", "v_proj": "o_proj", "kv_b_proj": "o_proj",
                "up_proj": "down_proj", "w3": "w2", "qkv_proj": "o_proj", "gate_up_proj": "down_proj", "query_key_value": "dense"}
        if leaf not in read:
            raise ValueError(f"smoothing of {producer}: what reads it is not known here")
        # LFM2 calls attention's output projection so.
        names = [f"{block}.{read[leaf]}.weight", *([f"{block}.out_proj.weight"] if leaf == "v_proj" else [])]
    return [name for name in names if name in state]


def given_rows(producer, config, scale, rows):
    """(which of the producer's `rows`, the scale of each), where it is no norm."""
    if producer.endswith("kv_b_proj"):
        keys, values = config["qk_nope_head_dim"], config["v_head_dim"]
        first = torch.arange(config["num_attention_heads"]).unsqueeze(1) * (keys + values) + keys
        return (first + torch.arange(values)).flatten(), scale
    # Values behind queries and keys, up behind gates.
    return torch.arange(rows - len(scale), rows), scale


def folded(state, scales, config):
    """`state` in float32 under the recorded scales {producer: [channels]}."""
    result = {name: tensor.float() for name, tensor in state.items()}
    for producer, scale in scales.items():
        scale = scale.float()
        for name in readers(producer, state):
            columns = result[name].shape[1]
            head = columns // config["num_attention_heads"]
            # One value head feeds several query heads.
            wide = scale if len(scale) == columns else scale.view(-1, head).repeat_interleave(columns // len(scale), 0).flatten()
            result[name] = result[name] * wide
        for name in (producer + ".weight", producer + ".bias"):
            if name in result:
                given = result[name].clone()
                rows, divisor = given_rows(producer, config, scale, len(given))
                # Gemma 3 stores the weights of norms as their distance from 1.
                is_offset = config.get("text_config", config)["model_type"] in (
                    "gemma3_text", "qwen3_next", "qwen3_5_moe_text", "qwen3_5_text", "step3p5", "minimax_m3_vl_text")
                one = float(is_offset and given.dim() == 1 and "norm" in name)
                given[rows] = (given[rows] + one) / divisor.view(-1, *[1] * (given.dim() - 1)) - one
                result[name] = given
    return result
