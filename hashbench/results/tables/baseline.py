"""The differences of rows to a baseline, their significance, and the footnotes about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from hashbench.errors import HashbenchError, unknown
from hashbench.results.sweeps.estimates import plural
from hashbench.results.tables.scores import Score
from hashbench.results.tables.significance import FEWEST, holm, permutations_for, sign_flip, welch
from hashbench.results.tables.table import ALPHA, IN_UNITS, ONE_POINT, Cell, Row

Test = Literal["seeds", "queries"]
_Place = tuple[int, int]  # row, column
_Evidence = Mapping[str, Sequence[Sequence[Score]]]  # row label -> for each code length the scores of its seeds
_FEW = f"with fewer than {FEWEST} seeds on a side"


@dataclass(frozen=True)
class Baseline:
    """A baseline, by row label, fields (`crh ()`: all defaults) or method name, and what it is tested over."""

    name: str
    test: Test = "seeds"

    def __post_init__(self) -> None:
        if self.test not in get_args(Test):
            raise unknown("test", self.test, get_args(Test))

    def find(self, rows: Iterable[tuple[str, Collection[str], str]]) -> str | None:
        """Return which row's label is meant, None where none is; `rows` are their labels, further names, and methods.

        Raises HashbenchError where a name stands for several rows.
        """
        named = list(rows)
        plain = self.name.removesuffix(" ()")
        if any(label == plain for label, *_ in named):
            return plain
        meant = [label for label, names, _ in named if self.name in names]
        meant = meant or [label for label, _, method in named if method == self.name]
        if len(meant) > 1:
            several = ", ".join(f"'{label}'" for label in meant)
            raise HashbenchError(f"The baseline '{self.name}' may be any of {several}; name one of these rows.")
        return meant[0] if meant else None


def with_differences(
    against: Baseline, rows: Sequence[Row], evidence: _Evidence
) -> tuple[list[Row], list[tuple[str, str]], str | None, str]:
    """Return the rows with differences and p-values, the baseline first; footnotes; its label; the test's name.

    A table without the baseline keeps its rows, and a footnote says why they have no differences.
    """
    label = against.find((row.label, row.names, row.method) for row in rows)
    if label is None:
        return (
            list(rows),
            [("", f"{against.name} has no run under these conditions, so there is no difference.")],
            None,
            "",
        )
    first, *others = sorted(rows, key=lambda row: row.label != label)
    shown = [replace(row, cells=tuple(map(_with_difference, row.cells, first.cells))) for row in others]
    notes = [("", f"Signed numbers are differences to {label}, {IN_UNITS}{ONE_POINT}.")]
    places = [(i, j) for i, row in enumerate(shown) for j, cell in enumerate(row.cells) if cell.difference is not None]
    over = _over_seeds if against.test == "seeds" else _over_queries
    p, words, reasons = over(places, [first, *shown], evidence)
    corrected = dict(zip(p, holm(list(p.values())), strict=True))
    tested = [
        replace(row, cells=tuple(replace(cell, p=corrected.get((i, j))) for j, cell in enumerate(row.cells)))
        for i, row in enumerate(shown)
    ]
    if p:
        notes.append(("↑ ↓", f"significantly above or below {label}: {words}"))
    if reasons:
        counted = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        notes.append(("", f"Differences not tested: {counted}."))
    return [first, *tested], notes, label, against.test if p else ""


def _with_difference(cell: Cell, base: Cell) -> Cell:
    return replace(cell, difference=cell.mean - base.mean) if cell.values and base.values else cell


def _over_seeds(
    places: Sequence[_Place], rows: Sequence[Row], evidence: _Evidence
) -> tuple[dict[_Place, float], str, Counter[str]]:
    """Return the p-values of Welch's t-test by place, what the legend says, and why the other places have none."""
    base, *others = rows
    p: dict[_Place, float] = {}
    reasons: Counter[str] = Counter()
    sizes: set[int] = set()
    for i, j in places:
        sides = others[i].cells[j].values, base.cells[j].values
        if min(map(len, sides)) < FEWEST:
            reasons[_FEW] += 1
            continue
        found = welch(*sides)
        if found is None:
            reasons["whose seeds all agree on both sides"] += 1
            continue
        p[i, j] = found
        sizes |= {len(side) for side in sides}
    n = _range(sizes)
    return p, f"Welch's t-test over seeds (two-sided, n = {n}), {_family(len(p))}", reasons


def _over_queries(
    places: Sequence[_Place], rows: Sequence[Row], evidence: _Evidence
) -> tuple[dict[_Place, float], str, Counter[str]]:
    """Return the p-values of the sign-flip test by place, what the legend says, and why the other places have none."""
    base, *others = rows
    differences: dict[_Place, np.ndarray] = {}
    reasons: Counter[str] = Counter()
    for i, j in places:
        sides = [_per_query(evidence[row.label][j]) for row in (others[i], base)]
        first, second = sides
        if first is None or second is None:
            reasons["without histograms of every run"] += 1
        elif first.shape != second.shape:
            reasons["measured with different numbers of queries"] += 1
        else:
            differences[i, j] = first - second
    sizes = {len(difference) for difference in differences.values()}
    flips = permutations_for(len(differences))
    p: dict[_Place, float] = {}
    for size in sizes:
        alike = [place for place, difference in differences.items() if len(difference) == size]
        found = sign_flip(np.stack([differences[place] for place in alike]), permutations=flips)
        p |= dict(zip(alike, found.tolist(), strict=True))
    words = (
        f"paired randomisation test over {_range(sizes)} queries, each with its mean over the seeds (two-sided, "
        f"{flips:,} random sign flips), {_family(len(p))} It tells about other queries like these, not about other "
        f"seeds or trainings."
    )
    return p, words, reasons


def _per_query(scores: Sequence[Score]) -> np.ndarray | None:
    """Return the mean over seeds for each query, (Q,); None where a run's values are unknown or of other queries."""
    found = [score.queries for score in scores if score.queries is not None]
    if not found or len(found) < len(scores) or len({values.shape for values in found}) > 1:
        return None
    return np.mean(found, axis=0)


def _family(tests: int) -> str:
    return f"Holm-corrected over the {tests:,} {plural('test', tests)} of this table, alpha {ALPHA}."


def _range(numbers: set[int]) -> str:
    if not numbers:
        return "0"
    low, high = min(numbers), max(numbers)
    return f"{high:,}" if low == high else f"{low:,} to {high:,}"
