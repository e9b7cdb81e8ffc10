#!/usr/bin/env python3
"""A tokenizer.json of GLM-4's size, to time loading and encoding with: 155,000 tokens, 322,000 merges, 20 MB.

usage: make_large_tokenizer.py OUT.json TEXT...

The tokens are the most frequent pieces of TEXT under GLM-4's regular expression and their prefixes, filled up with
pairs of them; the merges are the cuts that converters from rank files write. Nothing of it is meant to make sense.

pip install tokenizers==0.23.3
"""
import collections
import json
import random
import sys

from make_tokenizer_fixtures import CL100K, byte_level, family, sequence, split
from tokenizers import Regex, pre_tokenizers

TOKENS, MERGES = 154_820, 321_649


def main():
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    splitter = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CL100K), "isolated"),
                                        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    counts = collections.Counter()
    for path in sys.argv[2:]:
        with open(path, encoding="utf-8", errors="replace") as file:
            counts.update(piece for piece, _ in splitter.pre_tokenize_str(file.read()))
    vocabulary = dict.fromkeys(sorted(pre_tokenizers.ByteLevel.alphabet()))
    for piece, _ in counts.most_common():
        for end in range(2, min(len(piece), 12) + 1):
            if len(vocabulary) < TOKENS:
                vocabulary.setdefault(piece[:end])
    draw, known = random.Random(4), list(vocabulary)
    while len(vocabulary) < TOKENS:
        vocabulary.setdefault(draw.choice(known) + draw.choice(known))
    ids = {token: i for i, token in enumerate(vocabulary)}
    merges = []
    for token in ids:
        cuts = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ids and token[i:] in ids]
        merges += sorted(cuts, key=lambda cut: (ids[cut[0]], ids[cut[1]]))[:3]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "ignore_merges": True, "vocab": ids, "merges": merges[:MERGES]}
    made = family(model, sequence(split(CL100K), byte_level()), tokens=["<|endoftext|>", "[gMASK]", "<sop>", "<|user|>"])
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(made, file, ensure_ascii=False, indent=2)
    print(len(ids), "tokens,", len(model["merges"]), "merges")


if __name__ == "__main__":
    main()
