#!/usr/bin/env python3
"""Token ids as the peer's calibration and the judge of quality see them, one {"input_ids": [...]} a line.

usage: make_ids.py MODEL DATA.jsonl OUT.jsonl --samples N --length L [--concatenate]

Every row of DATA has "messages" (rendered by the model's chat template) or "text"; nothing is added to either. The
first N rows are truncated to L ids each. With --concatenate the rows are joined instead and cut into N sequences of L.
"""
import argparse
import json

from transformers import AutoTokenizer


def row_ids(tokenizer, row, **options):
    text = row.get("text") or tokenizer.apply_chat_template(row["messages"], tokenize=False)
    return tokenizer(text, add_special_tokens=False, **options).input_ids


def truncated_rows(model, path, samples, length):
    tokenizer = AutoTokenizer.from_pretrained(model)
    with open(path) as file:
        rows = [json.loads(line) for _, line in zip(range(samples), file)]
    return [row_ids(tokenizer, row, truncation=True, max_length=length) for row in rows]


def concatenated_rows(model, path, samples, length):
    tokenizer, ids = AutoTokenizer.from_pretrained(model), []
    with open(path) as file:
        for line in file:
            ids += row_ids(tokenizer, json.loads(line))
            if len(ids) >= samples * length:
                return [ids[i * length: (i + 1) * length] for i in range(samples)]
    raise SystemExit(f"{path}: {len(ids)} tokens, {samples} x {length} are needed")


def write_rows(path, rows):
    with open(path, "w") as file:
        file.writelines(json.dumps({"input_ids": row}) + "\n" for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model"), parser.add_argument("data"), parser.add_argument("out")
    parser.add_argument("--samples", type=int, required=True), parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--concatenate", action="store_true")
    args = parser.parse_args()
    make = concatenated_rows if args.concatenate else truncated_rows
    rows = make(args.model, args.data, args.samples, args.length)
    write_rows(args.out, rows)
    print(json.dumps({"sequences": len(rows), "tokens": sum(map(len, rows))}))


if __name__ == "__main__":
    main()
