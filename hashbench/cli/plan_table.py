"""A sweep before it runs, as a table: which runs there are, where each stands, and how long the others will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hashbench.experiments.planned import PlannedRun
    from hashbench.experiments.planning import Plan
    from hashbench.results.sweeps.estimates import Estimate, Estimates


def plan_table(plan: Plan, *, probe: bool) -> str:
    """Return the table, a line for runs that differ in the seed alone, and what there is to compute in all.

    With `probe`, runs of a kind whose length is unknown are timed by some of their steps.
    """
    from tabulate import tabulate

    from hashbench.results.sweeps.estimates import Estimates, duration, plural

    computed = [run for run in plan.runs if run.to_compute(plan.settings.rerun)]
    known = Estimates.of(plan.settings.runs_dir)
    notes = _probe(plan, computed, known) if probe else []
    expected = {str(run): known.estimate(plan.work(run)) for run in computed}
    lines: dict[tuple[str, str, int], list[PlannedRun]] = {}
    for run in plan.runs:
        lines.setdefault((run.dataset, run.method, run.bits), []).append(run)
    rows = [_row(runs, [expected[str(run)] for run in runs if str(run) in expected]) for runs in lines.values()]
    table = tabulate(rows, headers=["data set", "method", "bits", "seeds", "state", "takes about", "where, or why"])
    seconds = [estimate.seconds for estimate in expected.values() if estimate is not None]
    parts = [f"{len(expected)} of {len(plan.runs)} {plural('run', len(plan.runs))} to compute"]
    parts += [f"about {duration(sum(seconds))} one after another"] if seconds else []
    parts += [f"{len(expected) - len(seconds)} of unknown length"] if len(seconds) < len(expected) else []
    return "\n".join([table, "", *notes, f"{', '.join(parts)}."])


def _row(runs: Sequence[PlannedRun], expected: Sequence[Estimate | None]) -> list[object]:
    """Return the line of runs that differ in the seed alone; `expected` is of those that are to be computed."""
    first, found = runs[0], [run.status for run in runs]
    states = Counter(status.state for status in found)
    state = first.status.state if len(states) == 1 else ", ".join(f"{count} {name}" for name, count in states.items())
    seeds = str(first.seed) if len(runs) == 1 else f"{first.seed}-{runs[-1].seed}"
    takes = ""
    if expected:
        takes = "unknown" if expected[0] is None else str(expected[0])  # they are of one kind
        takes = takes if len(runs) == 1 or expected[0] is None else f"{len(expected)} x {takes}"
    where = first.directory and (first.directory.path if len(runs) == 1 else first.directory.path.parent)
    notes = "; ".join(dict.fromkeys(status.note for status in found if status.note))
    return [first.dataset, first.method, first.bits, seeds, state, takes, notes or where]


def _probe(plan: Plan, runs: Sequence[PlannedRun], known: Estimates) -> list[str]:
    """Time some steps of each kind of run whose length is unknown; returns what was done, in sentences."""
    from hashbench.experiments.execution import reason_of
    from hashbench.experiments.probing import STEPS, probe
    from hashbench.results.sweeps.estimates import plural

    kinds: dict[str, PlannedRun] = {}
    for run in runs:
        if known.estimate(plan.work(run)) is None:
            kinds.setdefault(plan.work(run).kind, run)
    notes, probed = [], 0
    for run in kinds.values():
        click.echo(f"probing {run}", err=True)
        try:
            known.add_probe(plan.work(run), probe(plan, run))
            probed += 1
        except Exception as error:  # a method that fails fails the probe of its kind alone
            notes.append(f"Not probed: {run}: {reason_of(error)}")
    done = f"Probed by {STEPS} training steps and a batch of codes, of which nothing is kept: "
    return [f"{done}{probed} {plural('kind', probed)} of runs.", *notes] if kinds else notes
