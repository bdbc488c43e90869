"""The runs that sweeps planned: which of them have a result, and to which cell of a table each belongs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hashbench.results.runs import RESULT
from hashbench.storage import files
from hashbench.storage.strict_json import loads

SWEEPS = ".sweeps"  # in a runs directory: a file for each sweep that was started
_DEPTH = 4  # of a run below its runs directory: data set, method, bits, run


@dataclass(frozen=True)
class Planned:
    """A run that sweeps planned; `cell`, `row` and `dataset` are "" in notes of older versions."""

    path: Path  # of its run directory, absolute
    sweeps: frozenset[Path]  # the notes that name it
    finished: bool
    cell: str = ""  # as in the coordinates of its result
    row: str = ""  # as the sweep named it: `crh (reassign=false)`
    dataset: str = ""  # cifar10@54k

    @property
    def place(self) -> str:
        """Where it belongs in its runs directory."""
        return "/".join(self.path.parts[-_DEPTH:])

    @property
    def bits(self) -> int:
        """Its code length."""
        return int(self.path.parts[-2].removesuffix("b"))


def planned_runs(roots: Iterable[Path | str]) -> list[Planned]:
    """Return what sweeps planned below `roots`, by place; a note that cannot be read plans nothing."""
    found: dict[Path, Planned] = {}
    for root in (Path(os.path.abspath(root)) for root in roots):
        for runs_dir in _runs_dirs(root):
            for note in sorted((runs_dir / SWEEPS).glob("*.json")):
                for run in _read(note, runs_dir):
                    if run.path.is_relative_to(root):
                        before = found.get(run.path, run)
                        found[run.path] = replace(run, sweeps=run.sweeps | before.sweeps)
    return sorted(found.values(), key=lambda run: run.path)


def _runs_dirs(root: Path) -> Iterator[Path]:
    """Yield the runs directories around and below a folder in which sweeps were started."""
    yield from (folder for folder in (root, *root.parents)[: _DEPTH + 1] if (folder / SWEEPS).is_dir())
    for folder, subfolders, names in os.walk(root):
        if SWEEPS in subfolders and folder != str(root):
            yield Path(folder)
        if RESULT in names:
            subfolders.clear()


def _read(note: Path, runs_dir: Path) -> Iterator[Planned]:
    try:
        stored = loads(files.read_note(note))
        for place in stored["runs"]:
            parts = place.split("/")
            if len(parts) == _DEPTH and ".." not in parts and parts[2].removesuffix("b").isdecimal():
                path, known = runs_dir.joinpath(*parts), stored.get("cells", {}).get(place, {})
                cell = {key: str(known.get(key, "")) for key in ("cell", "row", "dataset")}
                yield Planned(path, frozenset([note]), os.path.lexists(path / RESULT), **cell)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # `status` names it
