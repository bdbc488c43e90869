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

    n (Q, bits + 1) int64: items at each distance; r (Q, bits + 1) int64: those of them that share a label with the
    query; gains (Q, L, bits + 1) int64 or None: those that share exactly 1, 2, ..., L labels (only nDCG needs them).
    Raises ValueError when the shapes do not belong together.
    """

    n: np.ndarray
    r: np.ndarray
    gains: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.n.ndim != 2 or self.n.shape != self.r.shape:
            raise ValueError(
                f"Histograms n {self.n.shape} and r {self.r.shape} must both have the shape (queries, bits + 1)."
            )
        if self.gains is not None and (self.gains.ndim != 3 or self.gains.shape[::2] != self.n.shape):
            raise ValueError(f"Gains {self.gains.shape} do not belong to histograms {self.n.shape}: one row a query.")

    def __add__(self, other: Histograms) -> Histograms:
        if self.n.shape != other.n.shape or (self.gains is None) != (other.gains is None):
            raise ValueError("Only histograms of the same queries and bits, all with gains or all without, add up.")
        gains = None if self.gains is None or other.gains is None else self.gains + other.gains
        return Histograms(self.n + other.n, self.r + other.r, gains)

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
        """Number of items in the database."""
        return int(self.n[0].sum())

    @property
    def relevant(self) -> np.ndarray:
        """Number of relevant items of each query, (Q,) int64."""
        return self.r.sum(axis=1)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the plain arrays by name, as `numpy.savez` takes them and `from_arrays` reads them."""
        return {"n": self.n, "r": self.r} | ({} if self.gains is None else {"gains": self.gains})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Histograms:
        """Return the histograms that `arrays` came from; also accepts an open `.npz` file."""
        return cls(arrays["n"], arrays["r"], arrays.get("gains"))


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


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plain_labels(labels: np.ndarray) -> np.ndarray:
    """Return labels as the kernels take them: (n,) int64, or (n, C) bool from multi-hot."""
    return np.asarray(labels) != 0 if labels.ndim == 2 else np.asarray(labels).astype(np.int64)
