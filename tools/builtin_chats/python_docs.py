"""Chats about Python's standard library: its docstrings as answers (PSF licence)."""

import json
import re

from core import Random, chat

# Parts of the library that carry a licence of their own, or that nobody asks about.
LEFT_OUT = {
    "_osx_support", "_sitebuiltins", "asynchat", "asyncore", "ctypes", "distutils", "ensurepip", "idlelib", "lib2to3",
    "logging", "optparse", "pip", "select", "sqlite3", "test", "trace", "turtle", "unittest", "uu", "venv", "xml",
    "xmlrpc",
}
QUESTIONS = [
    "What does `{full}` do?", "How do I use `{name}` from the `{module}` module?", "Explain `{full}`.",
    "Can you show me the docs for {full}?", "I came across `{name}` in `{module}`. What is it for?",
    "python {full} usage", "Give me a short reference for `{full}` in Python.",
    "What should I know before calling `{full}`?", "Please quote the documentation of `{name}` ({module}).",
    "Help with {module}: what is `{name}`?",
]
FOLLOWING = [
    "And `{full}`?", "Thanks. What about `{name}` in the same area (`{module}`)?", "Now `{full}`, please.",
    "OK, got it. How does `{full}` work?", "One more: `{name}` from `{module}`.",
]
SYSTEMS = [
    "You are a helpful assistant that knows the Python standard library.",
    "You answer questions about Python. Quote the documentation where you can.",
    "You are a programming tutor. Be precise and brief.",
]
SHAPES = [
    r"What does `(?P<full>\S+)` do\?", r"Give me the documentation of (?P<full>\S+), please\.",
    r"How do I use (?P<name>\S+) in (?P<module>\S+)\?",
    r"Explain `(?P<name>\S+)` from the Python module `(?P<module>\S+)`\.",
]


def entries(path):
    """(module, name, docstring), each once, in the order of the file."""
    seen = set()
    with open(path, encoding="utf-8") as file:
        for line in file:
            messages = [m for m in json.loads(line)["messages"] if m["role"] != "system"]
            for question, answer in zip(messages[::2], messages[1::2]):
                match = next(filter(None, (re.fullmatch(s, question["content"]) for s in SHAPES)), None)
                if match is None:
                    continue
                groups = match.groupdict()
                full = groups.get("full") or f"{groups['module']}.{groups['name']}"
                module, _, name = full.rpartition(".")
                text = answer["content"].strip()
                parts = full.split(".")
                if not module or parts[0] in LEFT_OUT or any(part.startswith("_") for part in parts):
                    continue
                if not 160 <= len(text) <= 4000 or re.search(r"://|\w@\w+\.\w", text) or full in seen:
                    continue
                seen.add(full)
                yield module, name, text


def select(path, budget):
    """Chats of one to three questions, about `budget` bytes, a few of them long."""
    random = Random("python docs")
    groups = {}
    for module, name, text in entries(path):
        groups.setdefault(module.split(".")[0], []).append((module, name, text))
    chats, used = [], 0
    # The fullest modules make a long dialogue each.
    fullest = sorted(groups, key=lambda top: (-len(groups[top]), top))[:6]
    for top in fullest:
        turns, length = [], 0
        while groups[top] and length < 7500:
            module, name, text = groups[top].pop()
            question = random.pick(FOLLOWING if turns else QUESTIONS)
            turns += [question.format(module=module, name=name, full=f"{module}.{name}"), text]
            length += len(text)
        chats.append(chat("python-docs-long", "en", *turns))
        used += length
    groups = {top: rest for top, rest in groups.items() if rest}
    # Round after round over the modules, so that no module fills the set.
    while used < budget and groups:
        for top in random.shuffled(sorted(groups)):
            rest = groups[top]
            turns = []
            for index in range(min(len(rest), random.pick([1, 1, 1, 2, 2, 3]))):
                module, name, text = rest.pop()
                question = random.pick(FOLLOWING if index else QUESTIONS)
                turns += [question.format(module=module, name=name, full=f"{module}.{name}"), text]
            if not rest:
                del groups[top]
            system = random.pick(SYSTEMS) if random.below(3) == 0 else None
            row = chat("python-docs", "en", *turns, system=system)
            chats.append(row)
            used += len(json.dumps(row, ensure_ascii=False).encode())
            if used >= budget:
                break
    return chats
