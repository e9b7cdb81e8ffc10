"""Forward passes of ten architectures beside GLM-4 MoE, by transformers. A module of make_fixtures.py, not a command.

Every case says what must matter to it: changes of its configuration, and tensors to set to zero. Each of them has to
move some log-probability by LEAST_EFFECT, so that no case passes where its branch is forgotten; and no position may
change with what comes after it.
"""
import json
import os
import shutil
import tempfile
import zlib

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

import fixture_families as families
import fixture_fp8 as fp8
from fixture_families import ABSENT
from fixture_models import load_float32, stored, write_checkpoint

LENGTH, SEQUENCES, CANDIDATES, ATTEMPTS = 20, 2, 400, 20
LEAST_MARGIN = 2e-3
LEAST_EFFECT = 0.02

LLAMA3 = {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 64,
          "rope_type": "llama3"}
LINEAR = {"factor": 4.0, "type": "linear"}
DYNAMIC = {"factor": 2.0, "type": "dynamic"}
YARN = {"factor": 4.0, "original_max_position_embeddings": 64, "type": "yarn"}
YARN_WHOLE = {"attention_factor": 1.3, "beta_fast": 4.0, "beta_slow": 2.0, "factor": 8.0,
              "original_max_position_embeddings": 64, "rope_type": "yarn", "truncate": False}
DEEPSEEK_YARN = {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
                 "original_max_position_embeddings": 4096, "type": "yarn"}
LONG, SHORT = [1.0, 1.5, 2.0, 4.0, 7.0, 11.0, 16.0, 24.0], [1.0, 1.1, 1.3, 1.6, 2.0, 2.5, 3.0, 3.5]


def longrope(**more):
    return {"long_factor": LONG, "rope_type": "longrope", "short_factor": SHORT} | more


def without(rope, *keys):
    return {key: value for key, value in rope.items() if key not in keys}


def scaled(rope, *others):
    """A rope scaling, and that neither its absence nor one of `others` is the same."""
    return {"rope_scaling": rope}, [{"rope_scaling": other} for other in (None, *others)]


def of(architecture, layout, dtype, config=None, *, rope=None, matters=(), zeroed=(), shards=1, prediction_layer=False, fp8=None):
    scaling, others = scaled(*rope) if rope else ({}, [])
    return {"architecture": architecture, "layout": layout, "dtype": dtype, "config": (config or {}) | scaling,
            "matters": [*others, *matters], "zeroed": zeroed, "shards": shards, "prediction_layer": prediction_layer,
            "fp8": fp8}


LLAMA, MISTRAL, QWEN2, QWEN3, QWEN2_MOE, QWEN3_MOE, MIXTRAL, DEEPSEEK_V2, DEEPSEEK_V3, GLM_LITE, GLM = (
    name + "ForCausalLM" for name in ("Llama", "Mistral", "Qwen2", "Qwen3", "Qwen2Moe", "Qwen3Moe", "Mixtral", "DeepseekV2",
                                      "DeepseekV3", "Glm4MoeLite", "Glm4Moe"))
FULL, SLIDING = "full_attention", "sliding_attention"

