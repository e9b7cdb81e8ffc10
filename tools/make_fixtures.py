#!/usr/bin/env python3
"""Writes the goldens of fixtures/: small random checkpoints and what transformers and llm-compressor make of them.

usage: make_fixtures.py OUT [--only forward|awq|rtn|gptq|model] [--model MODEL --chats CHATS.jsonl]

--model is a checkpoint to copy as it is, and --chats has rows with "messages" of which its tokenizer makes calibration
ids; both are needed for the last part only. Every weight comes from a seed derived from the case's name, so that a
second run writes the same checkpoints. The versions used are printed as JSON. See fixtures/README.md for what each
folder holds.
"""
import argparse
import importlib.metadata
import json
import multiprocessing
import os
import shutil
import zlib

import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.utils import calculate_qparams
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.modifiers.transform.awq.mappings import AWQMapping
from llmcompressor.utils import load_context
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

import family_goldens
from fixture_models import (base_config, current_layout, load_float32, published_layout, random_state, shapes, stored,
                            write_checkpoint, write_json)
from make_ids import truncated_rows, write_rows

torch.set_num_threads(1)


def seeded(name, attempt=0):
    return torch.Generator().manual_seed(zlib.crc32(name.encode()) + attempt)


def in_fresh_process(function, *arguments):
    """The peer changes how transformers loads experts, for the rest of the process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


# --- forward: a forward pass of every kind of GLM-4 MoE ---------------------------------------------------------------

FORWARD_CASES = {
    # name: (layout, dtype, shards, extra tensors of a multi-token-prediction layer, hyperparameters)
    "published-qk-norm": ("published", "float32", 1, False, dict(
        hidden_size=32, num_hidden_layers=3, use_qk_norm=True, attention_bias=True, routed_scaling_factor=2.5, rope_theta=1000000)),
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


# --- awq: the smoothing scales that the peer's grid search picks ------------------------------------------------------

AWQ_CASES = {
    "moe-only": ("current", dict(first_k_dense_replace=0, num_key_value_heads=2, use_qk_norm=True, attention_bias=True)),
    "dense-first": ("published", dict(first_k_dense_replace=1, num_key_value_heads=4, n_shared_experts=2, routed_scaling_factor=1.5)),
}
AWQ_SIZES = dict(hidden_size=64, moe_intermediate_size=64, intermediate_size=64, n_routed_experts=4)
AWQ_WEIGHTS = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}


def uneven(state, generator):
    """Outlier channels in norms (8 to 20 times) and, of a different severity in each, in v_proj and up_proj rows."""
    def at_unit_gain(tensor, factors):
        scaled = tensor * factors.view(-1, *[1] * (tensor.dim() - 1))
        return scaled * (tensor.pow(2).mean() / scaled.pow(2).mean()).sqrt()

    for name in sorted(state):
        rows = len(state[name])
        if name.endswith("layernorm.weight"):
            factors = torch.ones(rows)
            factors[torch.randperm(rows, generator=generator)[:5]] = 8 + 12 * torch.rand(5, generator=generator)
            state[name] = at_unit_gain(state[name], factors)
        elif name.endswith(("v_proj.weight", "up_proj.weight")):
            severity = 1.5 * torch.rand([], generator=generator)
            state[name] = at_unit_gain(state[name], (severity * torch.randn(rows, generator=generator)).exp())
    return state


@torch.no_grad()
def producer_consumers(folder, state, rows):
    """Consumer -> its input of all tokens [T, in]: o_proj and, with every token through every expert, each down_proj."""
    model, seen = load_float32(folder), {}
    keep = lambda name: lambda _, args: seen.setdefault(name, []).append(args[0][0])
    for index, layer in enumerate(model.model.layers):
        if hasattr(layer.mlp, "gate"):
            layer.mlp.register_forward_pre_hook(keep(f"model.layers.{index}.mlp."))
            layer.self_attn.o_proj.register_forward_pre_hook(keep(f"model.layers.{index}.self_attn.o_proj.weight"))
    for row in rows:
        model(input_ids=torch.tensor([row]))
    inputs = {name: torch.cat(parts) for name, parts in seen.items()}
    for name in [n for n in state if n.endswith("down_proj.weight")]:
        block = name.removesuffix("down_proj.weight")
        hidden = inputs.get(block.split("mlp.")[0] + "mlp.")
        if hidden is not None:
            gate, up = (hidden @ state[block + f"{x}_proj.weight"].T for x in ("gate", "up"))
            inputs[name] = torch.nn.functional.silu(gate) * up
    return {name: x for name, x in inputs.items() if name.endswith(".weight")}


def settle_ties(state, inputs):
    """Makes the largest weight of every group positive under every grid point's scales; returns how many signs changed.

    -absmax divided by absmax/7.5 is -7.5: whether it becomes -7 or -8 depends on the last bit of everything before it,
    and moves losses by several percent. +7.5 is 7 in any case, so losses are well defined to about 1e-5.
    """
    changed = 0
    group = AWQ_WEIGHTS["group_size"]
    for name, x in inputs.items():
        weight = state[name]
        magnitude = weight.abs().view(len(weight), -1, group)
        w_mean = (magnitude / (magnitude.amax(-1, keepdim=True) + 1e-6)).view_as(weight).double().mean(0)
        x_mean = x.abs().double().mean(0)
        candidates = [x_mean ** (i / 18) / (w_mean ** (1 - i / 18) + 1e-4) for i in range(19)]
        for scales in [torch.ones_like(x_mean)] + candidates:
            groups = (weight * scales).view(len(weight), -1, group)
            largest = groups.abs().argmax(-1, keepdim=True)
            negative = groups.gather(-1, largest) < 0
            changed += int(negative.sum())
            signs = torch.ones_like(groups).scatter(-1, largest, torch.where(negative, -1.0, 1.0).to(groups.dtype))
            weight = weight * signs.view_as(weight).float()
        state[name] = weight
    return changed


def awq_mappings(config):
    """Every consumer of every smoothed tensor, in the layers with experts only."""
    layers = "|".join(str(i) for i in range(config["first_k_dense_replace"], config["num_hidden_layers"]))
    at = rf"re:.*layers\.({layers})\."
    return [
        AWQMapping(at + "input_layernorm$", [at + f"self_attn.{x}_proj$" for x in "qkv"]),
        AWQMapping(at + "self_attn.v_proj$", [at + "self_attn.o_proj$"]),
        AWQMapping(at + "post_attention_layernorm$", [at + "mlp.gate$"] + [
            at + f"mlp.{block}.{x}_proj$" for block in ("experts.*", "shared_experts") for x in ("gate", "up")]),
        AWQMapping(at + "mlp.*up_proj$", [at + "mlp.*down_proj$"]),
    ]


class RecordingAWQ(AWQModifier):
    """The peer's AWQ, unchanged, that keeps the loss of every grid point and the scales it settled on."""

    def _compute_best_scale(self, mapping, *args):
        RECORDED.append({"smooth": mapping.smooth_name, "balance": mapping.balance_names, "errors": []})
        scales = super()._compute_best_scale(mapping, *args)
        record, metrics = RECORDED[-1], self._error_metrics[-1]
        best = record["errors"].index(min(record["errors"]))  # strictly less wins in the peer: the first of equals
        ratio, duo = self._get_grid_search_params()[best]
        record.update(grid_index=best, ratio=ratio, duo=duo, initial_error=metrics["initial_error"],
                      best_error=metrics["best_error"], scales=scales)
        assert metrics["best_error"] == record["errors"][best] and metrics["initial_error"] == record["errors"][0]
        return scales

    def _compute_loss(self, *args):
        RECORDED[-1]["errors"].append(super()._compute_loss(*args))
        return RECORDED[-1]["errors"][-1]


