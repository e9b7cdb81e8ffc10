#!/usr/bin/env python3
"""Are two pack-quantized checkpoints the same rounding of the same weights?

usage: compare_rtn.py PEER_OUT SLUICE_OUT [--share 0.01]

Scales must be equal to the bit, zero points equal, and every tensor that is not packed equal byte for byte. Codes may
differ by one in less than SHARE of them: on a CPU the peer rounds the quotient weight/scale to the weight's type before
it rounds to a code (for bf16 that moves about 0.6 % of 4-bit codes at group 128, 1.1 % at group 32, 10 % of 8-bit codes).
Prints every packed tensor that differs, and a summary as JSON. Exit 1 if the two are not the same.
"""
import argparse
import glob
import json
import os
import sys

import torch
from safetensors.torch import load_file

torch.set_num_threads(1)


def load(folder):
    stored = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        stored.update(load_file(path))
    with open(os.path.join(folder, "config.json")) as file:
        groups = json.load(file)["quantization_config"]["config_groups"].values()
    (bits,) = {group["weights"]["num_bits"] for group in groups}
    if 32 % bits:
        sys.exit(f"{folder}: codes of {bits} bits straddle words")
    return stored, bits


def unpacked(words, bits, columns):
    """Codes [rows, columns], as stored: without their sign."""
    shifts = torch.arange(32 // bits) * bits
    return ((words.unsqueeze(-1) >> shifts) & ((1 << bits) - 1)).flatten(1)[:, :columns]


def same_bytes(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer"), parser.add_argument("ours")
    parser.add_argument("--share", type=float, default=0.01)
    args = parser.parse_args()
    (peer, bits), (ours, our_bits) = load(args.peer), load(args.ours)
    if bits != our_bits or peer.keys() != ours.keys():
        sys.exit(f"bits {bits} and {our_bits}; tensors in one only: {sorted(peer.keys() ^ ours.keys())[:10]}")

    unequal = {"scales": 0, "zero_points": 0, "shapes": 0, "other": 0}
    codes = differing = by_more_than_one = 0
    for name in sorted(peer):
        if not name.endswith(".weight_packed"):
            kind = {"weight_scale": "scales", "weight_zero_point": "zero_points", "weight_shape": "shapes"}.get(name.rsplit(".")[-1], "other")
            if not same_bytes(peer[name], ours[name]):
                unequal[kind] += 1
                print(f"{name}: not equal")
            continue
        columns = int(peer[name.replace("_packed", "_shape")][1])
        gap = (unpacked(peer[name], bits, columns) - unpacked(ours[name], bits, columns)).abs()
        here = int((gap > 0).sum())
        if here:
            print(f"{name}: {here} of {gap.numel()} codes differ ({here / gap.numel():.3%}), by {int(gap.max())} at most")
        codes, differing, by_more_than_one = codes + gap.numel(), differing + here, by_more_than_one + int((gap > 1).sum())
    print(json.dumps({"codes": codes, "differing": differing, "share": round(differing / max(codes, 1), 6),
                      "differing_by_more_than_one": by_more_than_one, "unequal_tensors": unequal}))
    sys.exit(1 if any(unequal.values()) or by_more_than_one or differing >= args.share * codes else 0)


if __name__ == "__main__":
    main()
