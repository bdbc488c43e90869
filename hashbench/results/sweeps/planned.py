"""The runs that sweeps planned: which of them have a result, and to which cell of a table each belongs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hashbench.results.runs import RESULT, TUNING
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


def planned_runs(roots: Iterable[Path | str], problems: list[str]) -> list[Planned]:
    """Return what sweeps planned below `roots`, by place; sentences about unreadable notes join `problems`."""
    found: dict[Path, Planned] = {}
    notes: dict[Path, dict[Path, dict[str, Any]]] = {}
    for root in (Path(os.path.abspath(root)) for root in roots):
        for runs_dir in _runs_dirs(root):
            if runs_dir not in notes:
                notes[runs_dir] = read_sweeps(runs_dir, problems)
            for note, stored in notes[runs_dir].items():
                for run in _planned(note, stored, runs_dir):
                    if run.path.is_relative_to(root):
                        before = found.get(run.path, run)
                        found[run.path] = replace(run, sweeps=run.sweeps | before.sweeps)
    return sorted(found.values(), key=lambda run: run.path)


def read_sweeps(runs_dir: Path, problems: list[str]) -> dict[Path, dict[str, Any]]:
    """Return the notes of the sweeps in a runs directory, by their paths.

    Each has `runs`, by place below `runs_dir`, and may have `cells`. Sentences about those that cannot be read, or name
    what is no place of a run, join `problems`.
    """
    found: dict[Path, dict[str, Any]] = {}
    try:
        names = [name for name in files.names_in(runs_dir / SWEEPS) if name.endswith(".json")]
    except FileNotFoundError:
        return found
    except OSError as error:
        problems.append(f"The folder {runs_dir / SWEEPS} cannot be read: {error.strerror}; what is missing is unknown.")
        return found
    for file in (runs_dir / SWEEPS / name for name in names):
        try:
            note = loads(files.read_note(file))
            if wrong := [place for place in note["runs"] if not _is_place(place)]:
                raise ValueError(f"{wrong[0]!r:.60} is no place of a run")
            if not all(isinstance(cell, dict) for cell in (note["runs"], *note.get("cells", {}).values())):
                raise TypeError
            found[file] = note
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"{file} cannot be read: {_reason(error)}; what it planned is unknown, so delete it.")
    return found


def _is_place(place: str) -> bool:
    """Return whether `place` is of the form dataset/method/bits/name, and can be that of a folder."""
    parts = place.split("/")
    return (
        len(parts) == _DEPTH
        and place.isprintable()
        and all(part not in ("", ".", "..") and len(part.encode()) < 256 for part in parts)
    )


def _reason(error: Exception) -> str:
    if isinstance(error, ValueError | OSError):
        return (isinstance(error, OSError) and error.strerror) or str(error)
    return "it is no note of a sweep"


def _runs_dirs(root: Path) -> Iterator[Path]:
    """Yield the runs directories around and below a folder in which sweeps were started."""
    yield from (folder for folder in (root, *root.parents)[: _DEPTH + 1] if files.is_folder(folder / SWEEPS))
    for folder, subfolders, names in files.walk(root):
        if SWEEPS in subfolders and folder != str(root):
            yield Path(folder)
        subfolders[:] = [name for name in subfolders if name != TUNING]
        if RESULT in names:
            subfolders.clear()


def _planned(note: Path, stored: dict[str, Any], runs_dir: Path) -> Iterator[Planned]:
    for place in stored["runs"]:
        parts = place.split("/")
        if parts[2].removesuffix("b").isdecimal():
            path, known = runs_dir.joinpath(*parts), stored.get("cells", {}).get(place, {})
            cell = {key: str(known.get(key, "")) for key in ("cell", "row", "dataset")}
            yield Planned(path, frozenset([note]), files.exists(path / RESULT), **cell)
