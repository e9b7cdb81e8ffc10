"""What a disk may hold after a loss of power, rebuilt from a trace of Tests/CFaultShim.

Certain is only what was synced: the content and size of a file as of its last fsync or fdatasync, the names in a folder
as of the folder's last fsync. Of what came later any part may have arrived: writes page by page, the size as of any
moment, names in order or out of it. An fsync that failed leaves some pages lost for good, as Linux does: they count as
clean, and a later fsync does not write them.
"""
import io
import os
import random

PAGE = 4096
SYNCS = {"fsync", "fdatasync"}


class Call:
    """A line of a trace, and what was written."""

    def __init__(self, line, data):
        self.name, result, offset, length, paths = line.split(" ", 4)
        self.failed = result == "-1"
        self.offset, self.length = int(offset), int(length)
        self.path, _, self.target = paths.partition("\t")
        self.data = None
        if self.name in {"write", "pwrite"} and not self.failed:
            self.data = data.read(self.length)


def read_trace(path):
    with open(path, encoding="utf-8") as lines, open(f"{path}.data", "rb") as data:
        return [Call(line.rstrip("\n"), data) for line in lines]


class File:
    def __init__(self):
        self.durable = bytearray()
        self.size = 0
        self.pending = []  # (size afterwards, offset, bytes) of a write; (size afterwards, None, None) of a change of size

    def write(self, offset, data):
        self.size = max(self.size, offset + len(data))
        self.pending.append((self.size, offset, data))

    def resize(self, size):
        if size != self.size:
            self.size = size
            self.pending.append((size, None, None))

    def content(self, chance, sizes, rng):
        """With each unsynced page arriving by `chance`, and the size as it was after `sizes` of the pending calls."""
        data = bytearray(self.durable)
        size = len(data)
        for count, (after, offset, piece) in enumerate(self.pending, 1):
            if count <= sizes:
                if piece is None:
                    del data[after:]
                size = after
            if piece is None:
                continue
            start = 0
            while start < len(piece):
                end = min(len(piece), start + PAGE - (offset + start) % PAGE)
                if chance == 1 or rng.random() < chance:
                    place = offset + start
                    data.extend(bytes(max(0, place - len(data))))
                    data[place:place + end - start] = piece[start:end]
                start = end
        del data[size:]
        data.extend(bytes(size - len(data)))
        return data

    def synchronize(self):
        self.durable = self.content(1, len(self.pending), None)
        self.pending = []

    def fail_to_synchronize(self, rng):
        self.durable = self.content(0.5, len(self.pending), rng)
        self.pending = []

    def after_crash(self, luck, rng):
        sizes = {0: 0, 1: len(self.pending)}.get(luck, rng.randint(0, len(self.pending)))
        return self.content(luck, sizes, rng)


class Folder:
    def __init__(self):
        self.durable = {}
        self.names = {}
        self.pending = []  # (name that goes, name that comes, what it leads to); either name may be None

    def change(self, gone, come, node):
        change = (gone, come, node)
        self._apply(self.names, change)
        self.pending.append(change)

    @staticmethod
    def _apply(names, change):
        gone, come, node = change
        if gone is not None and names.get(gone) is node:
            del names[gone]
        if come is not None:
            names[come] = node

    def synchronize(self):
        self.durable = dict(self.names)
        self.pending = []

    def after_crash(self, luck, rng):
        names = dict(self.durable)
        in_order = rng.random() < 0.5
        first = {0: 0, 1: len(self.pending)}.get(luck, rng.randint(0, len(self.pending)))
        for count, change in enumerate(self.pending):
            if count < first if in_order or luck in (0, 1) else rng.random() < luck:
                self._apply(names, change)
        return names


class Disk:
    """A folder, empty at first, after some calls of a trace."""

    def __init__(self, root, calls, rng):
        self.root = str(root)
        self.top = Folder()
        for call in calls:
            self._do(call, rng)

    def _find(self, path):
        if path == self.root:
            return self.top
        folder, name = self._place(path)
        return folder.names.get(name) if folder else None

    def _place(self, path):
        above, name = os.path.split(path)
        return self._find(above), name

    def _do(self, call, rng):
        node = self._find(call.path)
        if call.failed:
            if call.name in SYNCS and isinstance(node, File):
                node.fail_to_synchronize(rng)
            return
        folder, name = self._place(call.path) if call.path != self.root else (None, None)
        if call.name == "open":
            if node is None:
                folder.change(None, name, File())
            elif call.offset:
                node.resize(0)
        elif call.name == "mkdir":
            folder.change(None, name, Folder())
        elif call.name == "rename":
            target, new = self._place(call.target)
            if target is not folder:
                raise SystemExit(f"error: {call.path} is renamed into another folder, which is not modelled")
            folder.change(name, new, node)
        elif call.name in {"unlink", "rmdir"}:
            folder.change(name, None, node)
        elif node is None:
            # Written after its name was removed.
            if not call.path.endswith(" (deleted)"):
                raise SystemExit(f"error: {call.name} on {call.path}, which the trace never opened")
        elif call.name in {"write", "pwrite"}:
            node.write(call.offset, call.data)
        elif call.name == "ftruncate":
            node.resize(call.length)
        elif call.name == "posix_fallocate":
            node.resize(max(node.size, call.offset + call.length))
        elif call.name in SYNCS:
            node.synchronize()
        else:
            raise SystemExit(f"error: {call.name} is not modelled")

    def crash(self, target, rng, luck=None):
        """Writes what may be left to the folder `target`.

        luck: 0 for nothing but what was synced, 1 for everything, None for anything.
        """
        self._write(self.top, str(target), rng, luck)

    def _write(self, folder, path, rng, luck):
        def chance():
            return luck if luck is not None else rng.choice([0, 1, 0.5, rng.random()])

        os.makedirs(path, exist_ok=True)
        for name, node in folder.after_crash(chance(), rng).items():
            if isinstance(node, Folder):
                self._write(node, f"{path}/{name}", rng, luck)
            else:
                with open(f"{path}/{name}", "wb") as file:
                    file.write(node.after_crash(chance(), rng))


def self_test():
    """Insists that what was synced stays, and that the rest may stay or go."""
    def calls(*lines):
        return [Call(line, io.BytesIO(data)) for line, data in lines]

    synced = calls(
        ("open 0 1 0 /r/a", b""), ("pwrite 0 0 5 /r/a", b"first"), ("fdatasync 0 0 0 /r/a", b""),
        ("fsync 0 0 0 /r", b""))
    unsynced = calls(("pwrite 0 0 5 /r/a", b"later"), ("open 0 1 0 /r/b", b""))
    seen = set()
    for seed in range(200):
        rng = random.Random(seed)
        names = Disk("/r", synced + unsynced, rng).top.after_crash(rng.choice([0, 0.5, 1]), rng)
        seen.add((bytes(names["a"].after_crash(rng.choice([0, 0.5, 1]), rng)), "b" in names))
    if seen != {(text, there) for text in (b"first", b"later") for there in (True, False)}:
        raise SystemExit(f"error: self-test of power_loss: {seen}")
    failed = calls(
        ("pwrite 0 0 5 /r/a", b"later"), ("fdatasync -1 0 0 /r/a", b""), ("fdatasync 0 0 0 /r/a", b""))
    seen = {bytes(Disk("/r", synced + failed, random.Random(seed)).top.names["a"].durable) for seed in range(20)}
    if seen != {b"first", b"later"}:
        raise SystemExit(f"error: self-test of power_loss: a failed fdatasync leaves {seen}")
