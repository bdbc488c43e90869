"""The page of a row of the leaderboard: what it is, its numbers, curves, cost and runs, and how to compute it again."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hashbench.results.figures.measures import training_seconds
from hashbench.results.leaderboard.entries import FIDELITIES, Entry
from hashbench.results.leaderboard.ranking import LeaderboardRow, Ranking
from hashbench.results.leaderboard.recomputing import commands
from hashbench.results.pages import page
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.storage.strict_json import digest

ROWS = "rows"  # the folder of the pages

Paper = Callable[[str], str]  # method -> its paper, "" where unknown


def page_of(ranking: Ranking, row: LeaderboardRow) -> str:
    """Return the path of a row's page in the site; it stays the same as long as row and ranking do."""
    name = re.sub(r"[^a-z0-9]+", "-", row.label.lower()).strip("-")[:40]
    return f"{ROWS}/{name}-{digest([row.label, dict(ranking.shared)])[:8]}.html"


def row_page(ranking: Ranking, row: LeaderboardRow, *, title: str, paper: Paper) -> str:
    """Return the page of a row; `paper` gives the paper of its method."""
    first = row.first.runs[0]
    assert first.path is not None
    spec = RunDirectory(first.path).run.read_spec()["identity"]
    return page(
        "leaderboard-row.html",
        styles=("page.css", "leaderboard.css"),
        scripts=(),
        title=f"{row.label} - {title}",
        ranking=ranking,
        row=row,
        paper=paper(first.coords["method"]),
        meaning=FIDELITIES[row.first.fidelity],
        family=family_of(row),
        fields=spec["method"]["fields"],
        recipe=spec["recipe"],
        curves=_curves(row),
        entries=sorted(row.entries.items()),
        cost_of=_cost,
        place_of=place_of,
        commands=commands(row),
    )


def _curves(row: LeaderboardRow) -> dict[str, list[tuple[int, str]]]:
    """Return precision over recall by Hamming radius, the mean over seeds, by data set and then code length.

    A curve is the `points` of an SVG polyline in a square of 200 pixels, whose y runs downwards.
    """
    found: dict[str, list[tuple[int, str]]] = {}
    for setting in sorted(row.entries):
        stored = [run.curves["PR"] for run in row.entries[setting].runs if "PR" in run.curves]
        if not stored or len({len(curve["x"]) for curve in stored}) > 1:
            continue
        x, y = (np.mean([np.asarray(curve[axis], dtype=float) for curve in stored], axis=0) for axis in ("x", "y"))
        points = " ".join(f"{200 * a:.1f},{200 - 200 * b:.1f}" for a, b in zip(x, y, strict=True) if a == a and b == b)
        name = setting.dataset + (f", {setting.condition}" if setting.condition else "")
        found.setdefault(name, []).append((setting.bits, points))
    return found


def family_of(row: LeaderboardRow) -> str:
    """Return the family that a row's method states, "unstated" without one."""
    return str(row.first.runs[0].provenance.get("family") or "unstated")


def _cost(entry: Entry) -> dict[str, float | None]:
    """Return the means over seeds of what an entry's runs cost; None where a run does not say."""

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if len(known) == len(values) else None

    return {
        "seconds": mean([training_seconds(run) for run in entry.runs]),
        "images_per_s": mean([run.images_per_s for run in entry.runs]),
        "peak_memory_mb": mean([run.peak_memory_mb for run in entry.runs]),
    }


def place_of(run: Result) -> str:
    """Return the path of a run below its runs folder, which is the same wherever that lies."""
    assert run.path is not None
    parts = 6 if run.condition else 4
    return Path(*run.path.absolute().parts[-parts:]).as_posix()
