"""Whole runs of the program, measured from outside and by their own report."""
import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SLUICE = ROOT / ".build/release/sluice"


@dataclass
class Run:
    """What a process took: on the clock, and of all its threads together; `steps` holds seconds on the clock."""
    seconds: float
    processor: float
    steps: dict


def output_of(command):
    result = subprocess.run(list(map(str, command)), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if result.returncode:
        raise SystemExit(f"error: {' '.join(map(str, command))}\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.stdout


def measured(command):
    """(seconds on the clock, seconds of all processors) of one process and those it waited for."""
    with tempfile.TemporaryFile("w+") as log:
        start = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"error: {' '.join(map(str, command))}\n{log.read()[-2000:]}")
    return seconds, usage.ru_utime + usage.ru_stime


def plan(model, data, *flags):
    return json.loads(output_of([SLUICE, "plan", model, "--calibration", data, "--json", *flags]))


def quantize(model, data, *flags):
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        seconds, processor = measured([SLUICE, "quantize", model, "--calibration", data, "-o", f"{folder}/out", *flags])
        report = json.loads(Path(f"{folder}/out/.sluice/report.json").read_text())
    return Run(seconds, processor, {step["step"]: step["seconds"] for step in report["cost"]["steps"]})
