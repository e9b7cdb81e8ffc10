#!/usr/bin/env python3
"""Is one quantized checkpoint laid out as the other? Numbers are not looked at, only names, types, shapes and config.json.

usage: compare_layout.py PEER_OUT SLUICE_OUT

Prints every difference: tensors (name, dtype, shape), config.json (recursively; quantization_config.ignore as a set),
the index (every tensor where it says, totals as the tensors make them). A different version string in
quantization_config and different file names are reported and tolerated. Exit 1 on any other difference.
"""
import argparse
import json
import math
import os
import struct
import sys

BUFFERS = ".e_score_correction_bias"  # stored, but not counted by transformers as a parameter


def header(path):
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        entries = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    return entries


def read_json(path):
    with open(path) as file:
        return json.load(file)


def tensors(folder, differ):
    """Name -> (dtype, shape) of the whole checkpoint; what its index says wrongly goes to `differ`."""
    found, where, size = {}, {}, 0
    for path in sorted(p for p in os.listdir(folder) if p.endswith(".safetensors")):
        for name, entry in header(os.path.join(folder, path)).items():
            if name in found:
                differ(f"{folder}: {name} is in {where[name]} and in {path}")
            found[name], where[name] = (entry["dtype"], entry["shape"]), path
            size += entry["data_offsets"][1] - entry["data_offsets"][0]
    index_path = os.path.join(folder, "model.safetensors.index.json")
    if os.path.exists(index_path):
        index = read_json(index_path)
        compare("weight_map", where, index["weight_map"], differ)
        parameters = sum(math.prod(shape) for name, (_, shape) in found.items() if not name.endswith(BUFFERS))
        totals = {"total_size": size, "total_parameters": parameters}
        for key, value in index.get("metadata", {}).items():
            if value != totals.get(key):
                differ(f"{folder}: index metadata {key} is {value}, the tensors make {totals.get(key)}")
        if "total_size" not in index.get("metadata", {}):
            differ(f"{folder}: index metadata has no total_size")
    elif set(where.values()) != {"model.safetensors"}:
        differ(f"{folder}: several files and no index")
    return found


def compare(at, peer, ours, differ):
    if at == "config.quantization_config.ignore" and isinstance(peer, list) and isinstance(ours, list):
        peer, ours = dict.fromkeys(peer, "ignored"), dict.fromkeys(ours, "ignored")
    if isinstance(peer, dict) and isinstance(ours, dict):
        for key in sorted(peer.keys() | ours.keys()):
            place = f"{at}.{key}" if at else key
            if key not in ours:
                differ(f"{place}: only in the peer's ({peer[key]!r})")
            elif key not in peer:
                differ(f"{place}: only in ours ({ours[key]!r})")
            else:
                compare(place, peer[key], ours[key], differ)
    elif type(peer) is not type(ours) or peer != ours:
        differ(f"{at}: peer {peer!r}, ours {ours!r}", tolerated=at == "config.quantization_config.version")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer"), parser.add_argument("ours")
    args = parser.parse_args()
    differences = []

    def differ(message, tolerated=False):
        print(message + (" (tolerated)" if tolerated else ""))
        if not tolerated:
            differences.append(message)

    peer, ours = tensors(args.peer, differ), tensors(args.ours, differ)
    compare("", peer, ours, differ)
    compare("config", *(read_json(os.path.join(folder, "config.json")) for folder in (args.peer, args.ours)), differ)
    weights = ".safetensors", ".safetensors.index.json"
    files = [{p for p in os.listdir(f) if not p.endswith(weights) and not p.startswith(".")} for f in (args.peer, args.ours)]
    for path in sorted(files[0] ^ files[1]):
        differ(f"file {path}: only in {'the peer folder' if path in files[0] else 'our folder'}", tolerated=True)
    print(json.dumps({"peer_tensors": len(peer), "our_tensors": len(ours), "differences": len(differences)}))
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
