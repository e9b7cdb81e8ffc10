#!/usr/bin/env python3
"""fixtures/tokenizers/auto/: tokenizers in other files than tokenizer.json, tokens that only the files beside a tokenizer
name, and what transformers' AutoTokenizer makes of them.

usage: make_auto_tokenizer_fixtures.py OUT [--settings N] [--seed S] [--random N] [--trained FOLDER]

OUT receives
  *.model, tekken*.json, vocab.json, merges.txt   tiny tokenizers, trained on the sentences of make_tokenizer_fixtures.py
  forms.json      cases: a name, "files" (name in the model folder to file here), "settings" (name to content)
  <name>.ids.json what AutoTokenizer gives for the texts of strings.json, as in make_tokenizer_fixtures.py
  settings.json   random settings beside one tokenizer.json: "base", and "cases" with settings, texts and ids

--settings: how many of these; --random: so many random texts instead of strings.json, which is then written beside the rest;
--trained: take the trained files from there, such as the fixtures themselves. The test `FolderTests` reads a folder made here
that SLUICE_TOKENIZER_FOLDER names.

pip install transformers==5.17.0 tokenizers==0.23.3 sentencepiece==0.2.3 protobuf==7.36.2 mistral_common==1.13.1 tiktoken==0.14.0
"""
import argparse
import base64
import io
import json
import os
import random
import shutil
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import sentencepiece
from transformers import AutoTokenizer

from check_tokenizer import random_texts
from make_tokenizer_fixtures import (CL100K, TEKKEN, byte_level, byte_level_vocabulary, byte_symbols, components, corpus,
                                     family, sequence, split, texts, write)

# What SentencePiece replaces: ligatures and other letters, composition, characters that vanish, blanks.
RULES = [("\ufb01", "fi"), ("\u2460", "1"), ("\u00bd", "1\u20442"), ("\u212b", "\u00c5"), ("e\u0301", "\u00e9"), ("e\u0323\u0301", "\u1eb9\u0301"),
         ("\u200b", ""), ("\u00ad", ""), ("\u3000", " "), ("\u00a0", " "), ("\t", " "), ("\n", " "), ("\r", " "), ("\uff76\uff9e", "\u30ac"),
         ("\uff21", "A"), ("\u1112\u1161", "\ud558"), ("\u2026", "..."), ("\u0958", "\u0915\u093c"), ("\U0001f44d", "+"), ("\x1c", "")]


def train(kind, **options):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for line in corpus(few_scripts=True)), model_writer=out, model_type=kind, num_threads=1,
        minloglevel=2, hard_vocab_limit=False, **options)
    return out.getvalue()


def sentencepiece_models(out):
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        for source, target in RULES:
            rules.write(" ".join(f"{ord(c):X}" for c in source) + "\t" + " ".join(f"{ord(c):X}" for c in target) + "\n")
        rules.flush()
        tsv = {"normalization_rule_tsv": rules.name}
        symbols = {"user_defined_symbols": ["<|user|>", "[INST]", "▁▁", "abc"], "control_symbols": ["<|end|>", "<think>"]}
        made = {
            "bpe.model": train("bpe", vocab_size=700, byte_fallback=True, normalization_rule_name="identity", add_dummy_prefix=True, **symbols),
            "bpe_rules.model": train("bpe", vocab_size=420, bos_piece="<|bos|>", unk_piece="[UNK]", pad_id=3, split_digits=True, **tsv),
            "unigram.model": train("unigram", vocab_size=420, remove_extra_whitespaces=False, **tsv),
            "unigram_bytes.model": train("unigram", vocab_size=700, byte_fallback=True, normalization_rule_name="identity",
                                         unk_id=3, bos_id=0, eos_id=1, pad_id=2, **symbols),
        }
    for name, content in made.items():
        with open(f"{out}/{name}", "wb") as file:
            file.write(content)


def ranks(regex):
    model = byte_level_vocabulary(components(sequence(split(regex), byte_level())))
    alphabet = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
    return [bytes(alphabet[symbol] for symbol in token) for token, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]


def rank_files(out):
    tokens = ranks(TEKKEN) + [b"<s>"]
    vocab = [{"rank": i, "token_bytes": base64.b64encode(t).decode(), "token_str": t.decode("utf-8", "ignore") or None}
             for i, t in enumerate(tokens)]
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>", "[THINK]"]
    config = {"pattern": TEKKEN, "num_vocab_tokens": len(tokens), "version": "v11"}
    write(f"{out}/tekken.json", {
        "config": config | {"default_vocab_size": len(tokens) + 10 - 40, "default_num_special_tokens": 10}, "vocab": vocab,
        "special_tokens": [{"rank": i, "token_str": t, "is_control": True} for i, t in enumerate(special)]})
    older = {"default_vocab_size": len(tokens) + 24, "default_num_special_tokens": 24, "version": "v3"}
    write(f"{out}/tekken_older.json", {"config": config | older, "vocab": vocab})
    with open(f"{out}/ranks.model", "w") as file:
        for rank, token in enumerate(ranks(CL100K)):
            file.write(f"{base64.b64encode(token).decode()} {rank}\n")


