"""Distance histograms to per-query measures, in closed form and with Hamming ties treated exactly.

Items at one distance are tied. Every function of a ranking takes `ties`: "expected" is the mean over all orders inside
the tie groups (McSherry & Najork, ECIR 2008), "optimistic" and "pessimistic" the largest and smallest value that any
order gives. Conventions: no query is dropped; a query without relevant items scores 0; an empty Hamming ball has
precision 0; a cut k beyond the database ends at the database, except that P@k still divides by k.

In the formulas a group has n items, r of them relevant, of which the first m are kept; N items, R0 of them relevant,
come before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from hashbench.metrics.histograms import Histograms

Ties = Literal["expected", "optimistic", "pessimistic"]
Denominator = Literal["R", "hits", "min"]
HARMONIC = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, 65))])
TERMS = 1 << 19  # terms of the hypergeometric expectations in memory at a time
Found = TypeVar("Found")


@dataclass(frozen=True)
class Curve:
    """Points of a curve, macro-averaged over queries: x and y (points,) float64, `at` (points,) the radius or rank."""

    x: np.ndarray
    y: np.ndarray
    at: np.ndarray


@dataclass(frozen=True, eq=False)
class SharedHistograms(Histograms):
    """Histograms of one evaluation: what several of its measures need of them is computed once."""

    known: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, hist: Histograms) -> SharedHistograms:
        """Return these histograms, with nothing computed yet."""
        return cls(hist.n, hist.r, hist.gains, hist.excluded)


def _once(hist: Histograms, key: tuple[Any, ...], compute: Callable[[], Found]) -> Found:
    if not isinstance(hist, SharedHistograms):
        return compute()
    if key not in hist.known:
        hist.known[key] = compute()
    found: Found = hist.known[key]
    return found


@dataclass(frozen=True)
class _Groups:
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

    def only(self, chosen: np.ndarray) -> _Groups:
        """The groups that are chosen by an array of bool or indices, in one row."""
        return _Groups(*(getattr(self, field.name)[chosen] for field in fields(_Groups)))

    def hits(self, ties: Ties) -> np.ndarray:
        """The number of relevant items among those kept, (Q,)."""
        expected = self.kept * _ratio(self.r, self.n)
        return {"expected": expected, "optimistic": self.most, "pessimistic": self.fewest}[ties].sum(axis=1)


def average_precision(
    hist: Histograms, k: int | None = None, *, denominator: Denominator = "R", ties: Ties = "expected"
) -> np.ndarray:
    """Return the average precision of each query over its first k items (all when None), (Q,) float64.

    The sum of precisions at relevant ranks is divided by "R" all relevant items, "hits" the relevant items among the
    first k, or "min" the smaller of k and R. Definitions: docs/metrics.md. Raises ValueError when k < 1.
    """
    _check(hist, k, ties)
    if denominator not in get_args(Denominator):
        raise ValueError(f"Unknown denominator '{denominator}'; known are R, hits and min.")
    if denominator == "hits" and k is not None:
        cut = hist.ranked > k  # elsewhere the first k items are the whole ranking, and their hits all relevant items
        if cut.all():
            return _average_over_hits(hist, k, ties)
        values = average_precision(hist, None, ties=ties)
        if cut.any():
            values[cut] = _average_over_hits(Histograms(hist.n[cut], hist.r[cut]), k, ties)
        return values
    total = _once(hist, ("total", k, ties), lambda: _precision_sums(hist, k, ties).sum(axis=1))
    relevant = hist.relevant.astype(float)
    return _ratio(total, relevant if denominator != "min" or k is None else np.minimum(relevant, k))


def precision_at(hist: Histograms, k: int, *, ties: Ties = "expected") -> np.ndarray:
    """Return the share of relevant items among the first k of each query, (Q,) float64; divides by k even beyond N."""
    _check(hist, k, ties)
    return _hits(hist, k, ties) / k


def recall_at(hist: Histograms, k: int, *, ties: Ties = "expected") -> np.ndarray:
    """Return the share of each query's relevant items that are among its first k, (Q,) float64."""
    _check(hist, k, ties)
    return _ratio(_hits(hist, k, ties), hist.relevant)


