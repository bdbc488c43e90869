"""The values of measures: as a run stored them, or else computed anew from its histograms."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from hashbench.errors import HashbenchError
from hashbench.metrics.histograms import Histograms
from hashbench.metrics.measures import parse
from hashbench.metrics.tie_groups import SharedHistograms, Ties
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.results.sweeps.estimates import plural
from hashbench.results.tables.recomputed import Recomputed, Values, computed
from hashbench.storage.files import is_file


@dataclass(frozen=True)
class Score:
    """One measure of one run, in [0, 1], and the bounds that the order of ties puts on it; None where unknown."""

    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    queries: np.ndarray | None = field(default=None, compare=False)  # (Q,) the value of each, where it was requested
    counted: float | None = None  # the value by the histograms, where what is stored contradicts them


ScoresByRun = dict[str, dict[str, Score]]  # run id -> measure -> score


def measure_name(name: str) -> str:
    """Return the name as results store it."""
    try:
        measure = parse(name)
    except ValueError as error:
        raise HashbenchError(str(error)) from None
    if measure.is_curve:
        raise HashbenchError(f"'{measure}' is a curve and does not fit into a table; ask for P@k, R@k or P@H<=r.")
    return str(measure)


def all_scores(
    results: Sequence[Result],
    measures: Sequence[str] | None,
    problems: list[str],
    *,
    per_query: bool = False,
    compared: bool = False,
) -> ScoresByRun:
    """Return the scores of each run, of its default measure where `measures` is None; `per_query` reads histograms.

    Where they are to be `compared`, stored values are held against the histograms that lie beside them. For each
    measure that some run lacks, one sentence joins `problems` to say how many, and why the first does.
    """
    scores: ScoresByRun = {result.id: {} for result in results}
    missing: dict[str, list[str]] = {}
    known = Recomputed()
    for result in results:
        histograms = functools.cache(functools.partial(_histograms, result))  # read at most once, and only if needed
        for measure in measures or [result.coords["measure"]]:
            score = _stored(result, measure) or Score()
            try:
                if score.value is not None and compared and has_histograms(result):
                    score = _compared(score, lambda: known.values(result, measure, histograms), measure, problems)  # noqa: B023
                if score.value is None:
                    score = Score(*computed(histograms(), measure, result.ties))
                if per_query:
                    values = parse(measure).per_query(histograms(), ties=cast(Ties, result.ties))
                    score = replace(score, queries=values)
            except ValueError as error:
                what = measure if score.value is None else f"{measure} of each query"
                missing.setdefault(what, []).append(str(error))
            scores[result.id][measure] = score
    known.keep()
    for what, reasons in missing.items():
        share = f"{len(reasons):,} of {len(results):,} {plural('run', len(results))}"
        problems.append(f"{what} is unknown for {share}; the first: {reasons[0]}")
    return scores


def has_histograms(result: Result) -> bool:
    """Return whether the histograms of a result are stored beside it."""
    return result.path is not None and is_file(RunDirectory(result.path).histograms)


def _compared(score: Score, values: Callable[[], Values], measure: str, problems: list[str]) -> Score:
    """Return a stored score with the value that the histograms give, where that is another one."""
    try:
        parse(measure)
    except ValueError:  # of a plug-in that is not installed here
        return score
    try:
        again = Score(*values())
    except (ValueError, KeyError, IndexError) as error:
        problems.append(f"{measure} could not be held against the histograms: {error}")
        return score
    pairs = [(score.value, again.value), (score.lower, again.lower), (score.upper, again.upper)]
    same = all(one is None or other is None or math.isclose(one, other, abs_tol=1e-9) for one, other in pairs)
    return score if same else replace(score, counted=again.value)


def _stored(result: Result, measure: str) -> Score | None:
    value = result.metrics.get(measure)
    lower, upper = result.bounds.get(measure, (None, None))
    return None if value is None else Score(value, lower, upper)


def _histograms(result: Result) -> Histograms:
    if result.path is None:
        raise HashbenchError(f"The result {result.id[:8]} has no run directory with histograms to compute it from.")
    bits = result.coords["bits"] if result.has_codes else None
    return SharedHistograms.of(RunDirectory(result.path).read_histograms(bits))