RECORDED = []


LEAST_ADVANTAGE = 1.005  # the second best loss of a search over the best, where one Linear is searched


def make_awq(folder, name, layout, changes):
    for attempt in range(50):
        records = in_fresh_process(search_awq, folder, name, attempt, layout, base_config(**AWQ_SIZES, **changes))
        advantage = min(sorted(r["errors"])[1] / r["best_error"] for r in records if len(r["balance"]) == 1)
        if advantage > LEAST_ADVANTAGE:
            break
    else:
        raise SystemExit(f"{name}: no seed with clear choices")
    save_file({r["smooth"] + ".smoothing_scale": r.pop("scales").float().contiguous() for r in records}, folder + "/golden.safetensors")
    write_json(folder + "/golden.json", records)
    print(json.dumps({"awq": name, "attempt": attempt, "least_advantage": round(advantage, 4),
                      "choices": {r["smooth"].removeprefix("model.layers."): r["grid_index"] for r in records}}))


def search_awq(folder, name, attempt, layout, config):
    """Writes the checkpoint and the calibration rows, runs the peer on them, returns its records."""
    generator = seeded("awq/" + name, attempt)
    state = uneven(random_state(shapes(config), generator), generator)
    written = (published_layout if layout == "published" else current_layout)(config, "float32")
    rows = [torch.randint(0, config["vocab_size"], [length], generator=generator).tolist() for length in (24, 9, 17, 12, 21, 10, 15, 23)]
    shutil.rmtree(folder, ignore_errors=True)
    while True:  # a sign changed in one layer moves the inputs of the next
        write_checkpoint(folder, written, state)
        if settle_ties(state, producer_consumers(folder, state, rows)) == 0:
            break
    write_rows(folder + "/calibration.jsonl", rows)

    with load_context():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert model.dtype == torch.float32
    dense = [rf"re:.*layers\.{i}\..*" for i in range(config["first_k_dense_replace"])]
    recipe = [RecordingAWQ(mappings=awq_mappings(config), offload_device=None),
              QuantizationModifier(config_groups={"group_0": {"targets": ["Linear"], "weights": AWQ_WEIGHTS}}, ignore=["lm_head"] + dense)]
    # The rows are ids already: any object passes for a processor. Not shuffled, one row a batch: nothing is cut or padded.
    oneshot(model=model, processor=object(), dataset=Dataset.from_dict({"input_ids": rows, "attention_mask": [[1] * len(r) for r in rows]}),
            recipe=recipe, max_seq_length=max(map(len, rows)), num_calibration_samples=len(rows), shuffle_calibration_samples=False)
    return RECORDED


