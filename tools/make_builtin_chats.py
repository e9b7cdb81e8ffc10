#!/usr/bin/env python3
"""Writes Sources/CBuiltinChats/chats.jsonl, the chats that calibrate a model when a run is given none.

usage: make_builtin_chats.py [--check] [--python-docs CHATS.jsonl]

Its parts, all in tools/builtin_chats: chats written by hand (*.md), makers of computed chats (gen_*.py), and a selection
of Python's docstrings (python-docs.jsonl, made anew out of CHATS.jsonl with --python-docs). The same parts give the same
bytes, with any Python from 3.10 on. With --check nothing is written: the file has to be what the parts give.
"""
import argparse
import collections
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = HERE / "builtin_chats"
OUTPUT = HERE.parent / "Sources/CBuiltinChats/chats.jsonl"
DOCS = PARTS / "python-docs.jsonl"
sys.path.insert(0, str(PARTS))
sys.dont_write_bytecode = True

import gen_code  # noqa: E402
import gen_math  # noqa: E402
import gen_text  # noqa: E402
import python_docs  # noqa: E402
from core import Random, parse_written  # noqa: E402

DOCS_BYTES = 130_000


def dump(value):
    return json.dumps(value, ensure_ascii=False)


def check(rows):
    seen = set()
    for row in rows:
        roles = [m["role"] for m in row["messages"]]
        turns = roles[1:] if roles[:1] == ["system"] else roles
        assert turns and turns == ["user", "assistant"] * (len(turns) // 2), row
        for message in row["messages"]:
            assert list(message) == ["role", "content"] and message["content"].strip(), row
            assert "\0" not in message["content"] and "\r" not in message["content"], row
            message["content"].encode()  # no lone surrogates
            assert message["content"].count("```") % 2 == 0, row
        key = dump(row["messages"])
        assert key not in seen, row
        seen.add(key)


def spread(items, random):
    """(place between 0 and 1, item): evenly, from a random first place on."""
    start = random.below(1 << 20) / (1 << 20)
    return [((index + start) / len(items), item) for index, item in enumerate(items)]


def variety(rows):
    """How many kinds and languages the first rows have: a run may use no more than those."""
    return sum(len({row[key] for row in rows[:first]}) for key in ("kind", "language") for first in (128, 256))


def interleave(rows):
    """The most varied beginning of some hundred orders."""
    return max((ordered(rows, seed) for seed in range(300)), key=variety)


def ordered(rows, seed):
    """Every stretch of rows has about the mixture of the whole: each kind is spread evenly, and its languages within."""
    random = Random(f"order {seed}")
    kinds = {}
    for row in rows:
        kinds.setdefault(row["kind"], {}).setdefault(row["language"], []).append(row)
    placed = []
    for kind in sorted(kinds):
        inner = []
        for language in sorted(kinds[kind]):
            inner += spread(random.shuffled(kinds[kind][language]), random)
        inner.sort(key=lambda pair: pair[0])
        placed += spread([row for _, row in inner], random)
    placed.sort(key=lambda pair: pair[0])
    return [row for _, row in placed]


def report(rows, lines):
    sizes = [len(line.encode()) for line in lines]
    for title, key in (("kind", lambda r: r["kind"].split("-")[0]), ("language", lambda r: r["language"])):
        count, size = collections.Counter(), collections.Counter()
        for row, length in zip(rows, sizes):
            count[key(row)] += 1
            size[key(row)] += length
        print(f"by {title}: " + ", ".join(f"{k} {count[k]} ({size[k] / 1000:.1f} kB)" for k in sorted(count, key=lambda k: -size[k])))
    for first in (128, 512):
        part = rows[:first]
        print(f"first {first}: {len({r['kind'] for r in part})} kinds, {len({r['language'] for r in part})} languages, {sum(sizes[:first]) / 1000:.1f} kB")
    ranked = sorted(sizes)
    print(f"rows: {len(rows)}, bytes: {sum(sizes)}, a row: {ranked[0]} to {ranked[-1]}, median {ranked[len(ranked) // 2]}, over 5 kB: {sum(s > 5000 for s in sizes)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python-docs", metavar="CHATS.jsonl")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.python_docs:
        chosen = python_docs.select(arguments.python_docs, DOCS_BYTES)
        DOCS.write_text("".join(dump(row) + "\n" for row in chosen), encoding="utf-8")
    rows = []
    for path in sorted(PARTS.glob("*.md")):
        rows += parse_written(path.read_text(encoding="utf-8"), path.name)
    for maker in (gen_math, gen_code, gen_text):
        rows += maker.make()
    rows += [json.loads(line) for line in DOCS.read_text(encoding="utf-8").splitlines()]
    check(rows)
    rows = interleave(rows)
    lines = [dump({"messages": row["messages"]}) + "\n" for row in rows]
    data = "".join(lines).encode()
    if arguments.check:
        if OUTPUT.read_bytes() != data:
            sys.exit(f"error: {OUTPUT.name} is not what its parts give; run tools/make_builtin_chats.py")
    else:
        OUTPUT.write_bytes(data)
    report(rows, lines)


if __name__ == "__main__":
    main()
