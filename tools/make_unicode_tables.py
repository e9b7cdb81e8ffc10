#!/usr/bin/env python3
"""Sources/Tokenization/UnicodeTables.swift: the Unicode sets that the `tokenizers` package splits and normalizes by.

usage: make_unicode_tables.py OUT.swift

Nothing is taken from a Unicode version of our own choice: every scalar is put to the package itself, and the answers
are written down. That freezes its three tables as they are (regular expressions Unicode 16, NFC Unicode 9, its
`Punctuation` older still), whatever Oniguruma or toolchain this program is built with.

pip install tokenizers==0.23.3
"""
import sys
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

SCALARS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, SCALARS))
# Where scalar number i of TEXT lies: the surrogates are left out.
SCALAR_AT = SCALARS

CATEGORIES = ("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn").split()
SCRIPTS = ("Arabic Armenian Bengali Bopomofo Cyrillic Devanagari Ethiopic Georgian Greek Gujarati Gurmukhi Han Hangul "
           "Hebrew Hiragana Kannada Katakana Khmer Lao Latin Malayalam Mongolian Myanmar Sinhala Tamil Telugu Thai "
           "Tibetan").split()


def pieces(splitter):
    return [offsets for _, offsets in splitter.pre_tokenize_str(TEXT)]


def matched(pattern):
    """Ranges of scalars, both ends included, that the package's regular expressions take."""
    found = pieces(pre_tokenizers.Split(Regex(f"(?:{pattern})+"), "removed", invert=True))
    return ranges([i for start, end in found for i in range(start, end)])


def property_of(name):
    return "\\p{" + name + "}"


def ranges(indices):
    result = []
    for i in indices:
        c = SCALAR_AT[i]
        if result and (result[-1][1] == c - 1):
            result[-1][1] = c
        else:
            result.append([c, c])
    return result


def isolated_by(splitter):
    """Scalars that `splitter` cuts off from the letter before and after them."""
    found = []
    for block in range(0, len(SCALARS), 50000):
        part = SCALARS[block:block + 50000]
        text = "".join("a" + chr(c) + "a" for c in part)
        starts = {start for _, (start, _) in splitter.pre_tokenize_str(text)}
        found += [block + i for i in range(len(part)) if 3 * i + 1 in starts and 3 * i + 2 in starts]
    return ranges(found)


def word_scalars():
    """Scalars next to which a `single_word` added token is not one."""
    tokenizer = Tokenizer(models.BPE({"x": 0}, [], unk_token="x"))
    tokenizer.add_tokens([AddedToken("!!", single_word=True, normalized=False)])
    found = []
    for block in range(0, len(SCALARS), 20000):
        part = SCALARS[block:block + 20000]
        text = " ".join(chr(c) + "!!" for c in part)
        encoding = tokenizer.encode(text)
        cut = {end for token, (_, end) in zip(encoding.ids, encoding.offsets) if token == 1}
        position = 0
        for i, c in enumerate(part):
            if position + 3 not in cut and chr(c) != "!":
                found.append(block + i)
            position += 4
    return ranges(found)


def spaces_swallowed():
    tokenizer = Tokenizer(models.BPE({"x": 0}, [], unk_token="x"))
    tokenizer.add_tokens([AddedToken("!!", rstrip=True, normalized=False)])
    found = []
    for block in range(0, len(SCALARS), 20000):
        part = SCALARS[block:block + 20000]
        encoding = tokenizer.encode("".join("!!" + chr(c) + "a" for c in part))
        ends = {end for token, (_, end) in zip(encoding.ids, encoding.offsets) if token == 1}
        found += [block + i for i in range(len(part)) if 4 * i + 3 in ends]
    return ranges(found)


def run_lengths(found):
    """Lengths of the runs outside and inside, in turn, the last run outside left away."""
    result, position = [], 0
    for first, last in found:
        result += [first - position, last - first + 1]
        position = last + 1
    return " ".join(map(str, result))


def categories():
    of = {}
    for letter, name in enumerate(CATEGORIES):
        for first, last in matched(rf"\p{{{name}}}"):
            for c in range(first, last + 1):
                assert c not in of, (hex(c), name)
                of[c] = letter
    assert len(of) == len(SCALARS)
    words, start = [], 0
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabc"
    for c in range(1, 0x110001):
        if c == 0x110000 or of.get(c) != of.get(start):
            # The surrogates stand as `-`.
            words.append(f"{c - start}{alphabet[of[start]] if start in of else '-'}")
            start = c
    return "".join(words)