# --- rtn: plain rounding by the peer ----------------------------------------------------------------------------------

RTN_SCHEMES = {
    "W4A16": {"scheme": "W4A16", "targets": "Linear"},
    "W4A16-G32": {"config_groups": {"group_0": {"targets": ["Linear"], "weights": AWQ_WEIGHTS}}},
    "W4A16_ASYM": {"scheme": "W4A16_ASYM", "targets": "Linear"},
    "W8A16": {"scheme": "W8A16", "targets": "Linear"},
}


def make_rtn(folder, name):
    """A bf16 checkpoint with the groups that go wrong first, and the peer's rounding of it in every scheme."""
    config = base_config(hidden_size=128, moe_intermediate_size=128, intermediate_size=128, n_routed_experts=4, head_dim=64,
                         num_attention_heads=2, num_key_value_heads=1, vocab_size=32)
    state = random_state(shapes(config), seeded("rtn/" + name))
    expert = "model.layers.1.mlp.experts.{}_proj.weight".format
    state[expert("0.gate")][3] = 0  # a whole group of 128
    state[expert("0.up")][5, 32:64] = 0  # a group of 32 only
    state[expert("1.down")][7, 11] = 300.0  # one outlier that leaves the rest of its row nothing
    state[expert("2.up")][9].abs_()  # a zero point at the end of its range
    state[expert("2.up")][10].abs_().neg_()
    state[expert("3.down")][2] *= 1e-30  # tiny, but not zero
    shutil.rmtree(folder, ignore_errors=True)
    write_checkpoint(folder + "/source", published_layout(config, "bfloat16"), stored(state, "bfloat16"), shards=4)
    for scheme, options in RTN_SCHEMES.items():
        in_fresh_process(round_to_nearest, folder + "/source", f"{folder}/{scheme}", options)
        print(json.dumps({"rtn": name, "scheme": scheme, "bytes": os.path.getsize(f"{folder}/{scheme}/model.safetensors")}))