def vocabulary_files(out):
    model = byte_level_vocabulary(components(byte_level(True)))
    write(f"{out}/vocab.json", model["vocab"] | {"<|endoftext|>": len(model["vocab"])})
    with open(f"{out}/merges.txt", "w", encoding="utf-8") as file:
        file.write("#version: 0.2\n")
        for merge in model["merges"]:
            file.write((merge if isinstance(merge, str) else " ".join(merge)) + "\n")


# ---- cases

def decoder(*tokens):
    return {str(number): {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                          "special": True} | flags for number, content, flags in tokens}


def forms():
    def case(name, files, model_type="llama", **config):
        files = files if isinstance(files, dict) else {"tokenizer.model": files}
        return {"name": name, "files": files, "settings": {"config.json": {"model_type": model_type}, "tokenizer_config.json": config}}

    llama = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "bos_token": "<s>"}
    merges = {"vocab.json": "vocab.json", "merges.txt": "merges.txt"}
    tekken = {"tekken.json": "tekken.json"}
    yield case("llama", "bpe.model", **llama)
    yield case("llama_legacy", "bpe.model", **llama, legacy=True, add_eos_token=True, extra_special_tokens=["<|user|>", "new", "[gMASK]"])
    yield case("llama_no_prefix", "bpe.model", tokenizer_class="LlamaTokenizerFast", add_prefix_space=False,
               added_tokens_decoder=decoder((1, "<s>", {}), (700, "<think>", {"rstrip": True, "special": False}), (701, "</s>", {"lstrip": True})))
    yield case("llama_of_unigram", "unigram_bytes.model", **llama)
    yield case("plain_bpe", "bpe.model", "mixtral", tokenizer_class="LlamaTokenizer", add_bos_token=True)
    yield case("plain_bpe_renamed", "bpe.model", "deepseek_v3", tokenizer_class="LlamaTokenizerFast", added_tokens_decoder=decoder(
        (3, "<|im_start|>", {}), (6, "<think>", {}), (900, "[gMASK]", {"normalized": True})))
    yield case("plain_bpe_rules", "bpe_rules.model", "glm4_moe", add_bos_token=True, add_eos_token=True)
    yield case("plain_unigram", "unigram.model", "glm4_moe", add_eos_token=True)
    yield case("plain_unigram_bytes", "unigram_bytes.model", "phimoe", eos_token="<|end|>", add_eos_token=True)
    yield case("gpt2", merges, "gpt2", add_prefix_space=True, add_bos_token=True)
    yield case("gpt_neox", merges, "olmoe", pad_token="<|user|>")
    yield case("qwen2", merges, "qwen2", tokenizer_class="Qwen2Tokenizer", added_tokens_decoder=decoder(
        (767, "<think>", {"special": False}), (762, "<|im_start|>", {}), (765, "<|left|>", {"lstrip": True})), eos_token="<|left|>",
        additional_special_tokens=["<|im_start|>", "<|user|>"])
    yield case("qwen3_prefix", merges, "qwen3_moe", add_prefix_space=True)
    yield case("tekken_form", tekken, "mistral")
    yield case("tekken_bos", tekken, "mistral", tokenizer_class="LlamaTokenizer", add_bos_token=True, extra_special_tokens=["<|user|>"])
    yield case("tekken_older_form", {"tekken.json": "tekken_older.json"}, "ministral3")
    yield case("ranks_form", "ranks.model", "llama", tokenizer_class="PreTrainedTokenizerFast", add_bos_token=True,
               bos_token="<|begin_of_text|>", added_tokens_decoder=decoder((760, "<|begin_of_text|>", {}), (763, "<|user|>", {})))


def load(folder):
    return AutoTokenizer.from_pretrained(folder, mistral_format=False)


def fill(folder, files, settings, source):
    for name, path in files.items():
        shutil.copy(f"{source}/{path}", f"{folder}/{name}")
    for name, content in settings.items():
        write(f"{folder}/{name}", content)


def ids(tokenizer, text, special=False):
    return tokenizer(text, add_special_tokens=special)["input_ids"]


def golden(tokenizer, strings):
    plain = [ids(tokenizer, text) for text in strings]
    special = [ids(tokenizer, text, True) for text in strings]
    decoded = {str(i): tokenizer.decode(found, skip_special_tokens=False, clean_up_tokenization_spaces=False) for i, found in enumerate(plain)}
    result = {"size": len(tokenizer), "ids": plain}
    if special != plain:
        result["special"] = special
    result["decoded"] = {i: text for i, text in decoded.items() if text != strings[int(i)]}
    return result


# ---- random settings

CONTENTS = ["<a>", "<b>", "<!c>", "<d>", "<e!>", "ab", "hello", "<pad>", "<s>", "</s>", "<img>", "  ", "l"]
NAMES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token", "image_token", "audio_token"]