def decompositions():
    """One line per scalar: `scalar=first` or `scalar=first+second`, `!` where it is never composed again."""
    nfc, nfd, lines, before = normalizers.NFC(), normalizers.NFD(), [], 0
    for c in SCALARS:
        if 0xAC00 <= c <= 0xD7A3 or nfd.normalize_str(chr(c)) == chr(c):
            continue
        parts = [int(part, 16) for part in unicodedata.decomposition(chr(c)).split()]
        assert len(parts) in (1, 2)
        kept = nfc.normalize_str(chr(c)) == chr(c)
        assert not kept or len(parts) == 2
        lines.append(f"{c - before:x}={'+'.join(f'{part:x}' for part in parts)}{'' if kept else '!'}")
        before = c
    return " ".join(lines)


def combining_classes():
    """Runs of one class: gap, length and class; only scalars that the package reorders."""
    nfd = normalizers.NFD()
    runs = []
    for c in SCALARS:
        found = unicodedata.combining(chr(c))
        if found == 0:
            continue
        # Class 1 goes before every other and class 240 behind: what moves past neither has no class there.
        behind_first = nfd.normalize_str(chr(c) + "\u0334") != chr(c) + "\u0334"
        before_last = nfd.normalize_str("\u0345" + chr(c)) != "\u0345" + chr(c)
        if not (behind_first or before_last):
            continue
        if runs and runs[-1][1] == c - 1 and runs[-1][2] == found:
            runs[-1][1] = c
        else:
            runs.append([c, c, found])
    words, position = [], 0
    for first, last, value in runs:
        words.append(f"{first - position:x},{last - first + 1:x},{value:x}")
        position = last + 1
    return " ".join(words)


def literal(name, comment, text):
    lines = []
    while text:
        lines.append(text[:92])
        text = text[92:]
    body = "".join(f"    {line}\\\n" for line in lines[:-1]) + f"    {lines[-1]}\n"
    # A line that ends in a blank would lose it to editors.
    return f"  /// {comment}\n  static let {name}: String = \"\"\"\n{body}    \"\"\"\n"


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    digits = isolated_by(pre_tokenizers.Digits(individual_digits=True))
    parts = [
        literal("categories", "Runs of one general category: length and a letter, in the order of `categoryNames`.",
                categories()),
        literal("word", r"`\w`: lengths of the runs outside and inside, in turn.", run_lengths(matched(r"\w"))),
        literal("alphabetic", r"`\p{Alphabetic}`.", run_lengths(matched(r"\p{Alphabetic}"))),
        literal("space", r"`\s`, and what `lstrip` and `rstrip` swallow.", run_lengths(matched(r"\s"))),
        literal("wordNextToToken", "What keeps a `single_word` added token from being one.",
                run_lengths(word_scalars())),
        literal("numeric", "What `Digits` cuts at.", run_lengths(digits)),
        literal("punctuation", "What `Punctuation` cuts at.", run_lengths(isolated_by(pre_tokenizers.Punctuation()))),
    ]
    assert matched(r"\s") == spaces_swallowed()
    assert matched(r"\d") == matched(r"\p{Nd}")
    scripts = "".join(
        f'    "{name}": "{run_lengths(matched(property_of(name)))}",\n'
        for name in SCRIPTS)
    parts += [
        f"  /// Scripts by name, as `word`.\n  static let scripts: [String: String] = [\n{scripts}  ]\n",
        literal("decompositions", "Gap to the scalar before `=` canonical parts; `!`: not composed again.",
                decompositions()),
        literal("combiningClasses", "Runs of one combining class: gap, length, class.", combining_classes()),
    ]
    with open(sys.argv[1], "w") as file:
        file.write("// The Unicode sets of the `tokenizers` package "
                   f"{tokenizers.__version__}, written by tools/make_unicode_tables.py; do not edit.\n\n"
                   "// swift-format-ignore\nenum UnicodeTables {\n")
        names = ", ".join(f'"{name}"' for name in CATEGORIES)
        file.write(f"  static let categoryNames = [{names}]\n\n")
        file.write("\n".join(parts))
        file.write("}\n")


if __name__ == "__main__":
    main()
