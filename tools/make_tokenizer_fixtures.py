#!/usr/bin/env python3
"""fixtures/tokenizers/: tiny tokenizers of every supported family, and what the `tokenizers` package does with them.

usage: make_tokenizer_fixtures.py OUT [--only NAME] [--model NAME PATH/TO/tokenizer.json]

Every family's normalizer, pre-tokenizer, post-processor, decoder and added tokens are its real ones; only the vocabulary
is small, trained here on the sentences below. OUT receives

  strings.json           the texts, shared by all
  <family>.json          a tokenizer.json
  <family>.ids.json      "ids": the ids of each text without special tokens; "special": with them, where that differs
                         anywhere; "decoded": text number to decoded text, where it is not the text itself
  <NAME>.ids.json        the same of the tokenizer named by --model, which is not copied
  kimi/                  a folder without tokenizer.json: ranks and tokenizer_config.json; kimi.ids.json beside it

pip install tokenizers==0.23.3
"""
import argparse
import base64
import json
import os
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL
QWEN2 = CL100K.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + TAIL)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = r"[^\r\n\p{L}\p{N}]?%s*%s+%s|[^\r\n\p{L}\p{N}]?%s+%s*%s"
O200K = (CASED % (UPPER, LOWER, CONTRACTIONS + "?", UPPER, LOWER, CONTRACTIONS + "?")
         + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL)
TEKKEN = CASED % (UPPER, LOWER, "", UPPER, LOWER, "") + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL
DEEPSEEK = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^""" "\r\n" r"""\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
            r"""| ?[\p{P}\p{S}]+[""" "\r\n" r"""]*|\s*[""" "\r\n" r"""]+|\s+(?!\S)|\s+""")
BAILING = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
GROUPED_DIGITS = r"\d{1,3}(?=(?:\d{3})*\b)"
NO_HAN = "&&[^\\p{Han}]]"
KIMI = (r"[\p{Han}]+|" + CASED % (UPPER[:-1] + NO_HAN, LOWER[:-1] + NO_HAN, CONTRACTIONS + "?", UPPER[:-1] + NO_HAN,
                                  LOWER[:-1] + NO_HAN, CONTRACTIONS + "?")
        + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL)

SENTENCES = """
The quick brown fox jumps over the lazy dog, and they're not sorry: it's what they'd always do, isn't it?
Mixtures of experts send every token to a few of many small networks; the router decides which ones.
She said: "We'll meet at 10:45, won't we?" — 1,234,567 people live there, 3.14159 of them in 2024.
Große Flüsse fließen über weiße Steine; Äpfel, Öl und Übermut kosten heute 12,50 €.
L'été dernier, l'élève naïf a mangé une crêpe près de la forêt où chantaient les oiseaux.
El niño pequeño corrió mañana por la mañana: ¿dónde está la montaña? ¡Qué día!
Быстрая коричневая лиса прыгает через ленивую собаку, а потом долго спит в тёплом доме.
Η γρήγορη αλεπού πηδά πάνω από το τεμπέλικο σκυλί και τρέχει προς τη θάλασσα.
すばしっこい茶色の狐がのろまな犬を飛び越えた。今日は天気がいいから、散歩に行きましょう。カタカナ
快速的棕色狐狸跳过了懒惰的狗。今天天气很好，我们去公园散步吧。中国有很多城市。
빠른 갈색 여우가 게으른 개를 뛰어넘는다. 오늘은 날씨가 좋으니 산책을 갑시다.
الثعلب البني السريع يقفز فوق الكلب الكسول، ثم ينام في البيت طويلا.
השועל החום המהיר קופץ מעל הכלב העצלן, ואחר כך ישן בבית.
तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है और फिर घर में सोती है। १२३४
สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจแล้วนอนหลับในบ้าน
Cáo nâu nhanh nhẹn nhảy qua con chó lười biếng; tiếng Việt có nhiều dấu.
😀 😃 👍🏽 👩‍👩‍👧‍👦 🇩🇪 🇯🇵 emoji are letters of another kind 🎉🎉🎉
def main(argument: int = 0) -> None:\n    for index in range(10):\n        print(f"{index}: {argument}")\n
if (x == 0) { return; } else { x += 1; }\n\tint *pointer = &array[i]; // comment\n#include <stdio.h>\n
"""