CASES = {
    "llama-plain": of(LLAMA, "published", "bfloat16", dict(
        num_key_value_heads=ABSENT, rope_scaling=ABSENT, attention_bias=ABSENT,
        mlp_bias=ABSENT), shards=2, matters=[dict(rope_theta=500.0), dict(rms_norm_eps=0.1)]),
    "llama-tied-llama3": of(LLAMA, "published", "bfloat16", dict(head_dim=16, rope_theta=500000.0, tie_word_embeddings=True),
                              rope=[LLAMA3, LLAMA3 | {"low_freq_factor": 3.0}, LLAMA3 | {"high_freq_factor": 16.0}]),
    "llama-biases-linear": of(LLAMA, "published", "bfloat16", dict(attention_bias=True, mlp_bias=True, head_dim=24),
                                rope=[LINEAR], zeroed=("q_proj.bias", "v_proj.bias", "o_proj.bias", "gate_proj.bias",
                                                       "down_proj.bias")),
    "llama-dynamic": of(LLAMA, "published", "bfloat16", dict(max_position_embeddings=16, head_dim=16, rope_theta=100.0),
                          rope=[DYNAMIC], matters=[dict(max_position_embeddings=18)]),
    "llama-longrope-short": of(LLAMA, "published", "bfloat16", dict(
        head_dim=16, max_position_embeddings=256, rope_theta=100.0), rope=[
        longrope(original_max_position_embeddings=64), longrope(original_max_position_embeddings=16)]),
    "llama-longrope-long": of(LLAMA, "current", "bfloat16", dict(
        head_dim=16, max_position_embeddings=256, rope_theta=100.0), rope=[
        longrope(original_max_position_embeddings=16, factor=8.0), longrope(original_max_position_embeddings=20, factor=8.0),
        longrope(original_max_position_embeddings=16)]),
    "llama-yarn": of(LLAMA, "current", "float32", dict(num_hidden_layers=1, head_dim=16, rope_theta=100.0), rope=[
        YARN_WHOLE, without(YARN_WHOLE, "attention_factor"), without(YARN_WHOLE, "beta_fast"),
        without(YARN_WHOLE, "beta_slow"), without(YARN_WHOLE, "truncate")]),
    "mistral-window": of(MISTRAL, "published", "float32", dict(sliding_window=7), matters=[
        dict(sliding_window=None), dict(sliding_window=6), dict(sliding_window=8)]),
    "mistral-head-dim-yarn": of(MISTRAL, "current", "bfloat16", dict(
        head_dim=24, attention_dropout=0.0, rope_theta=100.0), rope=[YARN, YARN | {"attention_factor": 1.0}]),
    "qwen2-tied": of(QWEN2, "published", "bfloat16", dict(
        tie_word_embeddings=True, sliding_window=5, max_window_layers=0, use_mrope=False),
        matters=[dict(use_sliding_window=True)], zeroed=("q_proj.bias", "v_proj.bias")),
    "qwen2-window-layers": of(QWEN2, "published", "bfloat16", dict(
        num_hidden_layers=3, use_sliding_window=True, sliding_window=6, max_window_layers=1),
        matters=[dict(use_sliding_window=False), dict(max_window_layers=0), dict(max_window_layers=2)]),
    "qwen2-layer-types-yarn": of(QWEN2, "current", "bfloat16", dict(
        num_hidden_layers=3, num_key_value_heads=4, use_sliding_window=True, sliding_window=6, max_window_layers=3,
        layer_types=[SLIDING, FULL, SLIDING], rope_theta=100.0), rope=[YARN],
        matters=[dict(layer_types=[FULL, FULL, SLIDING]), dict(layer_types=[SLIDING, SLIDING, SLIDING])]),
    "qwen3-tied": of(QWEN3, "published", "bfloat16", dict(tie_word_embeddings=True), zeroed=("q_norm.weight",)),
    "qwen3-bias-window-layers": of(QWEN3, "published", "bfloat16", dict(
        num_hidden_layers=3, attention_bias=True, use_sliding_window=True, sliding_window=6, max_window_layers=1),
        matters=[dict(use_sliding_window=False), dict(max_window_layers=0)], zeroed=("q_proj.bias", "o_proj.bias")),
    "qwen3-layer-types-longrope": of(QWEN3, "current", "bfloat16", dict(
        use_sliding_window=True, sliding_window=6, layer_types=[FULL, SLIDING], max_position_embeddings=256, rope_theta=100.0),
        rope=[longrope(original_max_position_embeddings=16, factor=8.0, attention_factor=1.25),
              longrope(original_max_position_embeddings=16, factor=8.0)],
        matters=[dict(layer_types=[FULL, FULL]), dict(layer_types=[SLIDING, FULL])]),
    "qwen3-moe-published": of(QWEN3_MOE, "published", "bfloat16", shards=2, matters=[dict(norm_topk_prob=False)]),
    "qwen3-moe-mlp-only": of(QWEN3_MOE, "current", "bfloat16", dict(
        num_hidden_layers=3, mlp_only_layers=[1], attention_bias=True, norm_topk_prob=False, num_experts=5,
        num_experts_per_tok=3), rope=[LINEAR], matters=[dict(norm_topk_prob=True)], zeroed=("o_proj.bias",)),
    "qwen3-moe-step-window-yarn": of(QWEN3_MOE, "published", "bfloat16", dict(
        decoder_sparse_step=2, use_sliding_window=True, sliding_window=8, num_key_value_heads=1, num_experts_per_tok=1,
        rope_theta=100.0, norm_topk_prob=False), rope=[YARN],
        matters=[dict(use_sliding_window=False), dict(norm_topk_prob=True)]),
    "qwen2-moe-published": of(QWEN2_MOE, "published", "bfloat16", dict(num_key_value_heads=4), shards=2, matters=[
        dict(norm_topk_prob=True)], zeroed=("shared_expert_gate.weight", "q_proj.bias", "v_proj.bias")),
    "qwen2-moe-window-step": of(QWEN2_MOE, "published", "bfloat16", dict(
        num_hidden_layers=4, decoder_sparse_step=2, use_sliding_window=True, sliding_window=6, max_window_layers=3,
        norm_topk_prob=True, num_experts=4, rope_scaling=None),
        matters=[dict(use_sliding_window=False), dict(max_window_layers=2), dict(norm_topk_prob=False)]),
    "qwen2-moe-no-bias-layer-types": of(QWEN2_MOE, "current", "bfloat16", dict(
        num_hidden_layers=3, mlp_only_layers=[0], qkv_bias=False, use_sliding_window=True, sliding_window=6,
        layer_types=[FULL, SLIDING, SLIDING], num_experts=4, num_experts_per_tok=3), rope=[LINEAR],
        matters=[dict(layer_types=[SLIDING, FULL, SLIDING])]),
    "mixtral-published": of(MIXTRAL, "published", "bfloat16", shards=2, zeroed=("block_sparse_moe.gate.weight",)),
    "mixtral-window-head-dim": of(MIXTRAL, "current", "bfloat16", dict(
        head_dim=12, sliding_window=5, num_experts_per_tok=3, num_local_experts=5, router_jitter_noise=0.0),
        matters=[dict(sliding_window=None), dict(sliding_window=6)]),
    "deepseek-v2-lite": of(DEEPSEEK_V2, "published", "bfloat16", dict(q_lora_rank=None), shards=2, rope=[
        DEEPSEEK_YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}, DEEPSEEK_YARN | {"mscale": 0.0, "mscale_all_dim": 0.0}]),
    "deepseek-v2-groups": of(DEEPSEEK_V2, "published", "bfloat16", dict(
        topk_method="group_limited_greedy", n_routed_experts=8, n_group=4, topk_group=2, routed_scaling_factor=4.0, attention_bias=True),
        rope=[DEEPSEEK_YARN | {"mscale": 1.3, "mscale_all_dim": 0.6, "original_max_position_embeddings": 64},
              DEEPSEEK_YARN | {"mscale": 0.6, "mscale_all_dim": 0.6, "original_max_position_embeddings": 64}],
        matters=[dict(topk_method="greedy"), dict(topk_group=3), dict(routed_scaling_factor=1.0)],
        zeroed=("kv_a_proj_with_mqa.bias", "o_proj.bias", "q_a_proj.bias")),
    "deepseek-v2-no-scaling": of(DEEPSEEK_V2, "current", "bfloat16", dict(
        first_k_dense_replace=0, n_routed_experts=6, n_shared_experts=1, num_experts_per_tok=2, v_head_dim=8),
        matters=[dict(rope_theta=500.0)]),
    "deepseek-v3-yarn-groups": of(DEEPSEEK_V3, "published", "bfloat16", dict(
        n_routed_experts=8, n_group=4, topk_group=2, routed_scaling_factor=2.5), shards=3, prediction_layer=True,
        rope=[DEEPSEEK_YARN, without(DEEPSEEK_YARN, "mscale", "mscale_all_dim")],
        matters=[dict(topk_group=4), dict(norm_topk_prob=False), dict(routed_scaling_factor=1.0), dict(rope_interleave=False)],
        zeroed=("e_score_correction_bias",)),
    "deepseek-v3-moonlight": of(DEEPSEEK_V3, "published", "bfloat16", dict(
        q_lora_rank=None, n_shared_experts=2, num_experts_per_tok=2, routed_scaling_factor=2.446, num_nextn_predict_layers=0,
        max_position_embeddings=8192, rope_theta=50000.0, rms_norm_eps=1e-05), matters=[dict(norm_topk_prob=False)]),
    "deepseek-v3-kimi-k2": of(DEEPSEEK_V3, "published", "bfloat16", dict(
        model_type="kimi_k2", ep_size=ABSENT, num_nextn_predict_layers=0, routed_scaling_factor=2.827, rope_theta=50000.0,
        max_position_embeddings=131072), rope=[
            DEEPSEEK_YARN | {"beta_fast": 1.0, "beta_slow": 1.0, "factor": 32.0},
            DEEPSEEK_YARN | {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0}]),
    "deepseek-v3-halves": of(DEEPSEEK_V3, "current", "bfloat16", dict(
        rope_interleave=False, attention_bias=True, norm_topk_prob=False, first_k_dense_replace=0, n_group=2, topk_group=1,
        num_experts_per_tok=2, num_nextn_predict_layers=0, v_head_dim=8),
        rope=[DEEPSEEK_YARN | {"mscale": 1.5, "mscale_all_dim": 0.5}, DEEPSEEK_YARN | {"mscale": 1.5, "mscale_all_dim": 1.5}],
        matters=[dict(rope_interleave=True), dict(norm_topk_prob=True), dict(topk_group=2)],
        zeroed=("kv_a_proj_with_mqa.bias", "o_proj.bias", "q_a_proj.bias")),
    "glm4-moe-lite-published": of(GLM_LITE, "published", "bfloat16", shards=2, prediction_layer=True, matters=[
        dict(norm_topk_prob=False), dict(rope_interleave=False), dict(routed_scaling_factor=1.0)],
        zeroed=("e_score_correction_bias",)),
    "glm4-moe-lite-layer-types": of(GLM_LITE, "current", "bfloat16", dict(
        num_hidden_layers=3, mlp_layer_types=["sparse", "dense", "sparse"], first_k_dense_replace=ABSENT, q_lora_rank=None,
        rope_interleave=False, attention_bias=True, n_group=2, norm_topk_prob=False, num_experts_per_tok=2,
        num_nextn_predict_layers=0), rope=[LINEAR],
        matters=[dict(rope_interleave=True), dict(topk_group=2), dict(norm_topk_prob=True)], zeroed=("o_proj.bias",)),
    "glm4-moe-yarn-half": of(GLM, "published", "bfloat16", dict(head_dim=32, rope_theta=100.0), rope=[YARN]),
    "glm4-moe-linear-half": of(GLM, "current", "bfloat16", dict(use_qk_norm=False, first_k_dense_replace=0), rope=[LINEAR]),
    "deepseek-v3-fp8-blocks": of(DEEPSEEK_V3, "published", "bfloat16", dict(
        hidden_size=136, num_hidden_layers=1, first_k_dense_replace=0, moe_intermediate_size=130, q_lora_rank=136, kv_lora_rank=128,
        qk_nope_head_dim=24, v_head_dim=33, n_routed_experts=2, num_experts_per_tok=1, num_nextn_predict_layers=0),
        rope=[DEEPSEEK_YARN], shards=2, fp8="blocks"),
    "qwen3-moe-fp8-channel": of(QWEN3_MOE, "published", "bfloat16", fp8="channel"),
    "llama-fp8-tensor": of(LLAMA, "published", "bfloat16", fp8="tensor"),
}


