"""A finished run as TensorBoard shows it: the training log by epoch, and the measures at its end."""

from __future__ import annotations

import importlib.util
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from hashbench.errors import HashbenchError
from hashbench.results.runs import SCALARS, RunDirectory
from hashbench.storage.files import make_folder, reported

TENSORBOARD = "tensorboard"


def scalars_folder(target: str) -> Path | None:
    """Return the folder that `tensorboard:FOLDER` names, None for `tensorboard`, which means each run's own.

    Raises HashbenchError for another target, and where TensorBoard is not installed.
    """
    name, colon, folder = target.partition(":")
    if name != TENSORBOARD or (colon and not folder):
        raise HashbenchError(f"Scalars cannot be logged to '{target}'; write tensorboard or tensorboard:FOLDER.")
    if importlib.util.find_spec(TENSORBOARD) is None:
        raise HashbenchError(
            "--log-to tensorboard needs TensorBoard; install it: pip install 'hashbench[tensorboard]'."
        )
    return Path(folder) if folder else None


def write_scalars(run: RunDirectory, folder: Path | None = None, *, runs_dir: Path) -> Path:
    """Write the event file of a finished run, in the place of an older one, and return its folder.

    That is RUN/tensorboard, or the run's path below `runs_dir` in `folder`. Steps are the epochs of the log, from 0.
    Raises HashbenchError where the run cannot be read or nothing written.
    """
    from torch.utils.tensorboard import SummaryWriter

    found = [*_scalars(run)]
    place = run.path / SCALARS if folder is None else folder / run.path.resolve().relative_to(runs_dir.resolve())
    partial = place.with_name(f".{place.name}.part")
    make_folder(place.parent)
    with reported(place):
        shutil.rmtree(partial, ignore_errors=True)
        with SummaryWriter(str(partial)) as writer:
            for name, value, epoch in found:
                writer.add_scalar(name, value, epoch)
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    return place


def _scalars(run: RunDirectory) -> Iterator[tuple[str, float, int]]:
    """Yield name, value and epoch of each number in the log, and of the final measures."""
    last = 0
    for entry in run.read_log():
        if "epoch" in entry:
            last = entry["epoch"]
            for key, value in entry.items():
                for name, number in value.items() if isinstance(value, dict) else [("", value)]:
                    if key != "epoch" and _is_number(number):
                        yield f"{key}/{name}" if name else key, float(number), last
    for name, number in run.read_result().metrics.items():
        if _is_number(number):
            yield f"final/{name}", float(number), last


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