def base():
    vocabulary = {c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz <>!?/")}
    for token in ("ll", "he", "llo", "hello", "<pad>"):
        vocabulary[token] = len(vocabulary)
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
             "byte_fallback": False, "ignore_merges": False, "vocab": vocabulary, "merges": [["l", "l"], ["h", "e"], ["ll", "o"], ["he", "llo"]]}
    made = family(model, None, {"type": "Replace", "pattern": {"String": "!"}, "content": "?"}, decoder={"type": "Fuse"},
                  tokens=[("<a>", {"special": True}), ("<b>", {"normalized": True, "rstrip": True}), "<!c>"])
    return made


def random_token(draw, typed):
    content = draw.choice(CONTENTS)
    if draw.random() < 0.5:
        return content
    flags = {key: draw.random() < 0.4 for key in ("lstrip", "rstrip", "single_word", "normalized", "special") if draw.random() < 0.6}
    return ({"__type": "AddedToken"} if typed else {}) | {"content": content} | flags


def random_settings(draw):
    config = {"tokenizer_class": draw.choice(["TokenizersBackend", "PreTrainedTokenizerFast", "UnknownTokenizer"])}
    for name in draw.sample(NAMES, draw.randint(0, 5)):
        config[name] = None if draw.random() < 0.1 else random_token(draw, True)
    for key in ("extra_special_tokens", "additional_special_tokens"):
        kind = draw.random()
        if kind < 0.3:
            config[key] = [random_token(draw, True) for _ in range(draw.randint(0, 4))]
        elif kind < 0.4 and key == "extra_special_tokens":
            config[key] = {name: random_token(draw, True) for name in draw.sample(["video_token", "image_token", "x_token"], 2)}
    if draw.random() < 0.5:
        tokens = {}
        for _ in range(draw.randint(0, 4)):
            token = random_token(draw, False)
            token = {"content": token} if isinstance(token, str) else token
            tokens[str(draw.randint(30, 60))] = token
        config["added_tokens_decoder"] = tokens
    if draw.random() < 0.2:
        config["add_bos_token"] = True
    settings = {"config.json": {"model_type": "llama"}, "tokenizer_config.json": config}
    if draw.random() < 0.5:
        settings["added_tokens.json"] = {draw.choice(CONTENTS): draw.randint(30, 60) for _ in range(draw.randint(0, 4))}
    if draw.random() < 0.5:
        tokens = {name: random_token(draw, False) for name in draw.sample(NAMES, draw.randint(0, 4))}
        for key in ("extra_special_tokens", "additional_special_tokens"):
            if draw.random() < 0.3:
                tokens[key] = [draw.choice(CONTENTS) for _ in range(draw.randint(0, 3))]
        settings["special_tokens_map.json"] = tokens
    if draw.random() < 0.1:
        del settings["tokenizer_config.json"]
    return settings


def settings_cases(count, draw):
    made, refused, cases = base(), 0, []
    while len(cases) < count:
        settings = random_settings(draw)
        strings = ["".join(draw.choice(CONTENTS + [" ", "x", "a ", " <", "?c>", "<?c>", "<e?>", "h"]) for _ in range(draw.randint(1, 12)))
                   for _ in range(8)]
        with tempfile.TemporaryDirectory() as folder:
            fill(folder, {}, settings | {"tokenizer.json": made}, folder)
            try:
                tokenizer = load(folder)
            except (TypeError, ValueError, AttributeError, RuntimeError):
                refused += 1
                continue
            cases.append({"settings": settings, "texts": strings, "ids": [ids(tokenizer, text) for text in strings],
                          "special": [ids(tokenizer, text, True) for text in strings]})
    print(len(cases), "settings;", refused, "that AutoTokenizer does not load")
    return {"base": made, "cases": cases}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out"), parser.add_argument("--settings", type=int, default=150), parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--random", type=int), parser.add_argument("--trained")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    draw = random.Random(args.seed)
    if args.trained:
        for name in os.listdir(args.trained):
            if not name.endswith("ids.json"):
                shutil.copy(f"{args.trained}/{name}", args.out)
    else:
        sentencepiece_models(args.out), rank_files(args.out), vocabulary_files(args.out)
    strings = texts()
    if args.random:
        added = ["<s>", "</s>", "<|user|>", "<think>", "[INST]", "<|im_start|>", "<|left|>", "<unk>", "[UNK]", "▁", "abc", "<|end|>", "[THINK]"]
        strings = list(random_texts(args.random, args.seed, added))
        write(f"{args.out}/strings.json", strings)
    cases = list(forms())
    write(f"{args.out}/forms.json", cases)
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            fill(folder, case["files"], case["settings"], args.out)
            write(f"{args.out}/{case['name']}.ids.json", golden(load(folder), strings))
    write(f"{args.out}/settings.json", settings_cases(args.settings, draw))
    print(len(cases), "forms,", len(strings), "texts")


if __name__ == "__main__":
    main()