def seeded(name, attempt):
    return torch.Generator().manual_seed(zlib.crc32(("forward/" + name).encode()) + attempt)


def written_config(case, **changes):
    make = families.published if case["layout"] == "published" else families.current
    return make(case["architecture"], case["dtype"], **case["config"] | changes)


def loadable(config):
    """transformers does not know Kimi-K2's name for DeepSeek-V3; its own code is for a network and not run."""
    if config["model_type"] != "kimi_k2":
        return config
    return {key: value for key, value in config.items() if key != "auto_map"} | {"model_type": "deepseek_v3"}


def load(folder):
    """The checkpoint in `folder` in float32, every tensor of it used; FP8 weights as what they stand for."""
    with open(folder + "/config.json") as file:
        config = json.load(file)
    tensors = {}
    for path in sorted(os.listdir(folder)):
        if path.startswith("model") and path.endswith(".safetensors"):
            tensors.update(load_file(os.path.join(folder, path)))
    if config.pop("quantization_config", None):
        tensors = fp8.dequantized(tensors)
    with tempfile.TemporaryDirectory() as made:
        write_checkpoint(made, loadable(config), tensors)
        return load_float32(made), tensors


def altered(case, state, changes, zeroed):
    """The same model with another configuration or with tensors of zeros; superfluous tensors are left out."""
    state = {name: torch.zeros_like(tensor) if zeroed and name.endswith(zeroed) else tensor
             for name, tensor in state.items()}
    with tempfile.TemporaryDirectory() as made:
        write_checkpoint(made, loadable(written_config(case, **changes)), state)
        return AutoModelForCausalLM.from_pretrained(
            made, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager").eval()


# --- routing ----------------------------------------------------------------------------------------------------------


def gap(values, chosen):
    """How far the last of the `chosen` largest is above the first that is left out, for each row."""
    order = values.sort(dim=-1, descending=True).values
    return order[:, chosen - 1] - order[:, chosen] if chosen < values.shape[-1] else torch.full([len(values)], torch.inf)


def routing(router, hidden):
    """For each token: how close it came to another choice of groups or experts, and whether the bias made the choice."""
    scores = hidden.reshape(-1, router.hidden_dim) @ router.weight.T
    unbiased, bias = scores, getattr(router, "e_score_correction_bias", None)
    if bias is not None:
        unbiased = scores.sigmoid()
        scores = unbiased + bias
    margins = []
    if bias is not None or getattr(router, "topk_method", "") == "group_limited_greedy":
        grouped = scores.view(len(scores), router.num_group, -1)
        strength = grouped.topk(2, dim=-1).values.sum(-1) if bias is not None else grouped.amax(-1)
        margins.append(gap(strength, router.topk_group))
        barred = torch.ones_like(strength, dtype=torch.bool).scatter(1, strength.topk(router.topk_group).indices, False)
        scores = grouped.masked_fill(barred.unsqueeze(-1), float("-inf")).flatten(1)
    margins.append(gap(scores, router.top_k))
    chosen = lambda values: values.topk(router.top_k).indices.sort().values
    return torch.stack(margins).amin(0), (chosen(scores) != chosen(unbiased)).any(-1)


@torch.no_grad()
def clear_sequences(model, generator):
    """Sequences of random ids in which no choice is close; how close it is at most; and how often the bias makes it."""
    ids = torch.randint(0, model.config.vocab_size, [CANDIDATES, LENGTH], generator=generator)
    seen = []
    routers = [layer.mlp.gate for layer in model.model.layers if hasattr(layer.mlp, "gate")]
    hooks = [router.register_forward_pre_hook(lambda module, args: seen.append(routing(module, args[0])))
             for router in routers]
    if not routers:
        return ids[:SEQUENCES], None, None
    model(input_ids=ids)
    for hook in hooks:
        hook.remove()
    margins = torch.stack([margin.view(CANDIDATES, LENGTH).amin(-1) for margin, _ in seen]).amin(0)
    clear = (margins > LEAST_MARGIN).nonzero().flatten()[:SEQUENCES]
    if len(clear) < SEQUENCES:
        return None, None, None
    changed = max(change.view(CANDIDATES, LENGTH)[clear].float().mean().item() for _, change in seen)
    return ids[clear], margins[clear].min().item(), changed


# --- goldens ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def golden_of(model, ids):
    """Inputs of every layer, the last layer's output before the final norm, log-probabilities."""
    hidden, layers = {}, model.model.layers
    for index, layer in enumerate(layers):
        layer.register_forward_pre_hook(lambda _, args, i=index: hidden.update({f"hidden.{i}": args[0].clone()}))
    layers[-1].register_forward_hook(lambda _, args, output: hidden.update({f"hidden.{len(layers)}": output.clone()}))
    logits = model(input_ids=ids, use_cache=False).logits
    return {"input_ids": ids, **hidden, "log_probabilities": torch.log_softmax(logits, -1)}


@torch.no_grad()
def log_probabilities(model, ids):
    return torch.log_softmax(model(input_ids=ids, use_cache=False).logits, -1)


def require_causal(name, model, golden):
    """Another last id leaves every earlier position as it was."""
    ids = golden["input_ids"].clone()
    ids[:, -1] = (ids[:, -1] + 1) % model.config.vocab_size
    change = (log_probabilities(model, ids) - golden["log_probabilities"]).abs().amax((0, 2))
    if change[:-1].max() > 1e-5 or change[-1] < LEAST_EFFECT:
        raise SystemExit(f"{name}: not causal, {change.tolist()}")


def least_effect(name, case, state, golden):
    """The least that anything which must matter changes the log-probabilities by; a change of nothing changes nothing."""
    effects = {}
    if (log_probabilities(altered(case, state, {}, None), golden["input_ids"]) - golden["log_probabilities"]).abs().max() > 1e-5:
        raise SystemExit(f"{name}: two passes over the same model differ")
    for changes, zeroed in [(changes, None) for changes in case["matters"]] + [({}, suffix) for suffix in case["zeroed"]]:
        model = altered(case, state, changes, zeroed)
        change = (log_probabilities(model, golden["input_ids"]) - golden["log_probabilities"]).abs().max().item()
        effects[str(zeroed or changes)] = change
    weak = {what: change for what, change in effects.items() if not change >= LEAST_EFFECT}
    if weak:
        raise SystemExit(f"{name}: does not matter: {weak}")
    return min(effects.values(), default=None)


def has_bias(state):
    return any(name.endswith("e_score_correction_bias") for name in state)


def make_case(folder, name, case):
    config = written_config(case)
    for attempt in range(ATTEMPTS):
        generator = seeded(name, attempt)
        state = stored(families.lively_state(config, generator, case["prediction_layer"]), case["dtype"])
        if case["fp8"]:
            config["quantization_config"] = fp8.configuration(case["fp8"], state)
            state = fp8.quantized(state, case["fp8"])
        shutil.rmtree(folder, ignore_errors=True)
        write_checkpoint(folder, config, state, case["shards"])
        model, state = load(folder)
        ids, margin, changed = clear_sequences(model, generator)
        if ids is not None and (changed is None or changed > 0.1 or not has_bias(state)):
            break
    else:
        raise SystemExit(f"{name}: no seed with clear routing")
    golden = golden_of(load(folder)[0], ids)
    require_causal(name, model, golden)
    effect = least_effect(name, case, state, golden)
    save_file({key: value.contiguous() for key, value in golden.items()}, folder + "/golden.safetensors")
    rounded = lambda value: None if value is None else round(value, 4)
    print(json.dumps({"forward": name, "attempt": attempt, "least_routing_margin": rounded(margin),
                      "choices_changed_by_bias": rounded(changed), "least_effect": rounded(effect),
                      "log_probability_spread": rounded(golden["log_probabilities"].std(-1).mean().item()),
                      "bytes": sum(os.path.getsize(os.path.join(folder, path)) for path in os.listdir(folder))}), flush=True)


def make_all(out):
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    for name, case in CASES.items():
        make_case(os.path.join(out, name), name, case)
