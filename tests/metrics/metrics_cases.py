"""Codes and histograms that the tests of the metrics share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hashbench.metrics import Histograms


@dataclass(frozen=True)
class Codes:
    query: np.ndarray  # (Q, bits) bool
    database: np.ndarray
    query_labels: np.ndarray
    database_labels: np.ndarray


def make_codes(*, queries: int, items: int, bits: int, classes: int, multi_label: bool, seed: int = 0) -> Codes:
    """Clustered codes with noise, as training gives them; the last class of the database has no query."""
    random = np.random.default_rng(seed)
    centers = random.random((classes, bits)) < 0.5
    query_of, item_of = random.integers(0, max(1, classes - 1), queries), random.integers(0, classes, items)
    query = centers[query_of] ^ (random.random((queries, bits)) < 0.15)
    database = centers[item_of] ^ (random.random((items, bits)) < 0.15)
    if not multi_label:
        return Codes(query, database, query_of * 3 - 5, item_of * 3 - 5)
    query_labels, database_labels = (random.random((count, classes)) < 0.1 for count in (queries, items))
    query_labels[np.arange(queries), query_of] = True
    return Codes(query, database, query_labels, database_labels)


def single_query(distances: Sequence[int], gains: Sequence[int], *, bits: int | None = None) -> Histograms:
    """The histograms of one query, from each item's distance and shared labels."""
    bits = max(distances) if bits is None else bits
    at, gain = np.asarray(distances), np.asarray(gains)
    levels = [np.bincount(at[gain == g], minlength=bits + 1) for g in range(1, max(1, gain.max()) + 1)]
    by_level = np.stack(levels)[None].astype(np.int64)
    return Histograms(np.bincount(at, minlength=bits + 1)[None].astype(np.int64), by_level.sum(axis=1), by_level)
