"""Tie groups of histograms: what lies in them and before them, where a cut ends, and sums of precisions over them.

Several measures of one evaluation need the same of these, so what `SharedHistograms` hold is computed once. The letters
are those of `ranking`: a group has n items, r of them relevant, of which the first m are kept; N items, R0 of them
relevant, come before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np

from hashbench.metrics.histograms import Histograms

Ties = Literal["expected", "optimistic", "pessimistic"]
HARMONIC = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, 65))])
TERMS = 1 << 13  # of an expectation, or groups, that are computed at a time: they stay in the caches
Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class SharedHistograms(Histograms):
    """Histograms of one evaluation: what several of its measures need of them is computed once."""

    known: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, hist: Histograms) -> SharedHistograms:
        """Return these histograms, with nothing computed yet."""
        return cls(hist.n, hist.r, hist.gains, hist.excluded)

    @cached_property
    def ranked(self) -> np.ndarray:
        """Number of items in each query's ranking, (Q,) int64, computed once."""
        return super().ranked

    @cached_property
    def relevant(self) -> np.ndarray:
        """Number of relevant items of each query, (Q,) int64, computed once."""
        return super().relevant


def once(hist: Histograms, key: tuple[Any, ...], compute: Callable[[], Found]) -> Found:
    """Return what `compute` gives of the histograms; shared ones keep it under the `key`."""
    if not isinstance(hist, SharedHistograms):
        return compute()
    if key not in hist.known:
        hist.known[key] = compute()
    found: Found = hist.known[key]
    return found


@dataclass(frozen=True)
class Groups:
    """Tie groups, each array (Q, groups) float64: sizes, what comes before each, and how much of each a cut keeps."""

    n: np.ndarray
    r: np.ndarray
    before: np.ndarray
    hits_before: np.ndarray
    kept: np.ndarray

    @property
    def fewest(self) -> np.ndarray:
        """The smallest number of relevant items that can be among those kept."""
        return np.maximum(0, self.kept - (self.n - self.r))

    @property
    def most(self) -> np.ndarray:
        """The largest number of relevant items that can be among those kept."""
        return np.minimum(self.kept, self.r)

    def only(self, chosen: np.ndarray | slice) -> Groups:
        """The groups that are chosen by an array of bool or indices, in one row."""
        return Groups(*(getattr(self, field.name)[chosen] for field in fields(Groups)))

    def hits(self, ties: Ties) -> np.ndarray:
        """The number of relevant items among those kept."""
        if ties == "expected":
            return self.kept * ratio(self.r, self.n)
        return self.most if ties == "optimistic" else self.fewest


def precision_sums(hist: Histograms, ties: Ties) -> np.ndarray:
    """Return `precision_sum` of every whole group, (Q, bits + 1), 0 of those without relevant items."""

    def compute() -> np.ndarray:
        found = np.zeros(hist.n.shape)
        some = hist.r > 0
        groups = once(hist, ("some",), lambda: groups_of(hist).only(some))
        sums = np.empty(len(groups.n))
        for part in (slice(at, at + TERMS) for at in range(0, len(sums), TERMS)):
            sums[part] = precision_sum(groups.only(part), ties)
        found[some] = sums
        return found

    return once(hist, ("sums", ties), compute)


def precision_total(hist: Histograms, k: int | None, ties: Ties) -> np.ndarray:
    """Return the sum of precisions at the relevant ranks among the first k items of each query, (Q,)."""
    if k is None:
        return precision_sums(hist, ties).sum(axis=1)
    cut = cut_groups(hist, k)
    last = np.zeros(cut.kept.shape)
    some = cut.kept > 0
    last[some] = precision_sum(cut.only(some), ties)
    return (sum_before(hist, k, ties) + last)[:, 0]


def sum_before(hist: Histograms, k: int, ties: Ties) -> np.ndarray:
    """Return the sum of `precision_sums` over the groups before the one that a cut k ends in, (Q, 1)."""

    def compute() -> np.ndarray:
        before = np.zeros(hist.n.shape)  # not by subtraction, which would cancel small sums before a large one
        np.cumsum(precision_sums(hist, ties)[:, :-1], axis=1, out=before[:, 1:])
        return before

    return np.take_along_axis(once(hist, ("before", ties), compute), cut_place(hist, k), axis=1)


