"""Uses the module `sluice` as a program of somebody's would: tools/package test runs it in a bare virtual environment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

import sluice


def raised(call: Callable[[], object], kind: type[BaseException]) -> BaseException:
    try:
        call()
    except BaseException as error:
        assert type(error) is kind, (kind, repr(error))
        return error
    raise AssertionError(f"{kind} was not raised")


def main() -> None:
    # A shell may start its jobs with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    lines: list[str] = []
    output = sluice.oneshot(
        Path("GLM"), "module", dataset="ids.jsonl", samples=8, memory="128MiB", threads=2, progress=lines.append
    )
    assert output == Path("module") and (output / "config.json").is_file()
    assert any(line.startswith("layer 3 of 0-3") for line in lines), lines
    assert any(line.startswith("done: module") for line in lines), lines

    plan = sluice.plan("GLM", dataset="ids.jsonl", samples=8, ignore=["model.layers.0.*", "re:.*o_proj"], progress=None)
    assert plan["peak_bytes"] > 0 and len(plan["left"]) >= 2, plan

    assert sluice.verify(output, source="GLM", progress=None)["findings"] == []
    evaluation = sluice.evaluate(output, "ids.jsonl", reference="GLM", samples=2, progress=None)
    assert evaluation, evaluation
    events: list[dict[str, Any]] = []
    several = sluice.evaluate([output, "GLM"], "ids.jsonl", reference="GLM", samples=2, events=events.append)
    assert len(several) > 0 and {"layer", "progress"} & {event["event"] for event in events}, events

    # Errors: the program's words and exit code.
    error = raised(lambda: sluice.oneshot("nowhere", "x", progress=None), sluice.SluiceError)
    assert isinstance(error, sluice.SluiceError) and error.exit_code == 1 and "nowhere" in str(error), error
    assert not str(error).startswith("error:")
    error = raised(lambda: sluice.oneshot("GLM", "x", damping=7, progress=None), sluice.UsageError)
    assert isinstance(error, sluice.UsageError) and error.exit_code == 64 and "--damping" in str(error), error
    error = raised(lambda: sluice.oneshot("nowhere", "x", events=events.append), sluice.SluiceError)
    assert "nowhere" in str(error) and not str(error).startswith(("error:", "{")), error
    error = raised(lambda: sluice.oneshot("GLM", "x", recipe="none.yaml", progress=None), sluice.SluiceError)
    assert "none.yaml" in str(error), error

    # Findings are a result.
    shard = next(output.glob("*.safetensors"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert sluice.verify(output, progress=None)["findings"], "damage was not found"
    shard.write_bytes(data)

    failed()
    interrupted()
    killed()
    # Whatever ended it: the same call goes on, and writes the same bytes.
    for stopped in ("failed", "interrupted", "killed"):
        again(stopped, lines.append)
        # `evaluate` has added to the card of the first.
        for file in output.iterdir():
            assert file.is_dir() or file.name == "README.md" or file.read_bytes() == (Path(stopped) / file.name).read_bytes(), (stopped, file)
    print(f"module {sluice.__version__}: as it should be")


def again(output: str, progress: Callable[[str], object]) -> Path:
    return sluice.oneshot("GLM", output, dataset="ids.jsonl", samples=8, memory="128MiB", threads=2, progress=progress)


def failed() -> None:
    """An error in `progress` comes through, and ends the run."""

    def fail(line: str) -> None:
        if line.startswith("layer 0"):
            raise KeyError(line)

    raised(lambda: again("failed", fail), KeyError)


def interrupted() -> None:
    """Ctrl-C reaches the program once, which commits before Python goes on."""

    def interrupt(line: str) -> None:
        seen.append(line)
        if line.startswith("layer 0"):
            os.kill(os.getpid(), signal.SIGINT)

    seen: list[str] = []
    error = raised(lambda: again("interrupted", interrupt), KeyboardInterrupt)
    assert "the same command goes on" in str(error), error
    assert sum(line.startswith("stopping at the next commit") for line in seen) == 1, seen


def killed() -> None:
    """The program ends, at a commit, when Python is killed."""
    script = "import sys, use_module; use_module.again('killed', lambda line: print(line, file=sys.stderr, flush=True))"
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as python:
        assert python.stderr is not None
        for line in python.stderr:
            if line.startswith("layer 0"):
                break
        python.kill()
    for _ in range(600):
        status = subprocess.run(["v/bin/sluice", "status", "killed"], check=True, stdout=subprocess.PIPE, text=True).stdout
        if "killed: stopped" in status:
            return
        time.sleep(0.1)
    raise AssertionError(f"the run goes on without Python: {status}")


if __name__ == "__main__":
    main()
