"""The progress of sweeps: the runs in a runs directory, finished or not, and those planned there."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hashbench.errors import HashbenchError
from hashbench.results.runs import RESULT, RunDirectory
from hashbench.results.sweeps.estimates import duration
from hashbench.results.sweeps.run_status import RunStatus, State, run_status
from hashbench.results.tables import render
from hashbench.storage import files
from hashbench.storage.strict_json import digest, document, loads

SWEEPS = ".sweeps"  # in a runs directory: a file for each sweep that was started, which `status` alone reads
_COLUMNS: tuple[State, ...] = ("finished", "running", "failed", "interrupted", "to do")


@dataclass(frozen=True)
class RunProgress:
    """One run of a sweep: its place `dataset/method/bits/name`, its status, and the pace of a running one."""

    place: tuple[str, ...]
    status: RunStatus
    pace: str = ""


def record_sweep(runs_dir: Path, directories: Iterable[RunDirectory]) -> None:
    """Store which runs a sweep consists of, so that `status` shows what is to do; skips a read-only folder."""
    places = sorted(directory.path.relative_to(runs_dir).as_posix() for directory in directories)
    note = {
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "asked": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": {place: {} for place in places},
    }
    try:
        files.make_folder(runs_dir / SWEEPS)
        files.write_text(runs_dir / SWEEPS / f"{digest(places)[:16]}.json", document(note))
    except HashbenchError:
        return  # a read-only folder, in which all of the sweep is finished


def find_all(runs_dir: Path) -> list[RunProgress]:
    """Return the runs below `runs_dir`, started or only planned, by place; raises HashbenchError without a folder."""
    if not runs_dir.is_dir():
        raise HashbenchError(
            f"There is no folder {runs_dir}; name a runs directory, or start a run with `hashbench run`."
        )
    places = {Path(*place.split("/")) for place in _planned_places(runs_dir)}
    for folder, subfolders, names in os.walk(runs_dir):
        if RESULT in names or "spec.json" in names:
            subfolders.clear()
            places.add(Path(folder).relative_to(runs_dir))
    return [_read_run(runs_dir, place) for place in sorted(places, key=_order)]


def table(runs: Sequence[RunProgress]) -> str:
    """Return the runs as text: counts by data set, method and bits, then what runs and what failed."""
    groups: dict[tuple[str, ...], Counter[str]] = {}
    for run in runs:
        groups.setdefault(run.place[:-1], Counter())[run.status.state] += 1
    shown = [state for state in _COLUMNS if any(states[state] for states in groups.values())]
    rows = [["/".join(place), *(states[state] or None for state in shown)] for place, states in groups.items()]
    total = Counter(run.status.state for run in runs)
    rows.append(["all", *(total[state] for state in shown)])
    sections = [render.plain_table(rows, header=["runs", *shown])]
    for state in ("running", "failed"):
        lines = [
            f"  {'/'.join(run.place)}: {', '.join(filter(None, (run.pace, run.status.note)))}"
            for run in runs
            if run.status.state == state
        ]
        if lines:
            sections.append("\n".join([f"{state}:", *lines]))
    return "\n\n".join(sections)


def _planned_places(runs_dir: Path) -> list[str]:
    found: list[str] = []
    for file in sorted((runs_dir / SWEEPS).glob("*.json")):
        try:
            found += loads(file.read_bytes())["runs"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged: the runs that have a folder are shown all the same
    return [place for place in found if ".." not in place.split("/")]


def _read_run(runs_dir: Path, place: Path) -> RunProgress:
    directory = RunDirectory(runs_dir / place)
    found = run_status(directory)
    return RunProgress(place.parts, found, _pace(directory) if found.state == "running" else "")


def _pace(directory: RunDirectory) -> str:
    """Return how far a running training is, by its log: epochs, images per second, and the time that is left."""
    if directory.again.path.is_dir():
        directory = directory.again
    try:
        identity = directory.read_spec()["identity"]
        epochs = [line for line in directory.read_log() if "epoch" in line]
        of, images = identity["recipe"]["epochs"], identity["data"]["num_train"]
        done, seconds = (epochs[-1]["epoch"] + 1, epochs[-1]["seconds"]) if epochs else (0, 0.0)
    except (HashbenchError, KeyError, TypeError):
        return ""
    if not done:
        return f"epoch 1 of {of}"
    if done >= of:
        return "encoding and evaluating"
    rate = images * done / max(seconds, 1e-9)
    return f"epoch {done + 1} of {of}, {rate:,.0f} images/s, about {duration((of - done) * seconds / done)} left"


def _order(place: Path) -> list[tuple[int, str]]:
    """Return the key that sorts 8b before 16b."""
    return [(int(part[:-1]) if part[:-1].isdigit() and part.endswith("b") else 0, part) for part in place.parts]
