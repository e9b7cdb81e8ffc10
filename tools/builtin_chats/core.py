"""What every maker of chats shares: random numbers that never change, and the shape of a chat."""

MASK = (1 << 64) - 1


class Random:
    """SplitMix64. Python's own random module does not promise the same numbers from version to version."""

    def __init__(self, seed):
        self.state = 0
        for byte in str(seed).encode():
            self.state = (self.state * 1099511628211 + byte + 1) & MASK

    def bits(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, bound):
        return self.bits() % bound

    def between(self, low, high):
        """An integer from low to high, both included."""
        return low + self.below(high - low + 1)

    def pick(self, items):
        return items[self.below(len(items))]

    def shuffled(self, items):
        items = list(items)
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]
        return items

    def sample(self, items, count):
        return self.shuffled(items)[:count]


def chat(kind, language, *turns, system=None):
    """turns: user, assistant, user, assistant, ..."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    for index, text in enumerate(turns):
        messages.append({"role": ("user", "assistant")[index % 2], "content": text.strip("\n")})
    return {"kind": kind, "language": language, "messages": messages}


def markdown_table(header, rows, right=()):
    """right: the indices of the columns set flush right."""
    lines = ["| " + " | ".join(header) + " |"]
    lines.append("|" + "|".join("---:" if i in right else "---" for i in range(len(header))) + "|")
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def parse_written(text, name):
    """Chats written by hand. `@@ kind language` begins one; `@s`, `@u`, `@a` alone on a line begin a message."""
    chats, current, role = [], None, None
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("@@ "):
            kind, language = line[3:].split()
            current = {"kind": kind, "language": language, "messages": []}
            chats.append(current)
        elif line in ("@s", "@u", "@a"):
            role = {"@s": "system", "@u": "user", "@a": "assistant"}[line]
            current["messages"].append({"role": role, "content": ""})
        elif current is not None and current["messages"]:
            current["messages"][-1]["content"] += line + "\n"
        elif line.strip():
            raise ValueError(f"{name}:{number}: text outside of a chat")
    for row in chats:
        for message in row["messages"]:
            message["content"] = message["content"].strip("\n")
    return chats
