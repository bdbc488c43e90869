"""Commands that compute the runs of a row again, and check them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from hashbench.results.leaderboard.ranking import LeaderboardRow
from hashbench.results.result import Result
from hashbench.results.tables.blocks import label_by_fields


def commands(row: LeaderboardRow) -> list[str]:
    """Return command lines that compute the runs of a row again into `runs`, then its conditions, then check all.

    Comments say which runs must be there before, whose weights trainings or attacks take.
    """
    runs = row.runs
    conditions = list(dict.fromkeys(run.condition for run in runs if run.condition))
    lines = [f"# first into `runs`: {start}" for start in dict.fromkeys(r.coords.get("start") for r in runs) if start]
    lines += [f"# first into `runs`: the study {study}" for study in _studies(runs)]
    lines += [shlex.join(_run(of_data)) for of_data in _by_dataset(runs)]
    if any("surrogate" in run.provenance for run in runs):
        lines.append("# surrogate: the folder of the run of this id")
    lines += [shlex.join(["hashbench", "evaluate-run", "runs", "--under", ",".join(conditions)])] if conditions else []
    return [*lines, "hashbench verify runs --strict"]


def _studies(runs: Sequence[Result]) -> dict[str, None]:
    """Return the places in `runs` of the studies behind some runs."""
    return dict.fromkeys(
        f".tuning/{'/'.join(run.provenance['tuned']['path'].split('/')[-3:])}"
        for run in runs
        if "tuned" in run.provenance
    )


def _by_dataset(runs: Sequence[Result]) -> Iterator[list[Result]]:
    names = dict.fromkeys((run.coords["dataset"], run.coords["protocol"]) for run in runs)
    for name in names:
        yield [run for run in runs if (run.coords["dataset"], run.coords["protocol"]) == name]


def _run(runs: Sequence[Result]) -> Iterator[str]:
    coords = runs[0].coords
    tuned = coords.get("tuned", {})
    name, _, changed = str(coords["recipe"]).partition("(")
    lengths = {bits for run in runs for bits in run.coords.get("lengths", [run.coords["bits"]])}
    yield from ("hashbench", "run", "--method", label_by_fields(runs[0]).removesuffix(" ()"))
    yield from ("--dataset", f"{coords['dataset']}@{coords['protocol']}")
    yield from ("--bits", ",".join(map(str, sorted(lengths))))
    yield from ("--seeds", str(1 + max(run.coords["seed"] for run in runs)), "--recipe", name)
    if coords["backbone"]:
        yield from ("--backbone", coords["backbone"])
    for field, value in re.findall(r"(\w+)=(\([^)]*\)|[^,)]*)", changed):
        yield from ("--set", f"recipe.{field}={value.strip('()').replace(' ', '')}")
    if any(run.provenance.get("data_official") is False for run in runs):
        yield "--accept-unofficial"
    if tuned.get("settings"):
        yield from ("--tuned", "runs")
    if "data" in tuned:
        yield from ("--tuned-on", tuned["data"])
    if "start" in coords:
        yield from ("--start-from", "runs")
