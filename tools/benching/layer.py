"""A layer of true shapes: its time beside the sum of its physical limits, and how it grows."""
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benching.runs import ROOT, output_of, plan, quantize

SEQUENCE = 512


def write_ids(path, tokens, vocabulary):
    """Random token ids in sequences of one length."""
    source = random.Random(1)
    with open(path, "w") as file:
        for _ in range(tokens // SEQUENCE):
            file.write(json.dumps({"input_ids": [source.randrange(vocabulary) for _ in range(SEQUENCE)]}) + "\n")


def size(text):
    """'4GiB' in bytes."""
    number, unit = re.fullmatch(r"([0-9.]+)(\w+)", text).groups()
    return float(number) * 1024 ** ["B", "KiB", "MiB", "GiB", "TiB"].index(unit)


def benching(*words):
    subprocess.run(["swift", "build", "-c", "release", "--product", "benching"], cwd=ROOT, check=True, stdout=sys.stderr)
    return output_of([ROOT / ".build/release/benching", *words])


def limits(threads):
    """Operations a second by engine, and bytes a second, of so many cores together."""
    return json.loads(benching("limits", threads))


def limit_by_step(planned, peak, kind=""):
    """Seconds that the arithmetic of each step takes at peak; the bytes of all of them, read and written, beside it.

    `kind` is "_processor" for seconds of a processor, of all threads together.
    """
    fast, exact = peak[planned["engine"] + kind], peak["f32" + kind]
    result = {step["step"]: (step["operations"] - step["f32_operations"]) / fast + step["f32_operations"] / exact
              for step in planned["steps"]}
    # The output is written, and read once more for its checksums; scratch is written and read.
    moved = planned["source_read_bytes"] + 2 * planned["output_bytes"] + 2 * planned["scratch_bytes"]
    return result, moved / peak["bytes"]


def compare(model, data, threads, budget, alone):
    """The layer of `model` beside its limits, which are measured before and after: the better count.

    `alone`: also on one thread.
    """
    flags = ["--memory", budget, "--threads", str(threads)]
    before = limits(threads)
    planned = plan(model, data, *flags)
    run = quantize(model, data, *flags)
    after = limits(threads)
    peak = {name: max(before[name], after[name]) for name in before}
    for name, unit in ("bf16", "GFLOP/s"), ("f32", "GFLOP/s"), ("bytes", "GB/s"):
        yield f"peak of {threads} cores, {name}", peak[name] / 1e9, unit
    steps, moving = limit_by_step(planned, peak)
    for step, seconds in run.steps.items():
        yield f"layer, {step}", seconds, "s"
        if steps.get(step, 0) > 0:
            yield f"layer, {step}, share of its arithmetic's limit", 100 * steps[step] / seconds, "%"
    limit = sum(steps.values()) + moving
    yield "layer, limit of arithmetic", sum(steps.values()), "s"
    yield "layer, limit of bytes moved", moving, "s"
    yield f"layer, {threads} threads", run.seconds, "s"
    yield f"layer, {threads} threads, processor time", run.processor, "s"
    yield f"layer, {threads} threads, limit / time", 100 * limit / run.seconds, "%"
    # What other work on the machine takes does not count here.
    steps, _ = limit_by_step(planned, peak, "_processor")
    share = 100 * (sum(steps.values()) + threads * moving) / run.processor
    yield f"layer, {threads} threads, limit / processor time", share, "%"
    yield f"layer, {threads} threads, planned / taken", planned["seconds"] / run.seconds, "x"
    if alone:
        one = quantize(model, data, "--memory", budget, "--threads", "1")
        yield "layer, 1 thread", one.seconds, "s"
        yield f"layer, 1 thread / {threads} threads", one.seconds / run.seconds, "x"


def serial(model, data, threads, budget, samples):
    """What fewer than all threads do, by step, and what more threads would make of it."""
    counts = sorted({threads, 8, 32, 64})
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        lines = benching("serial", model, data, f"{folder}/out", threads, int(size(budget)), samples, SEQUENCE, *counts)
    steps = [json.loads(line) for line in lines.splitlines()]
    processor = {step["step"]: step["processor"] for step in steps}
    whole = sum(processor.values())
    for step in steps:
        name = step["step"]
        if processor[name] < whole / 1000:
            continue
        yield f"{name}, processor time", processor[name], "s"
        yield f"{name}, {threads} threads, time on the clock", step["seconds"], "s"
        yield f"{name}, between loops", 100 * step["outside"] / processor[name], "% of its processor time"
        yield f"{name}, side by side", 100 * step["side_by_side"] / processor[name], "% of its processor time"
        few = sum(seconds for count, seconds in step["loops"].items() if int(count) < max(counts))
        yield f"{name}, in loops of fewer than {max(counts)} tasks", 100 * few / processor[name], "% of its processor time"
        for count in counts:
            seconds, waiting = step["threads"][str(count)]
            yield f"{name}, {count} threads: time with fewer at work", 100 * waiting / seconds, f"% of {seconds:.3g} s"
    for count in counts:
        seconds, waiting = (sum(step["threads"][str(count)][place] for step in steps) for place in (0, 1))
        yield f"{count} threads: time with fewer at work", 100 * waiting / seconds, f"% of {seconds:.3g} s"
        yield f"{count} threads: as many as do all the time", whole / seconds, "threads"


def scaling(tokens, experts, budgets, threads):
    """How processor time grows with tokens and experts, and changes with threads and budget; layers are made for it."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        def model(count):
            path = Path(f"{folder}/{count}-experts")
            if not path.exists():
                output_of([ROOT / "tools/fixtures/make_large_model", path, "--experts", count])
            return path

        def ids(count):
            path = Path(f"{folder}/{count}.jsonl")
            if not path.exists():
                write_ids(path, count, 4096)
            return path

        def run(experts, tokens, threads, budget, *flags):
            return quantize(model(experts), ids(tokens), "--threads", str(threads), "--memory", budget, *flags)

        least, few, budget = experts[0], tokens[len(tokens) // 2], "4GiB"
        slopes, last = [], None
        for count in tokens:
            # Compensated rounding takes most of a layer's time, once for all tokens, and would hide what one of them takes.
            # A difference of two runs is asked for: the better of two each.
            spent = min(run(least, count, threads, budget, "--rounding", "nearest").processor for _ in range(2))
            yield f"{least} experts, {count} tokens to nearest, processor time", spent, "s"
            if last:
                slopes.append((spent - last[1]) / (count - last[0]))
                yield f"a token more, {last[0]} to {count} tokens", 1000 * slopes[-1], "ms"
            last = count, spent
        if len(slopes) > 1:
            yield "a token more, at the end / at the beginning", slopes[-1] / slopes[0], "x"
        slopes, last = [], None
        for count in experts:
            spent = run(count, few, threads, budget).processor
            yield f"{count} experts, {few} tokens, processor time", spent, "s"
            if last:
                slopes.append((spent - last[1]) / (count - last[0]))
                yield f"an expert more, {last[0]} to {count} experts", slopes[-1], "s"
            last = count, spent
        if len(slopes) > 1:
            yield "an expert more, at the end / at the beginning", slopes[-1] / slopes[0], "x"
        one, many = (run(least, few, count, budget).seconds for count in (1, threads))
        yield f"{least} experts, {few} tokens, 1 thread / {threads} threads", one / many, "x"
        smallest = plan(model(least), ids(few), "--threads", str(threads), "--memory", budget)["smallest_budget_bytes"]
        budgets = [each for each in budgets if size(each) >= smallest]
        spent = {each: run(least, few, threads, each).processor for each in budgets}
        for each, seconds in spent.items():
            yield f"{least} experts, {few} tokens, {each} / {budgets[-1]}, processor time", seconds / spent[budgets[-1]], "x"