def corpus(few_scripts=False):
    """With few scripts, the letters of the others do not come into the alphabet."""
    lines = [line.replace("\\n", "\n").replace("\\t", "\t") for line in SENTENCES.split("\n") if line]
    return lines[:9] + lines[-3:] if few_scripts else lines


# ---- the texts

SPECIAL = ["<|user|>", "<|endoftext|>", "<think>", "</think>", "<s>", "</s>", "<unk>", "[INST]", "<|im_start|>",
           "<｜begin▁of▁sentence｜>", "<|begin_of_text|>", "<0x41>", "▁", "<|end|>", "[gMASK]<sop>"]


def texts():
    whitespace = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", " \n ", "a ", " a", "a  b", "a   b\n\n  c", "\u00a0", "\u3000",
                  "a\u3000b\u00a0c", "\u2028\u2029\u0085", "\x0b\x0c\x1c\x1d\x1e\x1f", "x\x00y", " " * 70, "a" + " " * 90 + "b",
                  "\r\n\r\n\n\r", "  \r\n  x", "end  ", "end\n ", "\n \n \n", "\t\t if", "\ufeffbom", "zero\u200bwidth\u200dx"]
    contractions = ["it's IT'S It'S", "we'll WE'LL they'Re I'VE i'm I'D don't DON'T", "'s 't 're", "it’s we’ll", "it'ſ x",
                    "rock'n'roll 'tis ''s", "d'l'll'dd", "'S'T'RE'VE'M'LL'D"]
    digits = ["1", "12", "123", "1234", "12345", "1234567890123", "1,234,567.89", "3.14e-10", "０１２３", "१२३४५", "٣٤٥٦",
              "½ Ⅳ ① ²", "a1b22c333d4444", "0x1F2e", "2024-01-02T03:04:05Z", "1 000 000", "𝟘𝟙𝟚", "12ab 3cd", "\U00011f50\U0001e4f0"]
    case = ["camelCaseXMLHttpRequest", "PascalCase SCREAMING_SNAKE", "ǅ ǈ ǋ ʰʱ ª º", "ΣΑΣ σας", "İıſßẞ", "iPhone McDonald eBay", "ÀÉÎõü", "ﬁ ﬂ",
            "Ａｂｃ", "𝐁𝐨𝐥𝐝 𝒾", "ʼn ŉ", "ᾳ ᾼ", "Ꭰꭰ", "ABCdefGHI", "aB"]
    cjk = ["日本語のテキスト", "中文文本，标点。", "한국어 텍스트", "漢字かなカナ混じり文", "々〇ー〆ヶ", "𠀀𠮷𪚥 𰀀 𱍐 𮯰", "「引用」『二重』【】", "ｶﾞｷﾞｸﾞ", "ㄅㄆㄇ ㆠ",
           "가각갂", "한글 조합", "中abc文123字", "、。！？", "日本 語 ", "\u3400\u4dbf\u9fff\ua000"]
    marks = ["é é", "e\u0301\u0323 e\u0323\u0301", "Å Å K Ω", "क़ क\u093c", "ที่ นี้", "שָׁלוֹם", "Z\u0336\u0300\u0301\u0302\u0303algo\u0489", "\u1112\u1161\u11ab",
             "\u0301leading", " \u0301x", "\u0cca\u0cd5 \u0cc6\u0cc2\u0cd5", "\u09c7\u09be", "ạ̈ ǖ", "\u0344 \u0340 \u0374", "\U0001d15e", "\u0f73 \u0f71\u0f72",
             "\U00011131\U00011127", "a\u1df9\u0301 \u1df9a", "\u0958", "\ufb1d\ufb2a", "\u2adc", "e\u0301\u0301", "가\u11a8", "\u1100\u1161\u11a8\u11a8", "各 \uf900 \ufa10",
             "Việt Việt", "\u0b47\u0b3e\u0b47\u0b56", "x\u0859\u0301\u08d3"]
    emoji = ["😀", "👩‍👩‍👧‍👦 family", "🇩🇪🇯🇵🇺🇳", "👍🏽👍", "❤️ ❤", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "a😀b 😀 c", "🩷🫨🛜", "word🩷word 🫩 x", "🪿glued", "☃☂☄",
             "1️⃣ #️⃣", "🎉🎉🎉!!!"]
    punctuation = ["...", "!!!???", "a/b/c//d", "https://example.org/path?x=1&y=2#z", "//\n//", "a.b,c;d:e", "(a)[b]{c}<d>", "--- *** ___", "“quoted” ‘single’ «guillemets»",
                   "$100 €5 £3 ¥9", "a_b __init__", "\\n \\\\ \"", "@user #tag", "!abc .def _ghi $jkl", "…—–‑", "¿¡§¶†‡•", "+-=<>|~^`", "\u061c\u066a\u060c", "?/\n!/\r\n", "%s%d {0}", "。\n，\n"]
    code = ["def f(x):\n    return x + 1\n", "for (int i = 0; i < n; ++i) {\n\tx[i] *= 2;\n}", "SELECT * FROM t WHERE a='b';", "<div class=\"x\">&amp;</div>", "{\"key\": [1, 2.5, null]}",
            "import numpy as np\nnp.zeros((3, 4))", "x = lambda: 0  # comment\n\n\n", "#!/bin/sh\necho \"$HOME\" | grep -v 'x'", "a->b::c<d>&&e||!f"]
    odd = ["\ue000\uf8ff\U000f0000\U0010fffd", "\ufffe\uffff\ufdd0", "\u0378\u0380", "\ufffd", "\U000e0001", "a\u00adb", "\u202eRTL\u202c", "\U0001fae0\U0001cc00", "\u1c89\ua7cb\u0264", "\U00010d50\U00016d40\u1ecf",
           "ƼƽǀǁŊ ʕ ʔ ƻ"]
    long = ["a" * 300, "ab" * 150, "é" * 120, "1" * 130, "!" * 150, "漢" * 90, "ha" * 60 + " " + "no" * 50, "😀" * 50, "=" * 100 + "\n" + "-" * 100]
    special = (SPECIAL + [f"a{token}b" for token in SPECIAL[:8]] + [f" {token} " for token in SPECIAL[:8]]
               + [f"x  {token}\n\ny" for token in SPECIAL[:6]]
               + ["<|user|><|user|>", "<|user", "<|us<|user|>er|>", "<|USER|>", "<think>\nI think.</think>\n\nAnswer", "<s>[INST] hi [/INST]</s>", "<s><s> <s>",
                  "<|endoftext|", "word<|word|>word <|word|> _<|word|> é<|word|>", "<|left|> a  <|left|>  b", "<|right|>   a<|right|>\n\tb", "<|both|>  <|both|>   x",
                  "café cafe\u0301 CAFÉ", "abcabcd abcd abc", "newWORDnewWORD newWORD", "  <|left|><|right|>  ", "<|word|><|word|>", "<|word|> <|left|>", "e\u0301 é"])
    listed = [""] + whitespace + contractions + digits + case + cjk + marks + emoji + punctuation + code + odd + long + special
    mixed, draw = [], random.Random(9)
    alphabet = listed[1:] + list("abcdefgXYZ0123456789 '\n\t.,/") * 4
    for _ in range(30):
        mixed.append("".join(draw.choice(alphabet)[:12] for _ in range(draw.randint(2, 8))))
    return list(dict.fromkeys(listed + mixed))


