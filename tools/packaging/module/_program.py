"""Runs the program: words in, lines and results out, errors raised."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from typing import Any, Callable, Dict, Optional

Progress = Callable[[str], object]
Events = Callable[[Dict[str, Any]], object]

_USAGE, _STOPPED = 64, 130
_ERROR = "error: "
_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class SluiceError(Exception):
    """What the program said when it failed; its exit code; what it had printed on stdout."""

    def __init__(self, message: str, exit_code: int, output: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.output = output


class UsageError(SluiceError):
    """An option or a value that the program does not take."""


class Stopped(SluiceError):
    """Something else than Ctrl-C stopped the run; the same call goes on from its last commit."""


def tell(line: str) -> None:
    """Write a line to ``sys.stderr``."""
    print(line, file=sys.stderr, flush=True)


def path() -> str:
    """Where the program is: what was installed with this module, or else on the PATH."""
    try:
        files = metadata.files("sluice") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "sluice" and file.parent.name == "bin":
            program = os.path.realpath(str(file.locate()))
            if os.access(program, os.X_OK):
                return program
    program_on_path = shutil.which("sluice")
    if program_on_path is None:
        raise FileNotFoundError("the program `sluice` is neither beside this module nor on the PATH; install it again")
    return program_on_path


def run(
    command: str,
    operands: Iterable[object],
    options: Mapping[str, object],
    progress: Optional[Progress],
    events: Optional[Events] = None,
    results: tuple[int, ...] = (0,),
) -> str:
    """Run a command of the program to its end.

    :param progress: gets the lines that it tells.
    :param events: gets its events in place of lines.
    :param results: exit codes of a run that came to a result.
    :returns: what it printed on stdout.
    """
    if events is not None:
        options = {**options, "log": "json"}
    words = [path(), command, *_words(options), "--", *(os.fspath(each) for each in operands)]  # type: ignore[call-overload]
    told: list[str] = []
    error: list[str] = []
    is_interrupted = False
    # stdout goes to a file, so that nobody has to read two pipes at once.
    with tempfile.TemporaryFile() as output:
        parent = os.getpid()
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            preexec_fn=lambda: _belong_to(parent),
        )
        with process:
            while True:
                try:
                    for line in process.stderr or ():
                        line = line.rstrip("\n")
                        # A command line that the program cannot read is told as text.
                        if events is not None and line.startswith("{"):
                            event = json.loads(line)
                            if event["event"] == "error":
                                error.append(_ERROR + event["message"])
                            else:
                                told.append(line)
                                events(event)
                        elif error or line.startswith(_ERROR):
                            error.append(line)
                        else:
                            told.append(line)
                            if progress is not None:
                                progress(line)
                    process.wait()
                    break
                except KeyboardInterrupt:
                    is_interrupted = True
                    process.send_signal(signal.SIGINT)
                except BaseException:
                    process.terminate()
                    raise
        output.seek(0)
        printed = output.read().decode("utf-8", "replace")
    code = process.returncode
    if is_interrupted:
        raise KeyboardInterrupt("\n".join(told[-2:]))
    if code not in results or error:
        raise _failure(code, error, told, printed)
    return printed


def _belong_to(parent: int) -> None:
    """In the new process: Ctrl-C is Python's alone, which hands it on once; and the program ends when Python is killed."""
    os.setpgid(0, 0)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _failure(code: int, error: list[str], told: list[str], printed: str) -> SluiceError:
    message = "\n".join(error)[len(_ERROR) :] or "\n".join(told[-2:])
    if code < 0:
        return SluiceError(f"the program was ended by {signal.Signals(-code).name}", code, printed)
    kinds = {_USAGE: UsageError, _STOPPED: Stopped}
    return kinds.get(code, SluiceError)(message or f"the program ended with {code}", code, printed)


def _words(options: Mapping[str, object]) -> Iterator[str]:
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            yield option
            continue
        for each in value if isinstance(value, (list, tuple)) else [value]:
            yield f"{option}={os.fspath(each) if isinstance(each, os.PathLike) else each}"
