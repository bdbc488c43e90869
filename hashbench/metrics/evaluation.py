"""`evaluate`: codes and labels from anywhere to the values of named measures, in one call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hashbench.metrics import compatibility
from hashbench.metrics.arrays import Encoding, LabelKind, one_class_each, read_codes, read_labels
from hashbench.metrics.compatibility import MODES, Mode
from hashbench.metrics.hamming import Backend, histograms
from hashbench.metrics.measures import Measure, evaluate_histograms, parse
from hashbench.metrics.ranking import Ties


@dataclass(frozen=True, eq=False)
class Scores(Mapping[str, float]):
    """Means over the queries by the measures' names (NaN for a mode that keeps none), and what was asked for beside.

    per_query (Q,) float64 by name; bounds: smallest and largest mean that any order of tied items gives; curves: x
    (recall), y (precision) and `at` (radius or rank); counts of queries and items; notes on what the arrays were taken
    for.
    """

    means: dict[str, float]
    ties: Ties
    bits: int
    per_query: dict[str, np.ndarray] = field(default_factory=dict)
    bounds: dict[str, list[float]] = field(default_factory=dict)
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> float:
        return self.means[name if name in self.means else str(parse(name))]

    def __iter__(self) -> Iterator[str]:
        return iter(self.means)

    def __len__(self) -> int:
        return len(self.means)


def evaluate(
    query_codes: Any,
    database_codes: Any,
    query_labels: Any,
    database_labels: Any,
    *,
    measures: Iterable[Measure | str] = ("mAP@all",),
    ties: Ties = "expected",
    mode: Mode | None = None,
    per_query: bool = False,
    bounds: bool = False,
    encoding: Encoding | None = None,
    bits: int | None = None,
    labels: LabelKind | None = None,
    backend: Backend = "auto",
    device: str = "cpu",
) -> Scores:
    """Return the measures of a database's codes against queries' codes, a mapping from name to mean over the queries.

    Codes (n, bits) are bool, {0, 1}, {-1, +1} or real (value >= 0 is a one), or packed bytes (n, ceil(bits / 8)) uint8;
    labels are integers (n,) or multi-hot (n, C); arrays or tensors. `encoding`, `bits` and `labels` settle what cannot
    be recognised. `mode` computes every mAP as one published code base does (docs/metrics.md). `per_query` and `bounds`
    ask for values per query and for tie bounds. Raises ValueError for what is ambiguous or does not fit together.
    """
    chosen = [_in_mode(each, mode) for each in measures]
    query = read_codes(query_codes, "Query codes", encoding=encoding, bits=bits)
    database = read_codes(database_codes, "Database codes", encoding=encoding, bits=bits)
    if query.bits != database.bits:
        raise ValueError(
            f"Query codes have {query.bits} bits and database codes {database.bits}; they cannot be compared "
            f"({query.note} {database.note})"
        )
    of_query = read_labels(query_labels, "Query labels", kind=labels)
    of_database = read_labels(database_labels, "Database labels", kind=labels)
    codes = (query.packed, database.packed, *one_class_each(of_query, of_database))
    gains = any(measure.kind == "nDCG" for measure in chosen)
    hist = histograms(*codes, bits=query.bits, backend=backend, device=device, gains=gains)

    exact = [measure for measure in chosen if measure.mode is None]
    found = evaluate_histograms(hist, exact, ties=ties, bounds=bounds)
    published = {
        str(measure): compatibility.average_precision(*codes, hist=hist, mode=measure.mode, k=measure.k)
        for measure in chosen
        if measure.mode is not None
    }
    means = found.metrics | {name: compatibility.mean(values) for name, values in published.items()}
    each_query: dict[str, np.ndarray] = {}
    if per_query:
        each_query = {str(measure): measure.per_query(hist, ties=ties) for measure in exact if not measure.is_curve}
        each_query |= published
    return Scores(
        means={str(measure): means[str(measure)] for measure in chosen if not measure.is_curve},
        ties=ties,
        bits=query.bits,
        per_query=each_query,
        bounds=found.bounds,
        curves=found.curves,
        counts=found.counts,
        notes=(query.note, database.note, of_query.note, of_database.note),
    )


def _in_mode(measure: Measure | str, mode: Mode | None) -> Measure:
    """Return the measure as `mode` computes it; raises ValueError where its name says another denominator."""
    if mode is not None and mode not in MODES:
        raise ValueError(f"Unknown compatibility mode '{mode}'; known are {', '.join(MODES)}.")
    name = str(measure)
    if mode is not None and name.startswith("mAP@"):
        written, _, rule = name.partition("/")
        if rule not in ("", mode) and (rule != "hits" or mode == "dcmh"):
            raise ValueError(
                f"The mode {mode} fixes the denominator; write {written}, or leave out the mode for {name}."
            )
        name = f"{written}/{mode}"
    return parse(name)
