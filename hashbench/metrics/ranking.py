"""Distance histograms to per-query measures, in closed form and with Hamming ties treated exactly.

Items at one distance are tied. Every function of a ranking takes `ties`: "expected" is the mean over all orders inside
the tie groups (McSherry & Najork, ECIR 2008), "optimistic" and "pessimistic" the largest and smallest value that any
order gives. Conventions: no query is dropped; a query without relevant items scores 0; an empty Hamming ball has
precision 0; a cut k beyond the database ends at the database, except that P@k still divides by k.

In the formulas a group has n items, r of them relevant, of which the first m are kept; N items, R0 of them relevant,
come before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from hashbench.metrics.histograms import Histograms
from hashbench.metrics.tie_groups import (
    TERMS,
    Groups,
    cumulated,
    cut_groups,
    cut_place,
    exclusive,
    hits_at,
    once,
    precision_sum,
    precision_total,
    ratio,
    run_of_hits,
    sum_before,
)
from hashbench.metrics.tie_groups import Ties as Ties

Denominator = Literal["R", "hits", "min"]


@dataclass(frozen=True)
class Curve:
    """Points of a curve, macro-averaged over queries: x and y (points,) float64, `at` (points,) the radius or rank."""

    x: np.ndarray
    y: np.ndarray
    at: np.ndarray


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
    total = once(hist, ("total", k, ties), lambda: precision_total(hist, k, ties))
    relevant = hist.relevant.astype(float)
    return ratio(total, relevant if denominator != "min" or k is None else np.minimum(relevant, k))


def precision_at(hist: Histograms, k: int, *, ties: Ties = "expected") -> np.ndarray:
    """Return the share of relevant items among the first k of each query, (Q,) float64; divides by k even beyond N."""
    _check(hist, k, ties)
    return hits_at(hist, k, ties) / k


def recall_at(hist: Histograms, k: int, *, ties: Ties = "expected") -> np.ndarray:
    """Return the share of each query's relevant items that are among its first k, (Q,) float64."""
    _check(hist, k, ties)
    return ratio(hits_at(hist, k, ties), hist.relevant)


def hit_rate_at(hist: Histograms, k: int, *, ties: Ties = "expected") -> np.ndarray:
    """Return whether any relevant item is among each query's first k, (Q,) float64: in expectation its probability."""
    _check(hist, k, ties)
    if ties != "expected":
        return (hits_at(hist, k, ties) > 0).astype(float)
    cut = cut_groups(hist, k)
    return np.where(cut.hits_before > 0, 1.0, 1 - _none_of(cut.r[:, 0], cut.kept[:, 0], cut.n[:, 0])[:, None])[:, 0]


def precision_in_ball(hist: Histograms, radius: int) -> np.ndarray:
    """Return the share of relevant items within the Hamming radius of each query, (Q,) float64; 0 when none is."""
    inside, relevant_inside = _ball(hist, radius)
    return ratio(relevant_inside, inside)


def recall_in_ball(hist: Histograms, radius: int) -> np.ndarray:
    """Return the share of each query's relevant items that lie within the Hamming radius, (Q,) float64."""
    return ratio(_ball(hist, radius)[1], hist.relevant)


def f1_in_ball(hist: Histograms, radius: int) -> np.ndarray:
    """Return each query's harmonic mean of precision and recall within the Hamming radius, (Q,) float64."""
    inside, relevant_inside = _ball(hist, radius)
    return ratio(2.0 * relevant_inside, inside + hist.relevant)


def ndcg_at(hist: Histograms, k: int, *, ties: Ties = "expected") -> np.ndarray:
    """Return nDCG of each query's first k items, gain = number of shared labels, discount 1 / log2(rank + 1), (Q,).

    Järvelin & Kekäläinen (TOIS 2002) with linear gain; where pairs are given, the gain is that of the pair. Raises
    ValueError for histograms counted without gains.
    """
    _check(hist, k, ties)
    if hist.gains is None:
        raise ValueError("nDCG needs counts by number of shared labels; count with histograms(..., gains=True).")
    discounts = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, min(k, _longest(hist)) + 2)))])
    gain = np.arange(hist.gains.shape[1], 0, -1)
    by_gain = hist.gains[:, ::-1]  # most shared labels first
    totals = once(hist, ("totals",), lambda: by_gain.sum(axis=2))
    reach = int(cut_place(hist, k).max()) + 1  # items further away than the cut of every query count for nothing
    n, counts = hist.n[:, :reach], by_gain[:, :, :reach]  # (Q, L, reach)

    def discounted(count: np.ndarray, before: np.ndarray) -> np.ndarray:
        start, stop = np.minimum(before, len(discounts) - 1), np.minimum(before + count, len(discounts) - 1)
        return discounts[stop] - discounts[start]

    if ties == "expected":
        mean_gain = ratio(np.tensordot(counts, gain, axes=(1, 0)), n)
        dcg = (mean_gain * discounted(n, exclusive(n))).sum(axis=1)
    else:
        if ties == "optimistic":
            before = exclusive(n)[:, None] + exclusive(counts)
        else:
            before = np.cumsum(n, axis=1)[:, None] - np.cumsum(counts, axis=1)
        dcg = np.tensordot(discounted(counts, before).sum(axis=2), gain, axes=(1, 0))
    ideal = (gain * discounted(totals, exclusive(totals))).sum(axis=1)
    return ratio(dcg, ideal)