# ---- vocabularies

def byte_level_vocabulary(splitter, normalizer=None, size=760, reserved=()):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(reserved), show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(corpus(), trainer)
    return json.loads(tokenizer.to_str())["model"]


def all_splits(model):
    """Merges as converters from tiktoken write them: every way to cut a token in two, by the token's rank."""
    vocabulary = model["vocab"]
    merges = []
    for token, rank in sorted(vocabulary.items(), key=lambda item: item[1]):
        cuts = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in vocabulary and token[i:] in vocabulary]
        merges += sorted(cuts, key=lambda cut: (vocabulary[cut[0]], vocabulary[cut[1]]))
    return [list(merge) for merge in merges]


def sentencepiece_vocabulary(size=900):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(corpus(few_scripts=True), trainers.BpeTrainer(vocab_size=size - 261, show_progress=False))
    trained = json.loads(tokenizer.to_str())["model"]
    first = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + ["▁▁", "▁▁▁▁"]
    tokens = first + [token for token in trained["vocab"] if token not in first]
    merges = [["▁", "▁"], ["▁▁", "▁▁"]] + [merge if isinstance(merge, list) else merge.split(" ") for merge in trained["merges"]]
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges}


# ---- families

def split(regex, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: regex}, "behavior": behavior, "invert": invert}


