"""Every measure by its definition, slowly: rankings written out item by item; only tests use it.

A ranking is a list of gains, best-ranked first: the number of labels that each item shares with the query, so that an
item is relevant when its gain is above 0. Each function here follows the definition word for word.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

Ranking = Sequence[int]


def tie_orders(distances: Sequence[int], gains: Sequence[int]) -> Iterator[list[int]]:
    """Yield the ranking under every order of the items inside their tie groups; only for a handful of items."""
    groups = [[g for g, d in zip(gains, distances, strict=True) if d == at] for at in sorted(set(distances))]
    for orders in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield [gain for group in orders for gain in group]


def random_order(distances: Sequence[int], gains: Sequence[int], generator: np.random.Generator) -> list[int]:
    """Return the ranking under one random order inside the tie groups."""
    shuffled = generator.permutation(len(distances))
    order = shuffled[np.argsort(np.asarray(distances)[shuffled], kind="stable")]
    return [gains[i] for i in order]


def over_orders(
    distances: Sequence[int], gains: Sequence[int], measure: Callable[[Ranking], float]
) -> tuple[float, float, float]:
    """Return mean, minimum and maximum of `measure` over all tie orders."""
    values = [measure(ranking) for ranking in tie_orders(distances, gains)]
    return math.fsum(values) / len(values), min(values), max(values)


def average_precision(ranking: Ranking, k: int | None, denominator: str) -> float:
    """Return the AP over the first k items (all when None), divided by "R", "hits" or "min"."""
    kept = ranking if k is None else ranking[:k]
    hits, total = 0, 0.0
    for rank, gain in enumerate(kept, start=1):
        if gain > 0:
            hits += 1
            total += hits / rank
    relevant = sum(gain > 0 for gain in ranking)
    divisor = {"R": relevant, "hits": hits, "min": relevant if k is None else min(k, relevant)}[denominator]
    return total / divisor if divisor else 0.0


def precision(ranking: Ranking, k: int) -> float:
    """Return the relevant items among the first k, over k."""
    return sum(gain > 0 for gain in ranking[:k]) / k


def hit(ranking: Ranking, k: int) -> float:
    """Return 1 where any of the first k items is relevant, else 0."""
    return float(any(gain > 0 for gain in ranking[:k]))


def recall(ranking: Ranking, k: int) -> float:
    """Return the relevant items among the first k, over all relevant ones; 0 without any."""
    relevant = sum(gain > 0 for gain in ranking)
    return sum(gain > 0 for gain in ranking[:k]) / relevant if relevant else 0.0


def ndcg(ranking: Ranking, k: int) -> float:
    """Return the discounted gain of the first k items over that of the best possible ranking; 0 without any gain."""

    def dcg(gains: Ranking) -> float:
        return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains[:k], start=1))

    ideal = dcg(sorted(ranking, reverse=True))
    return dcg(ranking) / ideal if ideal else 0.0


def in_ball(distances: Sequence[int], gains: Sequence[int], radius: int) -> tuple[float, float, float]:
    """Return precision, recall and F1 of the items within the Hamming radius; 0 where there is nothing to divide by."""
    inside = [gain > 0 for d, gain in zip(distances, gains, strict=True) if d <= radius]
    relevant = sum(gain > 0 for gain in gains)
    p = sum(inside) / len(inside) if inside else 0.0
    r = sum(inside) / relevant if relevant else 0.0
    return p, r, 2 * p * r / (p + r) if p + r else 0.0


def pairwise(
    query: np.ndarray, database: np.ndarray, query_labels: np.ndarray, database_labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return distances and shared labels of all pairs, (Q, N) int64 each, from unpacked bool codes."""
    distances = (query[:, None, :] != database[None, :, :]).sum(axis=2)
    if query_labels.ndim == 1:
        return distances, (query_labels[:, None] == database_labels[None, :]).astype(np.int64)
    return distances, ((query_labels[:, None, :] != 0) & (database_labels[None, :, :] != 0)).sum(axis=2)