def hits_at(hist: Histograms, k: int, ties: Ties) -> np.ndarray:
    """Return the number of relevant items among the first k of each query, (Q,)."""
    cut = cut_groups(hist, k)
    return (cut.hits_before + cut.hits(ties))[:, 0]


def precision_sum(groups: Groups, ties: Ties) -> np.ndarray:
    """Return the sum of precisions at the relevant ranks among the kept positions of every group.

    Expected: S = (r/n) [b m + (R0 + 1 - b (N + 1)) H], b = (r-1)/(n-1), H = 1/(N+1) + ... + 1/(N+m).
    """
    n, r, before, hits = groups.n, groups.r, groups.before, groups.hits_before
    if ties == "optimistic":
        return run_of_hits(groups.most, before, hits)
    if ties == "pessimistic":
        return run_of_hits(groups.fewest, before + n - r, hits)
    slope = ratio(r - 1, n - 1)
    span = harmonic_span(groups.kept, before)
    return ratio(r, n) * (slope * groups.kept + (hits + 1 - slope * (before + 1)) * span)


def run_of_hits(count: np.ndarray, before: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Return the sum of precisions of `count` relevant items in a row: (R0 + i) / (N + i) for i = 1, ..., count."""
    return count - (before - hits) * harmonic_span(count, before)


def harmonic_span(count: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return 1/(N+1) + ... + 1/(N+count) to full relative precision for counts of any size.

    Beyond 64 from H(N) = ln(N + 1/2) + gamma + 1/(24 (N + 1/2)^2) - ..., whose next term is below 2e-17 there; the
    logarithms' difference is taken as one, so that nothing cancels.
    """
    last = len(HARMONIC) - 1
    before, count = np.broadcast_arrays(before, count)
    small = before < last
    near = np.zeros(before.shape)
    after = np.minimum(before[small] + count[small], last).astype(np.intp)
    near[small] = HARMONIC[after] - HARMONIC[before[small].astype(np.intp)]
    start = np.maximum(before, last) + 0.5
    far_count = np.maximum(before + count + 0.5 - start, 0.0)
    far = np.log1p(far_count / start) + (_harmonic_rest(start + far_count) - _harmonic_rest(start))
    return near + far


def _harmonic_rest(middle: np.ndarray) -> np.ndarray:
    square = 1.0 / (middle * middle)
    return square * (1 / 24 - square * (7 / 960 - square * (31 / 8064)))


def cumulated(hist: Histograms) -> tuple[np.ndarray, np.ndarray]:
    """Return the items and the relevant items at each distance or nearer, (Q, bits + 1) int64."""
    return once(hist, ("within",), lambda: (np.cumsum(hist.n, axis=1), np.cumsum(hist.r, axis=1)))


def groups_of(hist: Histograms) -> Groups:
    """Return all groups, each kept whole, (Q, bits + 1)."""

    def compute() -> Groups:
        n, r = hist.n.astype(float), hist.r.astype(float)
        within, relevant_within = cumulated(hist)
        return Groups(n, r, within - n, relevant_within - r, n)

    return once(hist, ("groups",), compute)


def cut_place(hist: Histograms, k: int) -> np.ndarray:
    """Return the distance of the group that a cut k ends in, or the whole ranking where that is shorter, (Q, 1)."""
    kept = np.minimum(k, hist.ranked)[:, None]
    return once(hist, ("place", k), lambda: np.argmax(cumulated(hist)[0] >= kept, axis=1, keepdims=True))


def cut_groups(hist: Histograms, k: int) -> Groups:
    """Return the group of each query that a cut k ends in, (Q, 1)."""

    def compute() -> Groups:
        place, (within, relevant_within) = cut_place(hist, k), cumulated(hist)
        n, r, before, hits_before = (
            np.take_along_axis(counts, place, axis=1).astype(float)
            for counts in (hist.n, hist.r, within - hist.n, relevant_within - hist.r)
        )
        return Groups(n, r, before, hits_before, np.clip(k - before, 0, n))

    return once(hist, ("cut", k), compute)


def exclusive(counts: np.ndarray) -> np.ndarray:
    """Return the sums over all earlier places of the second axis."""
    return np.cumsum(counts, axis=1) - counts


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide, with 0 where there is nothing to divide by."""
    quotient = np.zeros(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)))
    return np.divide(numerator, denominator, out=quotient, where=np.asarray(denominator) > 0)
