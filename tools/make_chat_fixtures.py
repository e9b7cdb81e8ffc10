#!/usr/bin/env python3
"""Chats in ultrachat_200k's columns, and digests of the token ids that transformers makes of them.

usage: make_chat_fixtures.py MODEL CHATS.jsonl OUT

OUT/ultrachat.parquet holds every chat. OUT/digests.jsonl says of every row how many ids it gives by MODEL's chat
template and tokenizer, nothing added and nothing cut, and their FNV-1a-64, each id taken as four bytes, the lowest
first. OUT/ultrachat-<codec>-<page>-<encoding>.parquet are the first chats in every form that pyarrow writes, and
OUT/ultrachat-datasets.parquet the same by `datasets`. A second run gives the same bytes.
"""
import argparse
import json
import os
import struct

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import transformers
from transformers import AutoTokenizer

from make_dataset_fixtures import CODECS, PAGES, delta_encodings
from make_ids import row_ids

FIRST = 24
SCHEMA = pa.schema([
    ("prompt", pa.string()), ("prompt_id", pa.string()),
    ("messages", pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())])))])


def read_chats(path):
    """As ultrachat_200k has them: the prompt is what the user says first."""
    with open(path, encoding="utf-8") as file:
        chats = [json.loads(line) for line in file]
    return pa.Table.from_pylist([
        {"prompt": next(m["content"] for m in chat["messages"] if m["role"] == "user"),
         "prompt_id": chat["prompt_id"], "messages": chat["messages"]} for chat in chats], schema=SCHEMA)


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def write_digests(path, tokenizer, rows):
    total = 0
    with open(path, "w", encoding="utf-8") as file:
        for index, row in enumerate(rows):
            ids = row_ids(tokenizer, row)
            digest = fnv1a(struct.pack(f"<{len(ids)}i", *ids))
            file.write(json.dumps({"row": index, "tokens": len(ids), "fnv1a": f"{digest:016x}"}) + "\n")
            total += len(ids)
    return total


def write_forms(out, table):
    """Every codec with both versions of pages and every encoding; pages of a few chats."""
    for codec in CODECS:
        texts_as = "DELTA_BYTE_ARRAY" if codec in ("zstd", "none") else "DELTA_LENGTH_BYTE_ARRAY"
        encodings = {"dictionary": {}, "plain": {"use_dictionary": False},
                     "delta": {"use_dictionary": False, "column_encoding": delta_encodings(table, texts_as)}}
        for version, number in PAGES.items():
            for encoding, options in encodings.items():
                pq.write_table(table, os.path.join(out, f"ultrachat-{codec}-{version}-{encoding}.parquet"),
                               compression=CODECS[codec], data_page_version=number, data_page_size=4096,
                               write_batch_size=8, **options)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model"), parser.add_argument("chats"), parser.add_argument("out")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    datasets.disable_progress_bars()
    print(f"transformers {transformers.__version__}, pyarrow {pa.__version__}, datasets {datasets.__version__}")
    table = read_chats(args.chats)
    pq.write_table(table, os.path.join(args.out, "ultrachat.parquet"), compression="zstd", row_group_size=200)
    tokens = write_digests(os.path.join(args.out, "digests.jsonl"), AutoTokenizer.from_pretrained(args.model),
                           table.to_pylist())
    first = table.slice(0, FIRST)
    write_forms(args.out, first)
    datasets.Dataset.from_list(first.to_pylist()).to_parquet(
        os.path.join(args.out, "ultrachat-datasets.parquet"), batch_size=10)
    print(json.dumps({"chats": len(table), "tokens": tokens}))


if __name__ == "__main__":
    main()
