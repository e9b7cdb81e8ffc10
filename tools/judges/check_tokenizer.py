#!/usr/bin/env python3
"""Our ids beside those of the `tokenizers` package: random Unicode, and texts of your own; prints the speed of both.

usage: check_tokenizer.py TOKENIZER.json [--texts FILE...] [--random N] [--seed S] [--scalars]

FILE is plain text, or JSON lines with "text" or "messages". --scalars adds every scalar of Unicode in three
neighbourhoods. Runs `swift test -c release --filter CheckTests` and exits as it does: not 0 on the first difference.

pip install tokenizers==0.23.3
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fixtures"))
from random_texts import SCALARS, random_texts


def every_scalar():
    for around in ("{}", "a{}", "{}1 "):
        for start in range(0, len(SCALARS), 4096):
            yield "".join(around.format(c) for c in SCALARS[start:start + 4096])


def file_texts(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        if not path.endswith(".jsonl"):
            yield file.read()
            return
        for line in file:
            row = json.loads(line)
            yield from [row["text"]] if "text" in row else [message["content"] for message in row["messages"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer"), parser.add_argument("--texts", nargs="*", default=[])
    parser.add_argument("--random", type=int, default=2000), parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scalars", action="store_true")
    args = parser.parse_args()

    start = time.perf_counter()
    tokenizer = Tokenizer.from_file(args.tokenizer)
    loaded = time.perf_counter() - start
    tokenizer.no_truncation(), tokenizer.no_padding()
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    texts = list(random_texts(args.random, args.seed, added)) + (list(every_scalar()) if args.scalars else [])
    for path in args.texts:
        texts += file_texts(path)
    start = time.perf_counter()
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    seconds = time.perf_counter() - start
    size = sum(len(text.encode()) for text in texts)
    check = {"tokenizer": os.path.abspath(args.tokenizer), "texts": texts, "ids": ids,
             "special": [tokenizer.encode(text, add_special_tokens=True).ids for text in texts],
             "decoded": [tokenizer.decode(found, skip_special_tokens=False) for found in ids]}
    print(f"package: loaded in {loaded} seconds, {size} bytes encoded in {seconds} seconds", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "check.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(check, file, ensure_ascii=False)
        command = ["swift", "test", "-c", "release", "--filter", "CheckTests"]
        raise SystemExit(subprocess.call(command, env=os.environ | {"SLUICE_TOKENIZER_CHECK": path}))


if __name__ == "__main__":
    main()