def hit_rate_at(hist: Histograms, k: int, *, ties: Ties = "expected") -> np.ndarray:
    """Return whether any relevant item is among each query's first k, (Q,) float64: in expectation its probability."""
    _check(hist, k, ties)
    groups = _groups(hist, k)
    if ties != "expected":
        return (_hits(hist, k, ties) > 0).astype(float)
    cut = np.argmax(np.cumsum(hist.n, axis=1) >= k, axis=1)
    cut[hist.ranked <= k] = hist.bits
    n, r, hits_before, kept = (
        np.take_along_axis(values, cut[:, None], axis=1)[:, 0]
        for values in (groups.n, groups.r, groups.hits_before, groups.kept)
    )
    return np.where(hits_before > 0, 1.0, 1 - _none_of(r, kept, n))


def precision_in_ball(hist: Histograms, radius: int) -> np.ndarray:
    """Return the share of relevant items within the Hamming radius of each query, (Q,) float64; 0 when none is."""
    inside, relevant_inside = _ball(hist, radius)
    return _ratio(relevant_inside, inside)


def recall_in_ball(hist: Histograms, radius: int) -> np.ndarray:
    """Return the share of each query's relevant items that lie within the Hamming radius, (Q,) float64."""
    return _ratio(_ball(hist, radius)[1], hist.relevant)


def f1_in_ball(hist: Histograms, radius: int) -> np.ndarray:
    """Return each query's harmonic mean of precision and recall within the Hamming radius, (Q,) float64."""
    inside, relevant_inside = _ball(hist, radius)
    return _ratio(2.0 * relevant_inside, inside + hist.relevant)


def ndcg_at(hist: Histograms, k: int, *, ties: Ties = "expected") -> np.ndarray:
    """Return nDCG of each query's first k items, gain = number of shared labels, discount 1 / log2(rank + 1), (Q,).

    Järvelin & Kekäläinen (TOIS 2002) with linear gain; where pairs are given, the gain is that of the pair. Raises
    ValueError for histograms counted without gains.
    """
    _check(hist, k, ties)
    if hist.gains is None:
        raise ValueError("nDCG needs counts by number of shared labels; count with histograms(..., gains=True).")
    discounts = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, min(k, _longest(hist)) + 2)))])
    counts = hist.gains[:, ::-1]  # (Q, L, bits + 1), most shared labels first
    gain = np.arange(counts.shape[1], 0, -1)

    def discounted(count: np.ndarray, before: np.ndarray) -> np.ndarray:
        start, stop = np.minimum(before, len(discounts) - 1), np.minimum(before + count, len(discounts) - 1)
        return discounts[stop] - discounts[start]

    if ties == "expected":
        mean_gain = _ratio(np.tensordot(counts, gain, axes=(1, 0)), hist.n)
        dcg = (mean_gain * discounted(hist.n, _exclusive(hist.n))).sum(axis=1)
    else:
        if ties == "optimistic":
            before = _exclusive(hist.n)[:, None] + _exclusive(counts)
        else:
            before = np.cumsum(hist.n, axis=1)[:, None] - np.cumsum(counts, axis=1)
        dcg = np.tensordot(discounted(counts, before).sum(axis=2), gain, axes=(1, 0))
    totals = counts.sum(axis=2)
    ideal = (gain * discounted(totals, _exclusive(totals))).sum(axis=1)
    return _ratio(dcg, ideal)


def curve_by_radius(hist: Histograms) -> Curve:
    """Return the precision-recall curve over the Hamming radii 0, 1, ..., bits: x recall, y precision."""
    inside, relevant_inside = np.cumsum(hist.n, axis=1), np.cumsum(hist.r, axis=1)
    recall = _ratio(relevant_inside, hist.relevant[:, None])
    return Curve(recall.mean(axis=0), _ratio(relevant_inside, inside).mean(axis=0), np.arange(hist.bits + 1))


def curve_by_rank(hist: Histograms, *, points: int = 50) -> Curve:
    """Return the precision-recall curve over about `points` log-spaced cuts k = 1, ..., N, ties in expectation.

    Where items are left out, N is the length of the longest ranking; a shorter one ends where it does.
    """
    _check(hist, None, "expected")
    cuts = np.unique(np.geomspace(1, _longest(hist), points).round().astype(np.int64))
    # Between the ends of a group the expected number of hits grows linearly with k.
    start = np.zeros((hist.queries, 1), np.int64)
    ranks = np.concatenate([start, np.cumsum(hist.n, axis=1)], axis=1)
    found = np.concatenate([start, np.cumsum(hist.r, axis=1)], axis=1)
    hits = np.array([np.interp(cuts, ranks[q], found[q]) for q in range(hist.queries)])
    return Curve(_ratio(hits, hist.relevant[:, None]).mean(axis=0), (hits / cuts).mean(axis=0), cuts)


