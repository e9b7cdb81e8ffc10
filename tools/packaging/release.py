"""What is packaged: the program, built for it, and what it says of itself. A module, not a command."""

import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ABSTRACT = "quantize Mixture-of-Experts checkpoints that are many times larger than RAM"


class Failure(Exception):
    """What went wrong, for whoever called the command."""


def run(*command, **options):
    """The stdout of a command that must succeed."""
    words = [str(word) for word in command]
    try:
        result = subprocess.run(words, text=True, stdout=subprocess.PIPE, **options)
    except FileNotFoundError:
        raise Failure(f"`{words[0]}` is not on the PATH; install it") from None
    if result.returncode:
        raise Failure(f"`{' '.join(words)}` failed with {result.returncode}; see its message above\n{result.stdout[-4000:]}")
    return result.stdout


class Release:
    """The program with Swift's runtime inside and without symbols.

    build: SwiftPM's folder for it. The two packages differ in the flags of the linker alone, so the second is only
    linked again.
    """

    def __init__(self, build, *linking):
        flags = [word for flag in ("-s", *linking) for word in ("-Xlinker", flag)]
        print("== Build (some minutes, the first time)", flush=True)
        run("swift", "build", "-c", "release", "--product", "sluice", "--static-swift-stdlib", "--disable-local-rpath",
            "--scratch-path", build, *flags, cwd=ROOT)
        self.build = build
        self.program = build / "release/sluice"
        version = self.says("--version")
        self.number, self.commit = re.match(r"sluice (\S+) \((\w+)\)", version).groups()
        self.time = int(os.environ.get("SOURCE_DATE_EPOCH") or self._time_of_sources())
        if self.commit != "unknown" and self._git("status", "--porcelain", "--untracked-files=no"):
            print(f"warning: the sources are other than those of commit {self.commit}", file=sys.stderr)
        self.date = datetime.datetime.fromtimestamp(self.time, datetime.timezone.utc)

    def says(self, *words):
        return run(self.program, *words)

    def commands(self):
        """The definitions of all commands."""
        return json.loads(self.says("--experimental-dump-help"))["command"]

    def completions(self, shell):
        """A file that the shell reads, so without the first line of a command."""
        text = self.says("--generate-completion-script", shell)
        return text.split("\n", 1)[1] if text.startswith("#!") else text

    def _time_of_sources(self):
        if self.commit == "unknown":
            return (ROOT / "Package.swift").stat().st_mtime
        return self._git("show", "--no-patch", "--format=%ct", self.commit)

    @staticmethod
    def _git(*words):
        return run("git", "-C", ROOT, *words).strip()

    @property
    def is_tagged(self):
        """Whether these are the sources of a release, or nobody can tell."""
        return self.commit == "unknown" or f"v{self.number}" in self._git("tag", "--points-at", self.commit).split()

    @property
    def debian(self):
        """Sorts before the release it leads to."""
        return self.number if self.is_tagged else f"{self.number}~git{self.date:%Y%m%d}.{self.commit[:8]}"

    @property
    def python(self):
        return self.number if self.is_tagged else f"{self.number}.dev{self.date:%Y%m%d}+g{self.commit[:8]}"

    def licences(self):
        """The licences of Sluice and of what is linked into it, as (name, what it is of, text)."""
        checkouts = self.build / "checkouts"
        swift = Path(run("sh", "-c", "readlink -f \"$(command -v swift)\"").strip()).parents[1]
        files = [
            ("LICENSE", "Sluice", ROOT / "LICENSE"),
            ("LICENSE-PYTHON.txt", "docstrings of Python's standard library in the built-in chats",
             ROOT / "Sources/C/CBuiltinChats/LICENSE-PYTHON.txt"),
            ("LICENSE-SWIFT.txt", "Swift's runtime and libraries (Dispatch, Foundation), and swift-argument-parser",
             swift / "share/swift/LICENSE.txt"),
            ("LICENSE-YAMS.txt", "Yams, with LibYAML", checkouts / "Yams/LICENSE"),
            ("LICENSE-LIBYAML.txt", "LibYAML, in Yams", Path(__file__).with_name("LICENSE-LIBYAML.txt")),
            ("LICENSE-BIGINT.txt", "BigInt", checkouts / "BigInt/LICENSE.md"),
            ("LICENSE-ICU.txt", "ICU, in Foundation", Path(__file__).with_name("LICENSE-ICU.txt")),
        ]
        for _, what, path in files:
            if not path.is_file():
                raise Failure(f"`{path}` is not there, the licence of {what}")
        return [(name, what, path.read_text()) for name, what, path in files]
