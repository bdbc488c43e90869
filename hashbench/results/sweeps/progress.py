"""The progress of sweeps: the runs in a runs directory, finished or not, and those planned there."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hashbench.errors import HashbenchError
from hashbench.results.finding import run_folders
from hashbench.results.runs import RunDirectory
from hashbench.results.sweeps.estimates import Estimates, TimeLeft, Work, duration, plural, seconds_left
from hashbench.results.sweeps.planned import SWEEPS, read_sweeps
from hashbench.results.sweeps.run_status import RunStatus, State, run_status
from hashbench.results.tables import escaping, render
from hashbench.storage import files
from hashbench.storage.locks import LockWatch
from hashbench.storage.strict_json import as_text, digest, document

_COLUMNS: tuple[State, ...] = ("finished", "damaged", "running", "failed", "interrupted", "to do")


@dataclass(frozen=True)
class RunProgress:
    """One run of a sweep: its place `dataset/method/bits/name`, its status, and the pace of a running one."""

    place: tuple[str, ...]
    status: RunStatus
    pace: str = ""
    seconds: float | None = None  # that its training still takes, by its own pace
    work: Work | None = None  # as the sweep recorded it


def record_sweep(runs_dir: Path, works: Mapping[Path, Work], cells: Mapping[Path, Mapping[str, str]]) -> None:
    """Store which runs a sweep consists of, so that what is missing is known; skips a read-only folder.

    `cells` says which cell of a table each run belongs to: its sha256, its row and its data set.
    """
    by_place = {path.relative_to(runs_dir).as_posix(): work for path, work in works.items()}
    places = sorted(by_place)
    note = {
        "command": [as_text(part) for part in (os.path.basename(sys.argv[0]), *sys.argv[1:])],
        "asked": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": {place: asdict(by_place[place]) for place in places},
        "cells": {path.relative_to(runs_dir).as_posix(): {**cell} for path, cell in cells.items()},
    }
    try:
        files.make_folder(runs_dir / SWEEPS)
        files.write_text(runs_dir / SWEEPS / f"{digest(places)[:16]}.json", document(note))
    except HashbenchError:
        return  # a read-only folder, in which all of the sweep is finished


def find_all(runs_dir: Path, problems: list[str], *, watch: LockWatch | None = None) -> list[RunProgress]:
    """Return the runs below `runs_dir`, started or only planned, by place; raises HashbenchError without a folder.

    Sentences about folders and notes of sweeps that cannot be read join `problems`.
    """
    started = [folder for folder, _ in run_folders(runs_dir, problems) if folder.name != "again"]
    planned = (note["runs"].items() for note in read_sweeps(runs_dir, problems).values())
    works = {Path(*place.split("/")): _work(work) for runs in planned for place, work in runs}
    places = {*works, *(folder.relative_to(runs_dir) for folder in started)}
    return [_read_run(runs_dir, place, works.get(place), watch) for place in sorted(places, key=_order)]


def time_left(runs_dir: Path, runs: Sequence[RunProgress]) -> str:
    """Return how long the runs that are not finished still take, as a sentence; "" where that is not known.

    A failed run is not counted: nobody computes it before it is asked for again.
    """
    left = [run for run in runs if run.status.state in ("running", "interrupted", "to do")]
    if not left:
        return ""
    known = Estimates.of(runs_dir)
    found = TimeLeft.of((run.status, _seconds_left(run, known)) for run in left)
    many = f"{found.runs} {plural('run', found.runs)} to finish, {max(found.running, 1)} at a time"
    return f"{many}: {found}." if str(found) else ""


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
    for state in ("running", "failed", "damaged"):
        lines = [
            escaping.plain(f"  {'/'.join(run.place)}: {', '.join(filter(None, (run.pace, run.status.note)))}")
            for run in runs
            if run.status.state == state
        ]
        if lines:
            sections.append("\n".join([f"{state}:", *lines]))
    return "\n\n".join(sections)


def _seconds_left(run: RunProgress, known: Estimates) -> float | None:
    if run.seconds is not None:
        return run.seconds
    return seconds_left(run.status, known.estimate(run.work) if run.work else None)


def _work(note: Any) -> Work | None:
    """Return the recorded work of a run; None in records of older versions."""
    try:
        return Work(**note)
    except TypeError:
        return None


def _read_run(runs_dir: Path, place: Path, work: Work | None, watch: LockWatch | None) -> RunProgress:
    directory = RunDirectory(runs_dir / place)
    found = run_status(directory, watch=watch)
    pace, seconds = _pace(directory) if found.state == "running" else ("", None)
    return RunProgress(place.parts, found, pace, seconds, work)


def _pace(directory: RunDirectory) -> tuple[str, float | None]:
    """Return how far a running training is, by its log, and the seconds that it still takes; None where unknown."""
    if os.path.isdir(directory.again.path):
        directory = directory.again
    try:
        identity = directory.read_spec()["identity"]
        epochs = [line for line in directory.read_log() if "epoch" in line]
        of, images = identity["recipe"]["epochs"], identity["data"]["num_train"]
        done, seconds = (epochs[-1]["epoch"] + 1, float(epochs[-1]["seconds"])) if epochs else (0, 0.0)
        of, images = int(of), int(images)
        if not all(0 <= number < 1 << 53 for number in (of, images, done, seconds)):
            raise ValueError("no numbers of a training")
    except (HashbenchError, KeyError, TypeError, ValueError):
        return "", None
    if not done:
        return f"epoch 1 of {of}", None
    if done >= of:
        return "encoding and evaluating", None
    rate, left = images * done / max(seconds, 1e-9), (of - done) * seconds / done
    return f"epoch {done + 1} of {of}, {rate:,.0f} images/s, about {duration(left)} left", left


def _order(place: Path) -> list[tuple[int, str]]:
    """Return the key that sorts 8b before 16b."""
    return [(int(part[:-1]) if part[:-1].isdecimal() and part.endswith("b") else 0, part) for part in place.parts]
