#!/usr/bin/env python3
"""How good is a checkpoint beside the peer's? Runs kl.py on all of them and divides.

usage: judge.py KL.py MODEL EVAL.jsonl --awq PEER_AWQ_OUT --rtn PEER_RTN_OUT SLUICE_OUT... [--sequences 64] [--length 128]

Prints kl.py's lines, then for every SLUICE_OUT its mean KL to MODEL divided by that of the peer's AWQ and of the peer's
plain rounding (less than 1 is better). Exit 1 if one is not better than the peer's AWQ.
"""
import argparse
import json
import subprocess
import sys


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kl"), parser.add_argument("model"), parser.add_argument("eval"), parser.add_argument("ours", nargs="+")
    parser.add_argument("--awq", required=True), parser.add_argument("--rtn", required=True)
    parser.add_argument("--sequences", default="64"), parser.add_argument("--length", default="128")
    args = parser.parse_intermixed_args()
    run = subprocess.run([sys.executable, args.kl, args.model, args.eval, args.awq, args.rtn, *args.ours,
                          "--sequences", args.sequences, "--length", args.length], stdout=subprocess.PIPE, text=True, check=True)
    print(run.stdout, end="")
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    _, awq, rtn, *ours = lines
    for line in ours:
        print(json.dumps({"model": line["model"], "kl_to_peer_awq": round(line["kl_mean"] / awq["kl_mean"], 3),
                          "kl_to_peer_rtn": round(line["kl_mean"] / rtn["kl_mean"], 3)}))
    sys.exit(1 if any(line["kl_mean"] >= awq["kl_mean"] for line in ours) else 0)


if __name__ == "__main__":
    main()
