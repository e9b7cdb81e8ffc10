"""Quantize Mixture-of-Experts checkpoints that are many times larger than RAM.

Each function runs the program ``sluice``, which comes with this module, and waits for it::

    import sluice

    sluice.oneshot("zai-org/GLM-4.7", "GLM-4.7-W4A16", dataset="chats.jsonl", memory="8GiB")
    report = sluice.verify("GLM-4.7-W4A16", source="zai-org/GLM-4.7")
    assert not report["findings"]

Options of the program are keyword arguments: ``--sequence-length 512`` is ``sequence_length=512``, a flag is ``True``,
and an option that may be given several times takes a list. ``sluice help quantize`` lists them.

``progress`` gets each line that the program tells while it runs; without it they go to ``sys.stderr``, and ``None``
drops them. ``events`` gets events in place of lines: what ``--log json`` prints, as dictionaries. Errors are :class:`SluiceError`. Ctrl-C (:class:`KeyboardInterrupt`) ends a run at its next commit, and a
second one at once; the same call goes on from there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

from ._program import Events, Progress, SluiceError, Stopped, UsageError, run, tell

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._options import EvaluateOptions, PlanOptions, QuantizeOptions, VerifyOptions

__all__ = ["SluiceError", "Stopped", "UsageError", "evaluate", "oneshot", "plan", "verify"]
try:
    __version__ = metadata.version("sluice")
except metadata.PackageNotFoundError:  # Not installed: a copy of the sources.
    __version__ = "unknown"

StrPath = Union[str, "os.PathLike[str]"]


def oneshot(
    model: StrPath,
    output: StrPath,
    *,
    recipe: Optional[StrPath] = None,
    dataset: Optional[StrPath] = None,
    progress: Optional[Progress] = tell,
    events: Optional[Events] = None,
    **options: Unpack[QuantizeOptions],
) -> Path:
    """Quantize a checkpoint: ``sluice quantize``.

    A run that was stopped or killed goes on from its last commit when the same call is made again.

    :param model: a model folder, or ``ORG/NAME[@REVISION]`` as in the local Hugging Face cache.
    :param output: the folder to write: new, empty, or one to go on with.
    :param recipe: an llm-compressor recipe, a YAML or JSON file.
    :param dataset: calibration data, as for ``--calibration``; without it the built-in chats.
    :param progress: called with each line that the program tells.
    :param events: called with each event, in place of lines.
    :param options: options of ``sluice quantize``.
    :returns: ``output`` as a path.
    """
    words = {**options, "output": output, "recipe": recipe, "calibration": dataset}
    run("quantize", [model], words, progress, events)
    return Path(output)


def plan(
    model: StrPath,
    *,
    recipe: Optional[StrPath] = None,
    dataset: Optional[StrPath] = None,
    progress: Optional[Progress] = tell,
    **options: Unpack[PlanOptions],
) -> dict[str, Any]:
    """Tell what a run will need, without running it: ``sluice plan``.

    Takes what :func:`oneshot` takes. Where memory or disk space will not do, the error is raised; its ``output`` has the
    plan, if there is one.

    :returns: what ``sluice plan --json`` prints.
    """
    words = {**options, "recipe": recipe, "calibration": dataset, "json": True}
    return _object(run("plan", [model], words, progress))


def verify(
    output: StrPath,
    *,
    source: Optional[StrPath] = None,
    progress: Optional[Progress] = tell,
    events: Optional[Events] = None,
    **options: Unpack[VerifyOptions],
) -> dict[str, Any]:
    """Check a quantized checkpoint, and measure it against its source: ``sluice verify``.

    Findings are no exception: look at ``["findings"]``.

    :param output: the folder that :func:`oneshot` wrote.
    :param source: the checkpoint it was made from.
    :returns: what ``sluice verify --json`` prints.
    """
    words = {**options, "source": source, "json": True}
    return _object(run("verify", [output], words, progress, events, results=(0, 1)))


def evaluate(
    model: Union[StrPath, Sequence[StrPath]],
    text: StrPath,
    *,
    reference: Optional[StrPath] = None,
    progress: Optional[Progress] = tell,
    events: Optional[Events] = None,
    **options: Unpack[EvaluateOptions],
) -> dict[str, Any]:
    """Measure a checkpoint's likelihood, and its distance to a reference: ``sluice evaluate``.

    :param model: a checkpoint, plain or quantized, or several.
    :param text: data as for ``dataset`` of :func:`oneshot`.
    :param reference: the checkpoint to compare with.
    :returns: what ``sluice evaluate --json`` prints.
    """
    words = {**options, "text": text, "reference": reference, "json": True}
    models = [model] if isinstance(model, (str, os.PathLike)) else model
    return _object(run("evaluate", models, words, progress, events))


def _object(text: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(text)
    return result
