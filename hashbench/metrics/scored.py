"""Real scores to histograms, so that what ranks without codes is measured by the same functions as codes are.

A ranking is cut into groups of items in its order: those at the score of a relevant item, and the irrelevant items
between two such. No measure of a ranking depends on the order inside the latter, so they count as tied, too.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hashbench.metrics.histograms import Histograms
from hashbench.metrics.pairs import Columns, Pairs


def score_histograms(scores: Iterable[np.ndarray], pairs: Pairs, *, queries: int, items: int) -> Histograms:
    """Return the groups of each query's ranking as histograms (Q, groups), the first items' group first.

    `scores` yields real arrays (n, N), the larger the earlier, of the queries in their order; `pairs` say what is
    relevant, with gain 1, and what is left out. What `Histograms` calls bits is the number of groups here, and a radius
    has no meaning. Raises ValueError without relevant pairs, for other gains, and where scores are missing, of another
    shape or not finite.
    """
    if pairs.relevant is None or pairs.largest_gain > 1:
        raise ValueError("Scores are measured by given pairs, all of gain 1.")
    relevant, excluded = (_by_query(columns, queries) for columns in (pairs.relevant, pairs.excluded))
    rows: list[tuple[np.ndarray, np.ndarray]] = []
    for some in scores:
        if some.ndim != 2 or some.shape[1] != items or not np.isfinite(some).all():
            raise ValueError(f"Scores {some.shape} are not finite numbers of shape (queries, {items}).")
        for row in some:
            query = len(rows)
            if query == queries:
                raise ValueError(f"There are scores of more than the {queries} queries.")
            kept = np.ones(items, bool)
            kept[excluded[query]] = False
            rows.append(_groups(np.sort(row[kept]), row[relevant[query]]))
    if len(rows) < queries:
        raise ValueError(f"There are scores of {len(rows)} queries instead of {queries}.")
    width = max(len(counts) for counts, _ in rows)
    n, r = (
        np.array([np.pad(row[which], (0, width - len(row[which]))) for row in rows], dtype=np.int64) for which in (0, 1)
    )
    left_out = None if pairs.excluded is None else np.array([len(some) for some in excluded], dtype=np.int64)
    return Histograms(n, r, r[:, None].copy(), left_out)


def _groups(ascending: np.ndarray, relevant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sizes of one ranking's groups, and the relevant items in each, (groups,) int64."""
    levels, hits = np.unique(relevant, return_counts=True)
    levels, hits = levels[::-1], hits[::-1]
    above = len(ascending) - np.searchsorted(ascending, levels, side="right")
    through = len(ascending) - np.searchsorted(ascending, levels, side="left")
    ends = np.stack([above, through], axis=1).ravel()
    n = np.diff(np.concatenate([[0], ends, [len(ascending)]]))
    r = np.zeros(len(n), np.int64)
    r[1:-1:2] = hits
    return n, r


def _by_query(columns: Columns | None, queries: int) -> list[np.ndarray]:
    """Return the items of each query's pairs."""
    if columns is None:
        return [np.empty(0, np.int64)] * queries
    order = np.argsort(columns.query, kind="stable")
    ends = np.cumsum(np.bincount(columns.query, minlength=queries))
    return np.split(columns.items[order], ends[:-1])