def _none_of(relevant: np.ndarray, drawn: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return the probability that none of the relevant items is among those drawn from all, without replacement.

    It is the product of 1 - more / (items - i) over i = 0, ..., fewer - 1, of the fewer and more of the two numbers.
    """
    fewer, more = np.minimum(relevant, drawn), np.maximum(relevant, drawn)
    missed = np.ones(len(items))
    for i in range(int(fewer.max(initial=0))):
        missed *= np.where(i < fewer, np.clip(1 - more / np.maximum(items - i, 1), 0, 1), 1.0)
        if not missed[fewer > i + 1].any():
            break  # nothing is left that a factor could change
    return missed


def _average_over_hits(hist: Histograms, k: int, ties: Ties) -> np.ndarray:
    """AP@k over the hits inside the top k, k < N everywhere: only the group that the cut splits has a random number."""
    groups = _groups(hist, k)
    place = np.argmax(np.cumsum(hist.n, axis=1) >= k, axis=1)[:, None]
    whole = np.arange(hist.bits + 1) < place
    head = np.where(whole, _precision_sums(hist, k, ties), 0.0).sum(axis=1, keepdims=True)
    cut = _Groups(*(np.take_along_axis(getattr(groups, field.name), place, axis=1) for field in fields(_Groups)))
    over_hits = {"expected": _expected, "optimistic": _largest, "pessimistic": _smallest}[ties]
    return over_hits(head, cut)[:, 0]


def _largest(head: np.ndarray, cut: _Groups) -> np.ndarray:
    """Return the maximum over h of (head + the precisions of h hits in front) / (R0 + h), (Q, 1).

    One more hit raises the average once its precision exceeds it, and then so does each further one: the largest value
    is at one of the two ends.
    """
    ends = [_ratio(head + _run(h, cut.before, cut.hits_before), cut.hits_before + h) for h in (cut.fewest, cut.most)]
    return np.maximum(*ends)


def _smallest(head: np.ndarray, cut: _Groups) -> np.ndarray:
    """Return the minimum over h of (head + c(h)) / (R0 + h), c(h) with the h hits in the last kept places, (Q, 1).

    c is convex in h, so the quotient falls and then rises: bisect for the first h whose successor is no smaller.
    """

    def last(h: np.ndarray) -> np.ndarray:
        return _run(h, cut.before + cut.kept - h, cut.hits_before)

    low, high = cut.fewest, cut.most
    while (low < high).any():
        middle = np.floor((low + high) / 2)
        rises = (last(middle + 1) - last(middle)) * (cut.hits_before + middle) >= head + last(middle)
        low, high = np.where(rises | (low == high), low, middle + 1), np.where(rises, middle, high)
    return _ratio(head + last(low), cut.hits_before + low)


def _expected(head: np.ndarray, cut: _Groups) -> np.ndarray:
    """Return E_h[(head + S(m, h, m)) / (R0 + h)] for h ~ Hypergeometric(n, r, m), 0 where R0 + h = 0, (Q, 1).

    h further than 5 sqrt(v) from its mean, v = min(m, r, n - m, n - r), has a probability below 4e-22 (Hoeffding) and
    is left out: far below the rounding of a float64.
    """
    n, r, m = cut.n, cut.r, cut.kept
    reach = np.ceil(5 * np.sqrt(np.minimum(np.minimum(m, r), np.minimum(n - m, n - r))))
    low = np.maximum(cut.fewest, np.floor(m * r / n) - reach)
    high = np.minimum(cut.most, np.ceil(m * r / n) + reach)
    rows = max(1, TERMS // int((high - low).max() + 1))
    expected = np.empty_like(head)
    for start in range(0, len(head), rows):
        part = slice(start, start + rows)
        h, chance = _hypergeometric(n[part], r[part], m[part], low[part], high[part])
        kept = _Groups(m[part], h, cut.before[part], cut.hits_before[part], m[part])
        value = _ratio(head[part] + _precision_sum(kept, "expected"), kept.hits_before + h)
        expected[part] = (chance * value).sum(axis=1, keepdims=True)
    return expected


def _hypergeometric(
    n: np.ndarray, r: np.ndarray, m: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return h = low, ..., high and the chance that h of r items are among m drawn out of n, both (Q, widest range).

    From the ratios of successive chances: nothing overflows and no large factorials cancel.
    """
    h = low + np.arange(int((high - low).max()) + 1)
    inside = h <= high
    previous, following = h[:, :-1], h[:, 1:]
    odds = _ratio((r - previous) * (m - previous), following * (n - r - m + following))
    log_chance = np.zeros_like(h)
    log_chance[:, 1:] = np.cumsum(np.log(np.where(inside[:, 1:], odds, 1.0)), axis=1)
    log_chance -= log_chance.max(axis=1, where=inside, initial=-np.inf, keepdims=True)
    chance = np.exp(log_chance, where=inside, out=np.zeros_like(h))
    return h, chance / chance.sum(axis=1, keepdims=True)


def _precision_sums(hist: Histograms, k: int | None, ties: Ties) -> np.ndarray:
    """Return `_precision_sum` of every group, (Q, bits + 1), 0 of those of which the cut keeps nothing."""

    def compute() -> np.ndarray:
        groups = _groups(hist, k)
        some = groups.kept > 0
        found = np.zeros(some.shape)
        found[some] = _precision_sum(_once(hist, ("kept", k), lambda: groups.only(some)), ties)
        return found

    return _once(hist, ("sums", k, ties), compute)


def _hits(hist: Histograms, k: int, ties: Ties) -> np.ndarray:
    return _once(hist, ("hits", k, ties), lambda: _groups(hist, k).hits(ties))


def _precision_sum(groups: _Groups, ties: Ties) -> np.ndarray:
    """Return the sum of precisions at the relevant ranks among the kept positions of every group.

    Expected: S = (r/n) [b m + (R0 + 1 - b (N + 1)) H], b = (r-1)/(n-1), H = 1/(N+1) + ... + 1/(N+m).
    """
    n, r, before, hits = groups.n, groups.r, groups.before, groups.hits_before
    if ties == "optimistic":
        return _run(groups.most, before, hits)
    if ties == "pessimistic":
        return _run(groups.fewest, before + n - r, hits)
    slope = _ratio(r - 1, n - 1)
    span = _harmonic_span(groups.kept, before)
    return _ratio(r, n) * (slope * groups.kept + (hits + 1 - slope * (before + 1)) * span)


def _run(count: np.ndarray, before: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Return the sum of precisions of `count` relevant items in a row: (R0 + i) / (N + i) for i = 1, ..., count."""
    return count - (before - hits) * _harmonic_span(count, before)


def _harmonic_span(count: np.ndarray, before: np.ndarray) -> np.ndarray:
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


def _groups(hist: Histograms, k: int | None) -> _Groups:
    def compute() -> _Groups:
        n, r = hist.n.astype(float), hist.r.astype(float)
        before = _exclusive(n)
        kept = n if k is None else np.clip(k - before, 0, n)
        return _Groups(n, r, before, _exclusive(r), kept)

    return _once(hist, ("groups", k), compute)


def _ball(hist: Histograms, radius: int) -> tuple[np.ndarray, np.ndarray]:
    if radius < 0:
        raise ValueError(f"The Hamming radius {radius} is negative; it counts differing bits, from 0 on.")
    return hist.n[:, : radius + 1].sum(axis=1), hist.r[:, : radius + 1].sum(axis=1)


def _exclusive(counts: np.ndarray) -> np.ndarray:
    """Return the sums over all earlier places of the second axis."""
    return np.cumsum(counts, axis=1) - counts


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide, with 0 where there is nothing to divide by."""
    quotient = np.zeros(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)))
    return np.divide(numerator, denominator, out=quotient, where=np.asarray(denominator) > 0)


def _longest(hist: Histograms) -> int:
    """Return the number of items in the longest ranking."""
    return int(hist.ranked.max())


def _check(hist: Histograms, k: int | None, ties: Ties) -> None:
    if k is not None and k < 1:
        raise ValueError(f"The cut k = {k} keeps nothing; it must be at least 1.")
    if ties not in get_args(Ties):
        raise ValueError(f"Unknown tie rule '{ties}'; known are {', '.join(get_args(Ties))}.")
    if _longest(hist) == 0:
        raise ValueError("The histograms count an empty database; there is nothing to rank.")
