"""The names of the measures: each carries its whole definition, and parses back to itself.

`mAP@all`, `mAP@1000/hits`, `mAP@5000/R`, `mAP@1000/min`, `mAP@1000/hashnet` (a compatibility mode), `P@100`, `R@100`,
`nDCG@100`, `P@H<=2`, `R@H<=2`, `F1@H<=2` (also typed `P@H2`), the curves `PR` (by radius) and `PR@k` (by rank), and
what plug-ins add to the table (`hashbench.measure`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np

from hashbench.metrics import table
from hashbench.metrics.compatibility import MODES, Mode
from hashbench.metrics.histograms import Histograms
from hashbench.metrics.ranking import Curve, Denominator, Ties
from hashbench.metrics.table import Entry
from hashbench.metrics.tie_groups import SharedHistograms


@dataclass(frozen=True)
class Measure:
    """One measure: a kind, and what its name says about it; `str` gives the name that `parse` reads.

    kind is that of an entry in the table of measures: "mAP", "P", "P@H", "PR", ...; k the cut, None for the whole
    ranking; radius that of a Hamming ball; rule the denominator or compatibility mode of a mAP.
    """

    kind: str
    k: int | None = None
    radius: int | None = None
    rule: Denominator | Mode | None = None

    def __str__(self) -> str:
        return self.entry.name(k=self.k, radius=self.radius, rule=self.rule)

    @property
    def entry(self) -> Entry:
        """Its kind's entry in the table of measures."""
        return table.entry(self.kind)

    @property
    def is_curve(self) -> bool:
        """Whether this is a curve, which has points and no single value."""
        return self.entry.curve

    @property
    def needs_gains(self) -> bool:
        """Whether it needs histograms counted by gain."""
        return self.entry.gains

    @property
    def mode(self) -> Mode | None:
        """The compatibility mode that this measure needs, which histograms cannot give."""
        return self.rule if self.rule in MODES else None

    @property
    def depends_on_ties(self) -> bool:
        """Whether the order of items at one distance can change the value."""
        return self.entry.depends_on_ties

    def per_query(self, hist: Histograms, *, ties: Ties = "expected") -> np.ndarray:
        """Return the value of each query, (Q,) float64; raises ValueError for curves and compatibility modes."""
        if self.is_curve:
            raise ValueError(f"'{self}' is a curve and has no value per query; ask for P@k, R@k or P@H<=r.")
        if self.mode is not None:
            raise ValueError(f"'{self}' depends on the database's order, which histograms do not hold; give the codes.")
        values = np.asarray(self._asked(hist, **({"ties": ties} if self.depends_on_ties else {})))
        if values.shape != (hist.queries,) or values.dtype.kind not in "fiub" or not np.isfinite(values).all():
            raise ValueError(
                f"'{self}' must give one finite value for each of {hist.queries} queries, 0 where it is undefined; it "
                f"gave {values.dtype} of shape {values.shape}."
            )
        return values

    def value(self, hist: Histograms, *, ties: Ties = "expected") -> float:
        """Return the mean over all queries; raises ValueError as `per_query` does."""
        return float(self.per_query(hist, ties=ties).mean())

    def bounds(self, hist: Histograms) -> tuple[float, float]:
        """Return the smallest and largest mean that any order inside the tie groups gives."""
        return self.value(hist, ties="pessimistic"), self.value(hist, ties="optimistic")

    def curve(self, hist: Histograms) -> Curve:
        """Return the points of a curve; raises ValueError for any other measure."""
        if not self.is_curve:
            raise ValueError(f"'{self}' is a single value, not a curve; the curves are {_curves()}.")
        points = self._asked(hist)
        if not isinstance(points, Curve):
            raise ValueError(f"'{self}' must give a hashbench.Curve; it gave {type(points).__name__}.")
        return points

    def _asked(self, hist: Histograms, **ties: Ties) -> Any:
        """Return what the entry's function gives; an error that is none of ours becomes a ValueError naming it."""
        said = {"k": self.k, "radius": self.radius, "rule": self.rule}
        given = {place: said[place] for place in said if "{" + place in self.entry.form}
        try:
            return self.entry.function(hist, **given, **ties)
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(f"'{self}' failed: {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Evaluation:
    """Measures of one set of histograms as plain data: what a result stores under the same names."""

    metrics: dict[str, float]
    bounds: dict[str, list[float]] = field(default_factory=dict)
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    ties: Ties = "expected"


def parse(name: str) -> Measure:
    """Return the measure that `name` stands for; raises ValueError with the nearest form when there is none.

    Plug-ins are imported only where no entry so far has the name.
    """
    found = _found(name)
    if found is not None:
        return found
    problems = table.load_plug_ins()
    found = _found(name)
    if found is None:
        also = "".join(f" {problem}" for problem in problems)
        raise ValueError(f"Unknown measure '{name}'.{_guess(name)} Measures are written {table.forms()}.{also}")
    return found


def evaluate_histograms(
    hist: Histograms, measures: Iterable[Measure | str], *, ties: Ties = "expected", bounds: bool = True
) -> Evaluation:
    """Return values, tie bounds, curves and counts of all measures; raises ValueError for unknown names."""
    chosen: Sequence[Measure] = [parse(measure) if isinstance(measure, str) else measure for measure in measures]
    radii = {measure.radius for measure in chosen if measure.radius is not None}
    hist = SharedHistograms.of(hist)
    return Evaluation(
        metrics={str(measure): measure.value(hist, ties=ties) for measure in chosen if not measure.is_curve},
        bounds={str(measure): list(measure.bounds(hist)) for measure in chosen if bounds and measure.depends_on_ties},
        curves={str(measure): _points(measure.curve(hist)) for measure in chosen if measure.is_curve},
        counts={
            "queries": hist.queries,
            "database": hist.database,
            **({} if hist.excluded is None else {"excluded": int(hist.excluded.sum())}),
            "without_relevant": int((hist.relevant == 0).sum()),
            **{f"empty_within_{radius}": _empty_balls(hist, radius) for radius in sorted(radii)},
        },
        ties=ties,
    )


def _found(name: str) -> Measure | None:
    for entry in table.entries():
        said = entry.read(name)
        if said is not None:
            return Measure(entry.kind, **said)
    return None


def _guess(name: str) -> str:
    by_folded = {form.casefold(): form for entry in table.entries() for form in entry.guesses()}
    near = get_close_matches(name.strip().casefold(), by_folded, n=1, cutoff=0.5)
    return f" Did you mean '{by_folded[near[0]]}'?" if near else ""


def _curves() -> str:
    *others, last = [entry.form for entry in table.entries() if entry.curve]
    return f"{', '.join(others)} and {last}"


def _empty_balls(hist: Histograms, radius: int) -> int:
    return int((hist.n[:, : radius + 1].sum(axis=1) == 0).sum())


def _points(curve: Curve) -> dict[str, list[float]]:
    return {"x": curve.x.tolist(), "y": curve.y.tolist(), "at": curve.at.tolist()}
