#!/usr/bin/env python3
"""Writes the goldens of fixtures/: small random checkpoints and what transformers and llm-compressor make of them.

usage: make_fixtures.py OUT [--only forward]

Every weight comes from a seed derived from the case's name, so that a second run writes the same checkpoints.
The versions used are printed as JSON. See fixtures/README.md for what each folder holds.
"""
import argparse
import json
import os
import shutil
import zlib

import torch
import transformers
from safetensors.torch import save_file

from fixture_models import base_config, current_layout, load_float32, published_layout, random_state, shapes, stored, write_checkpoint

torch.set_num_threads(1)


def seeded(name, attempt=0):
    return torch.Generator().manual_seed(zlib.crc32(name.encode()) + attempt)


# --- forward: a forward pass of every kind of GLM-4 MoE ---------------------------------------------------------------

FORWARD_CASES = {
    # name: (layout, dtype, shards, extra tensors of a multi-token-prediction layer, hyperparameters)
    "published-qk-norm": ("published", "float32", 1, False, dict(
        num_hidden_layers=3, use_qk_norm=True, attention_bias=True, routed_scaling_factor=2.5, rope_theta=1000000)),
    "published-mtp-bf16": ("published", "bfloat16", 3, True, dict(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=1, attention_bias=True, n_routed_experts=6, n_group=2,
        num_experts_per_tok=3, routed_scaling_factor=1.5, vocab_size=96)),
    "published-dense-3": ("published", "float32", 3, False, dict(
        hidden_size=32, num_hidden_layers=4, first_k_dense_replace=3, n_routed_experts=5, num_experts_per_tok=3,
        use_qk_norm=True, norm_topk_prob=False, n_shared_experts=2, partial_rotary_factor=1.0, rope_theta=500.0)),
    "no-dense-four-groups": ("current", "float32", 2, False, dict(
        hidden_size=64, first_k_dense_replace=0, n_group=4, topk_group=2, num_experts_per_tok=3, norm_topk_prob=False,
        n_shared_experts=2, num_key_value_heads=4, partial_rotary_factor=1.0, routed_scaling_factor=0.7)),
    "local-experts-f16": ("current-local-experts", "float16", 1, False, dict(
        hidden_size=32, num_hidden_layers=4, first_k_dense_replace=2, n_routed_experts=4, num_experts_per_tok=1,
        use_qk_norm=True, partial_rotary_factor=0.25, routed_scaling_factor=1.8)),
    "two-groups-whole": ("current", "float32", 2, False, dict(
        hidden_size=32, num_hidden_layers=3, attention_bias=True, n_group=2, num_experts_per_tok=4, num_attention_heads=6,
        routed_scaling_factor=2.0)),
    "null-head-dim": ("current-null-head-dim", "float32", 1, False, dict(
        hidden_size=48, num_attention_heads=3, num_key_value_heads=3, first_k_dense_replace=0, n_routed_experts=4,
        num_experts_per_tok=2, attention_bias=True, use_qk_norm=True, routed_scaling_factor=1.2)),
}
LEAST_MARGIN = 2e-3


def routing_margins(router, hidden):
    """How close the router came to another choice: the least gap between chosen and left-out experts, and groups."""
    scores = (hidden.view(-1, router.hidden_dim) @ router.weight.T).sigmoid() + router.e_score_correction_bias
    grouped = scores.view(len(scores), router.num_group, -1)
    gaps = []
    strength = grouped.topk(2, dim=-1).values.sum(-1)
    order = strength.sort(dim=-1, descending=True)
    if router.topk_group < router.num_group:
        gaps.append(order.values[:, router.topk_group - 1] - order.values[:, router.topk_group])
    allowed = torch.zeros_like(strength, dtype=torch.bool).scatter(1, order.indices[:, : router.topk_group], True)
    candidates = grouped.masked_fill(~allowed.unsqueeze(-1), float("-inf")).flatten(1).sort(dim=-1, descending=True).values
    gaps.append(candidates[:, router.top_k - 1] - candidates[:, router.top_k])
    unbiased = scores - router.e_score_correction_bias
    changed = (unbiased.topk(router.top_k).indices.sort().values != scores.topk(router.top_k).indices.sort().values).any(-1)
    return torch.cat(gaps).min().item(), changed.float().mean().item()


@torch.no_grad()
def forward_golden(model, ids):
    """Inputs of every layer, the last layer's output before the final norm, log-probabilities; and the routing."""
    hidden, routing = {}, []
    layers = model.model.layers
    for index, layer in enumerate(layers):
        layer.register_forward_pre_hook(lambda _, args, i=index: hidden.update({f"hidden.{i}": args[0].clone()}))
        if hasattr(layer.mlp, "gate"):
            layer.mlp.gate.register_forward_pre_hook(lambda module, args: routing.append(routing_margins(module, args[0])))
    layers[-1].register_forward_hook(lambda _, args, output: hidden.update({f"hidden.{len(layers)}": output.clone()}))
    logits = model(input_ids=ids).logits
    return {"input_ids": ids, **hidden, "log_probabilities": torch.log_softmax(logits, -1)}, routing


def make_forward(folder, name, layout, dtype, shards, multi_token_prediction, changes):
    config = base_config(**changes)
    written = published_layout(config, dtype) if layout == "published" else current_layout(config, dtype)
    if layout == "current-local-experts":
        written["num_local_experts"] = written.pop("n_routed_experts")
    if layout == "current-null-head-dim":
        assert config["head_dim"] * config["num_attention_heads"] == config["hidden_size"]
        del written["head_dim"]
    for attempt in range(50):
        generator = seeded("forward/" + name, attempt)
        state = stored(random_state(shapes(config, multi_token_prediction), generator), dtype)
        shutil.rmtree(folder, ignore_errors=True)
        write_checkpoint(folder, written, state, shards)
        model = load_float32(folder)
        assert len(model.model.rotary_emb.inv_freq) * 2 == config["head_dim"] * config["partial_rotary_factor"]
        golden, routing = forward_golden(model, torch.randint(0, config["vocab_size"], [2, 12], generator=generator))
        margin, changed = min(m for m, _ in routing), max(c for _, c in routing)
        if margin > LEAST_MARGIN and changed > 0.1:
            break
    else:
        raise SystemExit(f"{name}: no seed with clear routing")
    if layout == "current-null-head-dim":  # written after the pass: transformers cannot load a head_dim of null
        write_checkpoint(folder, written | {"head_dim": None}, state, shards)
    save_file({key: value.contiguous() for key, value in golden.items()}, folder + "/golden.safetensors")
    spread = golden["log_probabilities"].std(-1).mean().item()
    print(json.dumps({"forward": name, "attempt": attempt, "least_routing_margin": round(margin, 6),
                      "choices_changed_by_bias": round(changed, 2), "log_probability_spread": round(spread, 2),
                      "hidden_rms": round(golden[f"hidden.{config['num_hidden_layers']}"].pow(2).mean().sqrt().item(), 2)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--only", choices=["forward"])
    args = parser.parse_args()
    print(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__}))
    if args.only in (None, "forward"):
        for name, case in FORWARD_CASES.items():
            make_forward(os.path.join(args.out, "forward", name), name, *case)


if __name__ == "__main__":
    main()