def byte_level(use_regex=False, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


def sequence(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


def added(content, number, special=False, **flags):
    return {"id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": special} | flags


def template(before=(), after=()):
    def special(names):
        return [{"SpecialToken": {"id": name, "type_id": 0}} for name, _ in names]

    return {"type": "TemplateProcessing", "single": special(before) + [{"Sequence": {"id": "A", "type_id": 0}}] + special(after),
            "pair": special(before) + [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in [*before, *after]}}


def family(model, pre_tokenizer, normalizer=None, post_processor=None, decoder=None, tokens=()):
    """`tokens`: contents, or (content, flags); numbered on from the vocabulary unless they are in it."""
    size, entries = len(model["vocab"]), []
    for token in tokens:
        content, flags = token if isinstance(token, tuple) else (token, {"special": True})
        number = model["vocab"].get(content, size)
        size += number == size
        entries.append(added(content, number, **flags))
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": entries, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": post_processor,
            "decoder": decoder or byte_level(True, True), "model": model}


def components(description):
    """A component of the package, by way of a file: the only door it has for descriptions."""
    shell = family({"type": "BPE", "vocab": {}, "merges": []}, description)
    return Tokenizer.from_str(json.dumps(shell)).pre_tokenizer


PLAIN = {"special": False}
SPM_DECODER = {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
PREPEND = {"type": "Sequence", "normalizers": [
    {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
BOS = ("<s>", 1)


def metaspace(scheme, splits):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": splits}


def byte_level_families():
    def make(regex_parts, normalizer=None, ignore=None, spelled="pairs", reserved=(), **rest):
        description = sequence(*regex_parts, byte_level())
        nfc = normalizers.NFC() if normalizer else None
        model = byte_level_vocabulary(components(description), nfc, reserved=reserved)
        model["merges"] = [merge if isinstance(merge, list) else merge.split(" ") for merge in model["merges"]]
        if spelled == "strings":
            model["merges"] = [" ".join(merge) for merge in model["merges"]]
        if spelled == "all":
            model["merges"] = all_splits(model)
        if ignore is None:
            del model["ignore_merges"]
        else:
            model["ignore_merges"] = ignore
        return family(model, description, normalizer, **rest)

    nfc = {"type": "NFC"}
    glm = ["<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", ("<think>", PLAIN), ("</think>", PLAIN)]
    yield "glm4", make([split(CL100K)], ignore=True, spelled="all", tokens=glm, post_processor=byte_level(True))
    qwen = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", ("<think>", PLAIN), ("</think>", PLAIN)]
    yield "qwen2_nfc", make([split(QWEN2)], nfc, False, "strings", tokens=qwen, post_processor=byte_level(False))
    yield "qwen35_nfc", make([split(QWEN35)], nfc, False, tokens=qwen)
    deepseek = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"]
    splits = [split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK)]
    yield "deepseek3", make(
        splits, {"type": "Sequence", "normalizers": []}, None, "strings", reserved=deepseek,
        tokens=[*deepseek, "<|user|>", ("<think>", PLAIN | {"normalized": True})],
        post_processor=template([("<｜begin▁of▁sentence｜>", 0)]))
    yield "o200k_isolated", make([split(O200K)], ignore=False, tokens=["<|endoftext|>", "<|user|>", "<|end|>"])
    yield "o200k_removed_invert", make([split(O200K, "Removed", True)], ignore=True, spelled="all", tokens=["]~b]", "[e~["])
    tekken = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    yield "tekken", make([split(TEKKEN)], ignore=True, spelled="all", reserved=tekken, tokens=tekken,
                         post_processor=template([BOS]))
    llama = ["<|begin_of_text|>", "<|end|>"]
    made = make([split(CL100K)], ignore=True, spelled="all", tokens=llama)
    begin = made["added_tokens"][0]["id"]
    made["post_processor"] = {"type": "Sequence", "processors": [byte_level(True), template([("<|begin_of_text|>", begin)])]}
    yield "llama3", made
    yield "bailing_possessive", make([split(BAILING)], nfc, False, tokens=["<|endoftext|>"])
    yield "grouped_digits", make([split(GROUPED_DIGITS), split(CL100K)], ignore=False)
    yield "split_merged", make(
        [split(" ", "MergedWithNext", kind="String"), split("[.,;:]", "MergedWithPrevious"), split(r"[!?\d]", "Contiguous")],
        ignore=False)
    yield "ignored_case", make([split(r"(?i:\p{Lu}+|[a-f]+|straße)|(?i)[\p{Lu}]|(?-i:q)|\p{Ll}|\W\b")], ignore=False)
    made = make([split(CL100K)], ignore=False)
    made["added_tokens"] = family(made["model"], None, tokens=["<|endoftext|>"])["added_tokens"]
    end = made["added_tokens"][0]["id"]
    made["post_processor"] = template([("<|endoftext|>", end)], [("<|endoftext|>", end)])
    yield "template_both", made


def gpt2_families():
    def make(description, normalizer=None, tokens=()):
        nfc = normalizers.NFC() if normalizer else None
        model = byte_level_vocabulary(components(description), nfc)
        return family(model, description, normalizer, tokens=tokens)

    nfc, normalized = {"type": "NFC"}, {"normalized": True, "special": False}
    spaces = [(" " * count, normalized) for count in range(24, 1, -1)]
    yield "gpt2_bytelevel_nfc", make(byte_level(True), nfc, ["<|endoftext|>"] + spaces)
    yield "gpt2_prefix_space", make(byte_level(True, True), tokens=["<|endoftext|>"])
    yield "starcoder_digits", make(sequence({"type": "Digits", "individual_digits": True}, byte_level(True)), tokens=["<|endoftext|>"])
    # A byte level in the middle: what follows cuts the spelling of the bytes.
    yield "falcon", make(sequence({"type": "Punctuation", "behavior": "Contiguous"}, byte_level(True),
                                  {"type": "Digits", "individual_digits": False}, split("[0-9]{3}")), tokens=["<|endoftext|>"])
    yield "added_flags", make(sequence(split(CL100K), byte_level()), nfc, [
        ("<|word|>", {"single_word": True}), ("<|left|>", {"lstrip": True}), ("<|right|>", {"rstrip": True}),
        ("<|both|>", {"lstrip": True, "rstrip": True, "special": True}), ("cafe\u0301", {"normalized": True}), ("abc", PLAIN), ("abcd", PLAIN),
        ("newWORD", {"single_word": True, "normalized": True}), ("<|user|>", {"special": True}), ("é", {"normalized": False, "single_word": True})])
    partial = byte_level_vocabulary(components(byte_level(True)))
    # Bytes without a token: left out here, unknown in the next.
    for missing in ("Ġ", "Ã", "e"):
        partial["merges"] = [merge for merge in partial["merges"] if missing not in "".join(merge)]
        partial["vocab"] = {token: i for i, token in enumerate(token for token in partial["vocab"] if missing not in token)}
    yield "missing_bytes", family(partial, byte_level(True))
    unknown = json.loads(json.dumps(partial)) | {"unk_token": "!", "fuse_unk": False}
    yield "missing_bytes_unknown", family(unknown, byte_level(True))


def sentencepiece_families():
    def make(model_options=None, **options):
        return family(sentencepiece_vocabulary() | (model_options or {}), decoder=options.pop("decoder", SPM_DECODER), **options)

    def plain(normalized):
        return [(name, {"special": True, "normalized": normalized}) for name in ("<unk>", "<s>", "</s>")]

    yield "spm_prepend_replace", make(pre_tokenizer=None, normalizer=PREPEND, tokens=plain(False), post_processor=template([BOS]))
    yield "spm_prepend_norm_added", make(pre_tokenizer=None, normalizer=PREPEND, tokens=plain(True), post_processor=template([BOS]))
    yield "spm_metaspace_first", make(pre_tokenizer=metaspace("first", False), tokens=plain(False), post_processor=template([BOS]))
    yield "spm_metaspace_always", make(
        pre_tokenizer=metaspace("always", True), tokens=plain(False), decoder=metaspace("always", True))
    yield "spm_metaspace_never_split", make(
        pre_tokenizer=metaspace("never", True), tokens=plain(False), decoder=metaspace("never", True))
    yield "spm_no_fallback", make({"byte_fallback": False}, pre_tokenizer=metaspace("always", True), tokens=plain(False))
    yield "spm_unfused_unknown", make({"byte_fallback": False, "fuse_unk": False}, pre_tokenizer=metaspace("first", False))
    made = make({}, pre_tokenizer=metaspace("always", True), tokens=plain(False))
    # Half of the bytes have no fallback token: unknown and fallback tokens meet.
    vocabulary = made["model"]["vocab"]
    for byte in range(0x80, 0xC0, 2):
        vocabulary[f"<no{byte}>"] = vocabulary.pop(f"<0x{byte:02X}>")
    yield "spm_partial_fallback", made
    yield "spm_phi_rstrip", make(
        pre_tokenizer=None, normalizer=PREPEND, post_processor=template(),
        tokens=[*plain(False)[:2], ("</s>", {"special": False, "rstrip": True}), "<|endoftext|>",
                ("<|user|>", {"special": True, "rstrip": True}), ("<|end|>", {"special": True, "rstrip": True})])


# ---- output

def write(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, separators=(",", ":"))


def golden(tokenizer, strings):
    plain = [tokenizer.encode(text, add_special_tokens=False).ids for text in strings]
    special = [tokenizer.encode(text, add_special_tokens=True).ids for text in strings]
    decoded = {str(i): tokenizer.decode(ids, skip_special_tokens=False) for i, ids in enumerate(plain)}
    result = {"size": tokenizer.get_vocab_size(with_added_tokens=True), "ids": plain}
    if special != plain:
        result["special"] = special
    result["decoded"] = {i: text for i, text in decoded.items() if text != strings[int(i)]}
    return result


def write_kimi(folder, strings):
    """The same tokenizer twice: ranks for the reader of ranks, a tokenizer.json of them to ask the package."""
    description = sequence(split(KIMI), byte_level())
    model = byte_level_vocabulary(components(description))
    alphabet = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
    os.makedirs(f"{folder}/kimi", exist_ok=True)
    with open(f"{folder}/kimi/tiktoken.model", "w") as file:
        for token, rank in sorted(model["vocab"].items(), key=lambda item: item[1]):
            file.write(f"{base64.b64encode(bytes(alphabet[symbol] for symbol in token)).decode()} {rank}\n")
    first = len(model["vocab"])
    names = {first: "[BOS]", first + 1: "[EOS]", first + 2: "<|im_end|>", first + 3: "<|user|>", first + 9: "<think>"}
    write(f"{folder}/kimi/tokenizer_config.json", {"added_tokens_decoder": {
        str(number): {"content": name, "special": True} for number, name in names.items()}})
    model |= {"merges": all_splits(model), "ignore_merges": True}
    tokens = [names.get(number, f"<|reserved_token_{number}|>") for number in range(first, first + 256)]
    return golden(Tokenizer.from_str(json.dumps(family(model, description, tokens=tokens))), strings)


def byte_symbols():
    symbols, extra = [], 0x100
    for byte in range(256):
        printable = 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or byte >= 0xAE
        symbols.append(chr(byte if printable else extra))
        extra += not printable
    return symbols


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out"), parser.add_argument("--only")
    parser.add_argument("--model", nargs=2, metavar=("NAME", "PATH"))
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    strings = texts()
    write(f"{args.out}/strings.json", strings)
    for families in (byte_level_families(), gpt2_families(), sentencepiece_families()):
        for name, description in families:
            if args.only in (None, name):
                write(f"{args.out}/{name}.json", description)
                write(f"{args.out}/{name}.ids.json", golden(Tokenizer.from_file(f"{args.out}/{name}.json"), strings))
    if args.only in (None, "kimi"):
        write(f"{args.out}/kimi.ids.json", write_kimi(args.out, strings))
    if args.model:
        write(f"{args.out}/{args.model[0]}.ids.json", golden(Tokenizer.from_file(args.model[1]), strings))
    print(len(strings), "texts")


if __name__ == "__main__":
    main()
