"""The presets that a build of sluice knows, in its own words, and which of them llm-compressor 0.14 lacks."""
import re
import subprocess

# The same scheme as W8A8.
OTHER_NAMES = {"INT8"}
# compressed-tensors 0.19, which llm-compressor 0.14 comes with, does not know them.
UNKNOWN_TO_PEER = {"MXFP4XFP8", "MXFP6A16", "MXFP6A8"}


def presets(program):
    """Asks for a scheme that is none: the answer lists all."""
    run = subprocess.run([program, "plan", ".", "--scheme", "?"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    found = re.search(r"choose one of ([\w, ]+)", run.stderr)
    if not found:
        raise SystemExit(f"error: {program} does not list its schemes\n{run.stderr}")
    return [name for name in found[1].split(", ") if name not in OTHER_NAMES]
