"""Distance histograms as values, and what the kernels that count them have in common."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, eq=False)
class Histograms:
    """Counts of database items by Hamming distance, one row a query; the sum of two is that of both shards.

    n (Q, bits + 1) int64: items at each distance; r (Q, bits + 1) int64: the relevant ones of them; gains (Q, L,
    bits + 1) int64 or None: those of gain 1, 2, ..., L, which is the number of shared labels, or given with the pairs
    (only nDCG needs them); excluded (Q,) int64 or None: items that were left out of a query's ranking and are in none
    of the others. Raises ValueError when the shapes do not belong together.
    """

    n: np.ndarray
    r: np.ndarray
    gains: np.ndarray | None = None
    excluded: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.n.ndim != 2 or self.n.shape != self.r.shape:
            raise ValueError(
                f"Histograms n {self.n.shape} and r {self.r.shape} must both have the shape (queries, bits + 1)."
            )
        if self.gains is not None and (self.gains.ndim != 3 or self.gains.shape[::2] != self.n.shape):
            raise ValueError(f"Gains {self.gains.shape} do not belong to histograms {self.n.shape}: one row a query.")
        if self.excluded is not None and self.excluded.shape != self.n.shape[:1]:
            raise ValueError(f"Excluded {self.excluded.shape} do not belong to histograms {self.n.shape}.")

    def __add__(self, other: Histograms) -> Histograms:
        mine, others = self.arrays(), other.arrays()
        if self.n.shape != other.n.shape or mine.keys() != others.keys():
            raise ValueError(
                "Only histograms of the same queries and bits add up, all with gains or all without, all with items "
                "left out or all without."
            )
        if self.gains is not None and other.gains is not None:  # the largest gain may lie in one shard alone
            highest = max(self.gains.shape[1], other.gains.shape[1])
            mine["gains"], others["gains"] = _up_to(highest, self.gains), _up_to(highest, other.gains)
        return Histograms.from_arrays({name: mine[name] + others[name] for name in mine})

    @property
    def bits(self) -> int:
        """Length of the codes."""
        return self.n.shape[1] - 1

    @property
    def queries(self) -> int:
        """Number of queries."""
        return self.n.shape[0]

    @property
    def database(self) -> int:
        """Number of items in the database, those included that were left out of rankings."""
        return int((self.ranked if self.excluded is None else self.ranked + self.excluded).max())

    @property
    def ranked(self) -> np.ndarray:
        """Number of items in each query's ranking, (Q,) int64: N, without those left out."""
        return self.n.sum(axis=1)

    @property
    def relevant(self) -> np.ndarray:
        """Number of relevant items of each query, (Q,) int64."""
        return self.r.sum(axis=1)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the plain arrays by name, as `numpy.savez` takes them and `from_arrays` reads them."""
        optional = {"gains": self.gains, "excluded": self.excluded}
        return {"n": self.n, "r": self.r} | {name: array for name, array in optional.items() if array is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Histograms:
        """Return the histograms that `arrays` came from; also accepts an open `.npz` file."""
        return cls(arrays["n"], arrays["r"], arrays.get("gains"), arrays.get("excluded"))


class Counter(Protocol):
    """A counting kernel: queries are fixed, tiles of the database are added, counts are read at the end.

    Made from queries (Q, bytes) packed, labels (Q,) int64 or (Q, C) bool, bits, and the levels of relevance: 0 for
    none, then one for each number of shared labels, the last one for that many or more.
    """

    tile: int

    def add(self, database: np.ndarray, labels: np.ndarray) -> None:
        """Count a tile of at most `tile` items: packed codes (n, bytes), labels (n,) int64 or (n, C) bool."""

    def counts(self) -> np.ndarray:
        """Return the counts so far, (Q, levels, bits + 1) int64."""


def _up_to(highest: int, gains: np.ndarray) -> np.ndarray:
    """Return the counts (Q, L, bits + 1) of the gains 1, ..., `highest`, none at those above L."""
    return np.pad(gains, ((0, 0), (0, highest - gains.shape[1]), (0, 0)))


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plain_labels(labels: np.ndarray) -> np.ndarray:
    """Return labels as the kernels take them: (n,) int64, or (n, C) bool from multi-hot."""
    return np.asarray(labels) != 0 if labels.ndim == 2 else np.asarray(labels).astype(np.int64)
