#!/usr/bin/env python3
"""Writes fixtures/evaluation.json: likelihood and divergence of the peer's rounded checkpoints, by transformers in float32.

usage: make_evaluation_fixture.py FIXTURES

FIXTURES/rtn/bf16 holds a bf16 checkpoint and llm-compressor's rounding of it in four schemes. Their packed weights are
unpacked here, by this file's own reading of the format, and run over random ids (seed 7) in sequences of several
lengths. The golden holds the ids, and for each checkpoint every position's negative log-likelihood of the next id and
every position's KL from the bf16 checkpoint, in order, six significant digits each.
"""
import json
import os
import shutil
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

from fixture_models import load_float32

SCHEMES = ["W4A16", "W4A16-G32", "W4A16_ASYM", "W8A16"]
LENGTHS = [300, 17, 64, 2, 150]


def codes(words, bits):
    """[rows, words] int32 to [rows, words * 32 / bits] codes, the lowest bits first."""
    shifts = torch.arange(0, 32, bits)
    return (words.long().unsqueeze(-1) >> shifts & (1 << bits) - 1).flatten(1)


def plain(tensors):
    """Every tensor in float32: weight = (code - zero point) * scale."""
    state = {}
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        if kind == "weight_packed":
            rows, columns = tensors[module + ".weight_shape"].tolist()
            scale = tensors[module + ".weight_scale"].double()
            bits = 32 * tensor.shape[1] // columns
            zero = torch.full_like(scale, 1 << bits - 1)
            if module + ".weight_zero_point" in tensors:
                zero = codes(tensors[module + ".weight_zero_point"].T, bits).T[:rows].double()
            group = columns // scale.shape[1]
            wide = [part.repeat_interleave(group, 1) for part in (zero, scale)]
            state[module + ".weight"] = ((codes(tensor, bits) - wide[0]) * wide[1]).float()
        elif not kind.startswith("weight_"):
            state[name] = tensor.float()
    return state


def log_probabilities(source, folder, sequences):
    """Of every position of every sequence, [positions, vocabulary] in float64."""
    tensors = {}
    for file in sorted(os.listdir(folder)):
        if file.endswith(".safetensors"):
            tensors.update(load_file(f"{folder}/{file}"))
    with tempfile.TemporaryDirectory() as made:
        shutil.copy(source + "/config.json", made)
        save_file(plain(tensors), made + "/model.safetensors", metadata={"format": "pt"})
        model = load_float32(made)
        with torch.no_grad():
            return [torch.log_softmax(model(input_ids=ids[None]).logits[0].double(), -1) for ids in sequences]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    root = sys.argv[1] + "/rtn/bf16"
    torch.set_num_threads(1)
    vocabulary = json.load(open(root + "/source/config.json"))["vocab_size"]
    generator = torch.Generator().manual_seed(7)
    sequences = [torch.randint(vocabulary, (length,), generator=generator) for length in LENGTHS]
    short = lambda values: [float(f"{value:.6g}") for value in values]
    wanted = log_probabilities(root + "/source", root + "/source", sequences)
    golden = {"input_ids": [ids.tolist() for ids in sequences], "checkpoints": {}}
    for name in ["source"] + SCHEMES:
        got = log_probabilities(root + "/source", f"{root}/{name}", sequences)
        nll = [-found[:-1].gather(1, ids[1:, None])[:, 0] for found, ids in zip(got, sequences)]
        kl = [(want.exp() * (want - found)).sum(-1) for want, found in zip(wanted, got)]
        golden["checkpoints"][name] = {
            "nll": short(torch.cat(nll).tolist()), "kl": short(torch.cat(kl).tolist()),
            "choices": torch.cat(got).argmax(-1).tolist()}
        print(json.dumps({"checkpoint": name, "nll": torch.cat(nll).mean().item(), "kl_mean": torch.cat(kl).mean().item()}))
    with open(sys.argv[1] + "/evaluation.json", "w") as file:
        json.dump(golden, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