def round_to_nearest(source, out, options):
    with load_context():
        model = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
    oneshot(model=model, recipe=[QuantizationModifier(ignore=["lm_head"], **options)])
    model.save_pretrained(out, save_compressed=True)
    for path in set(os.listdir(out)) - {"config.json", "model.safetensors"}:
        os.remove(os.path.join(out, path))


# --- gptq: the peer's error-compensated rounding of one weight ----------------------------------------------------------


def make_gptq(folder):
    """A weight whose input has a few loud and many correlated channels, and what the peer's GPTQ makes of it."""
    os.makedirs(folder, exist_ok=True)
    for name, symmetric in [("symmetric", True), ("asymmetric", False)]:
        generator = seeded("gptq/" + name)
        rows, columns, tokens, group = 48, 160, 400, 32
        mix = torch.randn(columns, columns, generator=generator) * 0.4 + torch.eye(columns)
        x = torch.randn(tokens, columns, generator=generator) @ mix
        x *= torch.exp(torch.randn(columns, generator=generator))
        weight = torch.randn(rows, columns, generator=generator) * 0.05
        args = QuantizationArgs(num_bits=4, symmetric=symmetric, strategy="group", group_size=group, actorder="static")
        groups = weight.view(rows, -1, group)
        scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
        gram = x.T @ x / tokens
        result, _, fallback = quantize_weight(weight[None].clone(), gram[None].clone(), scale[None], zero[None], None, args,
                                              blocksize=128, percdamp=0.01)
        assert not fallback.any()
        save_file({"weight": weight, "gram": gram, "scale": scale.float(), "zero_point": zero.float(),
                   "result": result[0].contiguous()}, f"{folder}/{name}.safetensors")
        change = (result[0] - weight).double()
        print(json.dumps({"gptq": name, "error": (change @ gram.double() * change).sum().item()}))


# --- model: a small trained checkpoint and ids for it -----------------------------------------------------------------


def copy_model(out, model, chats):
    folder = os.path.join(out, os.path.basename(os.path.normpath(model)))
    os.makedirs(folder, exist_ok=True)
    for path in sorted(os.listdir(model)):
        shutil.copyfile(os.path.join(model, path), os.path.join(folder, path))
    rows = truncated_rows(folder, chats, samples=64, length=256)
    write_rows(os.path.join(out, "calibration.jsonl"), rows)
    print(json.dumps({"model": os.path.basename(folder), "rows": len(rows), "tokens": sum(map(len, rows))}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--only", choices=["forward", "awq", "rtn", "gptq", "model"])
    parser.add_argument("--model"), parser.add_argument("--chats")
    args = parser.parse_args()
    if args.only in (None, "model") and not (args.model and args.chats):
        parser.error("--model and --chats are needed (or --only another part)")
    versions = ("torch", "transformers", "safetensors", "llmcompressor", "compressed-tensors")
    print(json.dumps({name: importlib.metadata.version(name) for name in versions}))
    if args.only in (None, "forward"):
        for name, case in FORWARD_CASES.items():
            make_forward(os.path.join(args.out, "forward", name), name, *case)
        family_goldens.make_all(os.path.join(args.out, "forward"))
    if args.only in (None, "awq"):
        for name, case in AWQ_CASES.items():
            make_awq(os.path.join(args.out, "awq", name), name, *case)
    if args.only in (None, "rtn"):
        make_rtn(os.path.join(args.out, "rtn", "bf16"), "bf16")
    if args.only in (None, "gptq"):
        make_gptq(os.path.join(args.out, "gptq"))
    if args.only in (None, "model"):
        copy_model(args.out, args.model, args.chats)


if __name__ == "__main__":
    main()
