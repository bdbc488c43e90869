"""The values of measures: as a run stored them, or else computed anew from its histograms."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from hashbench.errors import HashbenchError
from hashbench.metrics.hamming import Histograms
from hashbench.metrics.measures import parse
from hashbench.metrics.ranking import Ties
from hashbench.results.result import Result
from hashbench.results.store import RunDirectory


@dataclass(frozen=True)
class Score:
    """One measure of one run, in [0, 1], and the bounds that the order of ties puts on it; None where unknown."""

    value: float | None = None
    lower: float | None = None
    upper: float | None = None


Scores = dict[str, dict[str, Score]]  # run id -> measure -> score


def measure_name(name: str) -> str:
    """Return the name as results store it."""
    try:
        measure = parse(name)
    except ValueError as error:
        raise HashbenchError(str(error)) from None
    if measure.is_curve:
        raise HashbenchError(f"'{measure}' is a curve and does not fit into a table; ask for P@k, R@k or P@H<=r.")
    return str(measure)


def all_scores(results: Sequence[Result], measures: Sequence[str] | None, problems: list[str]) -> Scores:
    """Return the scores of each run, of its default measure where `measures` is None.

    For each measure that some run lacks, one sentence joins `problems` to say how many, and why the first does.
    """
    scores: Scores = {result.id: {} for result in results}
    missing: dict[str, list[str]] = {}
    for result in results:
        histograms = functools.cache(functools.partial(_histograms, result))  # read at most once, and only if needed
        for measure in measures or [result.coords["measure"]]:
            try:
                score = _stored(result, measure) or _recomputed(histograms(), measure, result.ties)
            except ValueError as error:
                score = Score()
                missing.setdefault(measure, []).append(str(error))
            scores[result.id][measure] = score
    for measure, reasons in missing.items():
        problems.append(f"{measure} is unknown for {len(reasons)} of {len(results)} runs; the first: {reasons[0]}")
    return scores


def _stored(result: Result, measure: str) -> Score | None:
    value = result.metrics.get(measure)
    lower, upper = result.bounds.get(measure, (None, None))
    return None if value is None else Score(value, lower, upper)


def _histograms(result: Result) -> Histograms:
    if result.path is None:
        raise HashbenchError(f"The result {result.id[:8]} has no run directory with histograms to compute it from.")
    return Histograms.from_arrays(RunDirectory(result.path).read_arrays("histograms"))


def _recomputed(histograms: Histograms, name: str, ties: str) -> Score:
    measure = parse(name)
    lower, upper = measure.bounds(histograms) if measure.depends_on_ties else (None, None)
    return Score(measure.value(histograms, ties=cast(Ties, ties)), lower, upper)
