"""The names of the measures: each carries its whole definition, and parses back to itself.

`mAP@all`, `mAP@1000/hits`, `mAP@5000/R`, `mAP@1000/min`, `mAP@1000/hashnet` (a compatibility mode), `P@100`, `R@100`,
`nDCG@100`, `P@H<=2`, `R@H<=2`, `F1@H<=2` (also typed `P@H2`), and the curves `PR` (by radius) and `PR@k` (by rank).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import cast, get_args

import numpy as np

from hashbench.metrics import ranking
from hashbench.metrics.compatibility import MODES, Mode
from hashbench.metrics.histograms import Histograms
from hashbench.metrics.ranking import Curve, Denominator, Ties

FORMS = (
    "mAP@all, mAP@1000/hits, mAP@1000/R, mAP@1000/min, P@100, R@100, nDCG@100, P@H<=2, R@H<=2, F1@H<=2, PR, PR@k "
    f"(and mAP@1000/MODE with a mode of {', '.join(MODES)})"
)
_PATTERN = re.compile(
    r"(?P<ball>P|R|F1)@H(?:<=)?(?P<radius>\d+)"
    r"|mAP@(?P<cut>all|\d+)(?:/(?P<rule>[\w-]+))?"
    r"|(?P<kind>P|R|nDCG)@(?P<k>\d+)"
    r"|(?P<curve>PR(?:@k)?)"
)


@dataclass(frozen=True)
class Measure:
    """One measure: a kind, and what its name says about it; `str` gives the name that `parse` reads.

    kind is "mAP", "P", "R", "F1", "nDCG" or "PR"; k the cut, None for the whole ranking; radius that of a Hamming ball;
    rule the denominator or compatibility mode of a mAP. `PR` is a curve: it has no single value.
    """

    kind: str
    k: int | None = None
    radius: int | None = None
    rule: Denominator | Mode | None = None
    by_rank: bool = False

    def __str__(self) -> str:
        if self.is_curve:
            return "PR@k" if self.by_rank else "PR"
        if self.radius is not None:
            return f"{self.kind}@H<={self.radius}"
        return f"{self.kind}@{self.k or 'all'}" + (f"/{self.rule}" if self.rule else "")

    @property
    def is_curve(self) -> bool:
        """Whether this is a curve, which has points and no single value."""
        return self.kind == "PR"

    @property
    def mode(self) -> Mode | None:
        """The compatibility mode that this measure needs, which histograms cannot give."""
        return self.rule if self.rule in MODES else None

    @property
    def depends_on_ties(self) -> bool:
        """Whether the order of items at one distance can change the value."""
        return not self.is_curve and self.radius is None

    def per_query(self, hist: Histograms, *, ties: Ties = "expected") -> np.ndarray:
        """Return the value of each query, (Q,) float64; raises ValueError for curves and compatibility modes."""
        if self.is_curve:
            raise ValueError(f"'{self}' is a curve and has no value per query; ask for P@k, R@k or P@H<=r.")
        if self.mode is not None:
            raise ValueError(f"'{self}' depends on the database's order, which histograms do not hold; give the codes.")
        if self.radius is not None:
            in_ball = {"P": ranking.precision_in_ball, "R": ranking.recall_in_ball, "F1": ranking.f1_in_ball}
            return in_ball[self.kind](hist, self.radius)
        if self.kind == "mAP":
            denominator = cast(Denominator, self.rule or "R")
            return ranking.average_precision(hist, self.k, denominator=denominator, ties=ties)
        assert self.k is not None
        at = {"P": ranking.precision_at, "R": ranking.recall_at, "nDCG": ranking.ndcg_at}
        return at[self.kind](hist, self.k, ties=ties)

    def value(self, hist: Histograms, *, ties: Ties = "expected") -> float:
        """Return the mean over all queries; raises ValueError as `per_query` does."""
        return float(self.per_query(hist, ties=ties).mean())

    def bounds(self, hist: Histograms) -> tuple[float, float]:
        """Return the smallest and largest mean that any order inside the tie groups gives."""
        return self.value(hist, ties="pessimistic"), self.value(hist, ties="optimistic")

    def curve(self, hist: Histograms) -> Curve:
        """Return the points of a curve; raises ValueError for any other measure."""
        if not self.is_curve:
            raise ValueError(f"'{self}' is a single value, not a curve; the curves are PR and PR@k.")
        return ranking.curve_by_rank(hist) if self.by_rank else ranking.curve_by_radius(hist)


@dataclass(frozen=True)
class Evaluation:
    """Measures of one set of histograms as plain data: what a result stores under the same names."""

    metrics: dict[str, float]
    bounds: dict[str, list[float]] = field(default_factory=dict)
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    ties: Ties = "expected"


def parse(name: str) -> Measure:
    """Return the measure that `name` stands for; raises ValueError with the nearest form when there is none."""
    match = _PATTERN.fullmatch(name.strip())
    if match is None:
        raise ValueError(f"Unknown measure '{name}'.{_guess(name)} Measures are written {FORMS}.")
    found = match.groupdict()
    if found["ball"]:
        return Measure(found["ball"], radius=int(found["radius"]))
    if found["curve"]:
        return Measure("PR", by_rank=found["curve"] == "PR@k")
    if found["kind"]:
        return Measure(found["kind"], k=_positive(found["k"], name))
    return _mean_average_precision(name, found["cut"], found["rule"])


def evaluate_histograms(
    hist: Histograms, measures: Iterable[Measure | str], *, ties: Ties = "expected", bounds: bool = True
) -> Evaluation:
    """Return values, tie bounds, curves and counts of all measures; raises ValueError for unknown names."""
    chosen: Sequence[Measure] = [parse(measure) if isinstance(measure, str) else measure for measure in measures]
    radii = {measure.radius for measure in chosen if measure.radius is not None}
    return Evaluation(
        metrics={str(measure): measure.value(hist, ties=ties) for measure in chosen if not measure.is_curve},
        bounds={str(measure): list(measure.bounds(hist)) for measure in chosen if bounds and measure.depends_on_ties},
        curves={str(measure): _points(measure.curve(hist)) for measure in chosen if measure.is_curve},
        counts={
            "queries": hist.queries,
            "database": hist.database,
            "without_relevant": int((hist.relevant == 0).sum()),
            **{f"empty_within_{radius}": _empty_balls(hist, radius) for radius in sorted(radii)},
        },
        ties=ties,
    )


def _mean_average_precision(name: str, cut: str, rule: str | None) -> Measure:
    if rule is not None and rule not in (*get_args(Denominator), *MODES):
        rules = ", ".join((*get_args(Denominator), *MODES))
        raise ValueError(f"Unknown denominator or mode '{rule}' in '{name}'; known are {rules}.")
    checked = cast("Denominator | Mode | None", rule)
    if cut == "all":
        # Over the whole ranking the three denominators are one.
        return Measure("mAP", rule=checked if rule in MODES else None)
    if rule is None:
        raise ValueError(
            f"'{name}' does not say what it divides by; write {name}/hits (relevant items among the first {cut}, the "
            f"field's usual), {name}/R (all relevant items) or {name}/min (the smaller of {cut} and R)."
        )
    return Measure("mAP", k=_positive(cut, name), rule=checked)


def _positive(digits: str, name: str) -> int:
    if int(digits) == 0:
        raise ValueError(f"'{name}' keeps no item; its cut must be at least 1.")
    return int(digits)


def _guess(name: str) -> str:
    forms = ["mAP@all", "PR", "PR@k", *(f"mAP@{k}/{rule}" for k in (100, 1000, 5000) for rule in get_args(Denominator))]
    forms += [f"{kind}@{k}" for kind in ("P", "R", "nDCG") for k in (10, 100, 1000)]
    forms += [f"{kind}@H<={radius}" for kind in ("P", "R", "F1") for radius in (0, 1, 2, 3)]
    by_folded = {form.casefold(): form for form in forms}
    near = get_close_matches(name.strip().casefold(), by_folded, n=1, cutoff=0.5)
    return f" Did you mean '{by_folded[near[0]]}'?" if near else ""


def _empty_balls(hist: Histograms, radius: int) -> int:
    return int((hist.n[:, : radius + 1].sum(axis=1) == 0).sum())


def _points(curve: Curve) -> dict[str, list[float]]:
    return {"x": curve.x.tolist(), "y": curve.y.tolist(), "at": curve.at.tolist()}
