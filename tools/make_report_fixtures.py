#!/usr/bin/env python3
"""fixtures/report: the record of an invented run, and what a report must say of it, computed here by itself.

usage: tools/make_report_fixtures.py                        writes fixtures/report/{choices.jsonl,expected.json}
       tools/make_report_fixtures.py --journal L E > FILE   the record of L layers of E experts, to look at its page
"""
import json
import math
import random
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "fixtures/report"
GROUP = 32
GRID = [point / 18 for point in range(19)]


def journal(layers, experts, tokens, per_token, odd_names=False):
    rng = random.Random(1)
    yield {"data": {"path": "chats & <more>.jsonl" if odd_names else "chats.jsonl", "samples": 64, "sequences": 61,
                    "tokens": tokens, "shuffle_seed": None}}
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        mlp = prefix + "mlp."
        dense = layer == 0
        if not dense:
            yield {"layer": layer, "routing": routing(rng, layer, experts, tokens, per_token)}
        for producer in ["input_layernorm", "self_attn.v_proj", "post_attention_layernorm"]:
            yield smoothing(rng, layer, prefix + producer, tokens)
        for name in "qkvo":
            yield linear(rng, layer, layers, f"{prefix}self_attn.{name}_proj")
        yield {"layer": layer, "linear": prefix + "input_layernorm.weight", "fate": "rescaled"}
        units = ["mlp."] if dense else ["mlp.shared_experts."] + [f"mlp.experts.{e}." for e in range(experts)]
        for unit in units:
            yield smoothing(rng, layer, prefix + unit + "up_proj", tokens)
            for name in ["gate", "up", "down"]:
                yield linear(rng, layer, layers, f"{prefix}{unit}{name}_proj")
    if odd_names:
        # Names are whatever a checkpoint says.
        name = "model.layers.1.<script>alert(\"1\")</script>&'\u202e.q_proj"
        yield {"layer": 1, "linear": name, "fate": "packed", "error": 9.0, "error_nearest": 12.0, "signal": 10.0}
        # Neither measured nor a router's: what --rounding nearest writes, and a Linear whose output is always 0.
        yield {"layer": 2, "linear": "model.layers.2.mlp.experts.0.extra_proj", "fate": "packed"}
        yield {"layer": 2, "linear": "model.layers.2.mlp.experts.1.extra_proj", "fate": "packed", "error": 0.0,
               "error_nearest": 0.0, "signal": 0.0}


def routing(rng, layer, experts, tokens, per_token):
    weights = [rng.lognormvariate(0, 0.9) for _ in range(experts)]
    for expert in rng.sample(range(experts), experts // 12):
        weights[expert] = 0.0 if layer % 3 == 1 else weights[expert] * 0.02
    total = sum(weights)
    counts = [int(tokens * per_token * weight / total) for weight in weights]
    counts[counts.index(max(counts))] += tokens * per_token - sum(counts)
    return counts


def smoothing(rng, layer, producer, tokens):
    point = min(18, max(0, round(rng.gauss(6, 2))))
    identity = rng.random() < 0.03
    before = rng.uniform(0.1, 9)
    return {"layer": layer, "smoothing": producer, "consumers": 3, "grid_point": 0 if identity else point + 1,
            "ratio": 0.0 if identity else GRID[point], "duo_scaling": not identity, "loss_before": before,
            "loss_after": before if identity else before * rng.uniform(0.2, 0.9), "tokens": tokens, "routed_tokens": None}


def linear(rng, layer, layers, name):
    nearest = 0.006 * (1 + 1.5 * layer / layers) * rng.lognormvariate(0, 0.25) * (1.6 if "down" in name else 1)
    signal = rng.lognormvariate(1, 1)
    won = rng.choices(range(3), [1, 2, 7], k=64)
    return {"layer": layer, "linear": name, "fate": "packed", "rounding": "compensated",
            "error": nearest * signal * rng.uniform(0.3, 0.6), "error_nearest": nearest * signal, "signal": signal,
            "dampening": 0.005,
            "rows": {"nearest": won.count(0), "clipped": won.count(1), "compensated": won.count(2)}}


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values) if values else None


def errors(lines):
    known = [line for line in lines if line.get("signal")]
    nearest = mean(line["error_nearest"] / line["signal"] for line in known)
    chosen = mean(line["error"] / line["signal"] for line in known)
    return {"count": len(lines), "measured": len(known), "relative_error_nearest": nearest, "relative_error": chosen,
            "error_left": chosen / nearest if known else None}


def smoothings(lines):
    exponents = [line["ratio"] for line in lines]
    return {"count": len(lines), "error_left": mean(line["loss_after"] / line["loss_before"] for line in lines),
            "unscaled": sum(line["ratio"] == 0 and not line["duo_scaling"] for line in lines),
            "mean_exponent": mean(exponents),
            "exponents": [{"exponent": each, "count": exponents.count(each)} for each in sorted(set(exponents))]}


def balance(line):
    counts = line["routing"]
    total, experts = sum(counts), len(counts)
    even = total / experts
    entropy = -math.fsum(c / total * math.log(c / total) for c in counts if c)
    deviation = math.sqrt(math.fsum((c - even) ** 2 for c in counts) / experts)
    return {"layer": line["layer"], "even_share": even, "effective_experts": math.exp(entropy),
            "coefficient_of_variation": deviation / even, "busiest_even_shares": max(counts) / even,
            "thin_limit": max(GROUP, even / 10),
            "thin": [e for e, c in enumerate(counts) if c < GROUP or c < even / 10],
            "unrouted": [e for e, c in enumerate(counts) if c == 0], "tokens": counts}


def kind(name):
    """Behind the layer's number, without further numbers."""
    return ".".join(part for part in name.split(".")[3:] if not part.isdecimal())


def expected(lines):
    packed = [line for line in lines if line.get("fate") == "packed"]
    smoothed = [line for line in lines if "smoothing" in line]
    kinds = list(dict.fromkeys(kind(line["linear"]) for line in packed))
    producers = list(dict.fromkeys(kind(line["smoothing"]) for line in smoothed))
    worst = sorted((line for line in packed if line.get("signal")), key=lambda line: -line["error"] / line["signal"])
    return {
        "linears": errors(packed), "smoothings": smoothings(smoothed),
        "rescaled_tensors": sum(line.get("fate") == "rescaled" for line in lines),
        "by_layer": [{"layer": layer, "linears": errors([line for line in packed if line["layer"] == layer]),
                      "smoothings": smoothings([line for line in smoothed if line["layer"] == layer])}
                     for layer in sorted({line["layer"] for line in packed})],
        "by_kind": [{"kind": each} | errors([line for line in packed if kind(line["linear"]) == each])
                    for each in kinds],
        "by_smoothing": [{"kind": each} | smoothings([line for line in smoothed if kind(line["smoothing"]) == each])
                         for each in producers],
        "routing": [balance(line) for line in lines if "routing" in line],
        "worst_linears": [line["linear"] for line in worst[:20]],
    }


def main():
    if sys.argv[1:2] == ["--journal"] and len(sys.argv) == 4:
        for line in journal(int(sys.argv[2]), int(sys.argv[3]), 1_048_576, 8):
            print(json.dumps(line))
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        FOLDER.mkdir(exist_ok=True)
        lines = list(journal(4, 12, 600, 2, odd_names=True))
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (FOLDER / "choices.jsonl").write_text(text, encoding="utf-8")
        (FOLDER / "expected.json").write_text(json.dumps(expected(lines), indent=1, ensure_ascii=False) + "\n",
                                              encoding="utf-8")


if __name__ == "__main__":
    main()