def curve_by_radius(hist: Histograms) -> Curve:
    """Return the precision-recall curve over the Hamming radii 0, 1, ..., bits: x recall, y precision."""
    inside, relevant_inside = cumulated(hist)
    recall = ratio(relevant_inside, hist.relevant[:, None])
    return Curve(recall.mean(axis=0), ratio(relevant_inside, inside).mean(axis=0), np.arange(hist.bits + 1))


def curve_by_rank(hist: Histograms, *, points: int = 50) -> Curve:
    """Return the precision-recall curve over about `points` log-spaced cuts k = 1, ..., N, ties in expectation.

    Where items are left out, N is the length of the longest ranking; a shorter one ends where it does.
    """
    _check(hist, None, "expected")
    cuts = np.unique(np.geomspace(1, _longest(hist), points).round().astype(np.int64))
    ranks, found = (np.pad(counts, ((0, 0), (1, 0))) for counts in cumulated(hist))
    # The cuts of all queries are looked for at once: the ranks of each query go on from those of the one before.
    query = np.arange(hist.queries)[:, None]
    steps = query * (_longest(hist) + 1)
    last = np.searchsorted((ranks + steps).ravel(), cuts + steps, side="right") - 1
    following = np.minimum(last + 1, (query + 1) * ranks.shape[1] - 1)
    rank, hits = ranks.take(last), found.take(last)
    # Between the ends of a group the expected number of hits grows linearly with k.
    hits = ratio(found.take(following) - hits, ranks.take(following) - rank) * (cuts - rank) + hits
    return Curve(ratio(hits, hist.relevant[:, None]).mean(axis=0), (hits / cuts).mean(axis=0), cuts)


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
    over_hits = {"expected": _expected, "optimistic": _largest, "pessimistic": _smallest}[ties]
    return over_hits(sum_before(hist, k, ties), cut_groups(hist, k))[:, 0]


def _largest(head: np.ndarray, cut: Groups) -> np.ndarray:
    """Return the maximum over h of (head + the precisions of h hits in front) / (R0 + h), (Q, 1).

    One more hit raises the average once its precision exceeds it, and then so does each further one: the largest value
    is at one of the two ends.
    """
    ends = [
        ratio(head + run_of_hits(h, cut.before, cut.hits_before), cut.hits_before + h) for h in (cut.fewest, cut.most)
    ]
    return np.maximum(*ends)


def _smallest(head: np.ndarray, cut: Groups) -> np.ndarray:
    """Return the minimum over h of (head + c(h)) / (R0 + h), c(h) with the h hits in the last kept places, (Q, 1).

    c is convex in h, so the quotient falls and then rises: bisect for the first h whose successor is no smaller.
    """

    def last(h: np.ndarray) -> np.ndarray:
        return run_of_hits(h, cut.before + cut.kept - h, cut.hits_before)

    low, high = cut.fewest, cut.most
    while (low < high).any():
        middle = np.floor((low + high) / 2)
        there = last(middle)
        rises = (last(middle + 1) - there) * (cut.hits_before + middle) >= head + there
        low, high = np.where(rises | (low == high), low, middle + 1), np.where(rises, middle, high)
    return ratio(head + last(low), cut.hits_before + low)


def _expected(head: np.ndarray, cut: Groups) -> np.ndarray:
    """Return E_h[(head + S(m, h, m)) / (R0 + h)] for h ~ Hypergeometric(n, r, m), 0 where R0 + h = 0, (Q, 1).

    h further than 5 sqrt(v) from its mean, v = min(m, r, n - m, n - r), has a probability below 4e-22 (Hoeffding) and
    is left out: far below the rounding of a float64.
    """
    n, r, m = cut.n, cut.r, cut.kept
    reach = np.ceil(5 * np.sqrt(np.minimum(np.minimum(m, r), np.minimum(n - m, n - r))))
    low = np.maximum(cut.fewest, np.floor(m * r / n) - reach)
    high = np.minimum(cut.most, np.ceil(m * r / n) + reach)
    expected = np.empty_like(head)
    left = np.argsort(low - high, axis=0)[
        :, 0
    ]  # those with the most terms first, so that terms of as many lie together
    while len(left):
        rows = max(1, TERMS // int(high[left[0], 0] - low[left[0], 0] + 1))
        part, left = left[:rows], left[rows:]
        h, chance = _hypergeometric(n[part], r[part], m[part], low[part], high[part])
        kept = Groups(m[part], h, cut.before[part], cut.hits_before[part], m[part])
        value = ratio(head[part] + precision_sum(kept, "expected"), kept.hits_before + h)
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
    odds = ratio((r - previous) * (m - previous), following * (n - r - m + following))
    log_chance = np.zeros_like(h)
    log_chance[:, 1:] = np.cumsum(np.log(np.where(inside[:, 1:], odds, 1.0)), axis=1)
    log_chance -= log_chance.max(axis=1, where=inside, initial=-np.inf, keepdims=True)
    chance = np.exp(log_chance, where=inside, out=np.zeros_like(h))
    return h, chance / chance.sum(axis=1, keepdims=True)


def _ball(hist: Histograms, radius: int) -> tuple[np.ndarray, np.ndarray]:
    if radius < 0:
        raise ValueError(f"The Hamming radius {radius} is negative; it counts differing bits, from 0 on.")
    return hist.n[:, : radius + 1].sum(axis=1), hist.r[:, : radius + 1].sum(axis=1)


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
