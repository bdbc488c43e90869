"""Codes to distance histograms: for each query, how many database items lie at each Hamming distance.

The histograms are all that the measures need. They are integers, they add up over shards of the database and do not
depend on its order; so one pass over the codes is enough, nothing is sorted, and every kernel gives the same bits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from hashbench.metrics.rows import Rows

MAX_BITS = 1024
Backend = Literal["auto", "numba", "torch"]


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
    """What a kernel is: queries are fixed, tiles of the database are added, counts are read at the end.

    Made from queries (Q, bytes) packed, labels (Q,) int64 or (Q, C) bool, bits, and the levels of relevance: 0 for
    none, then one for each number of shared labels, the last one for that many or more.
    """

    tile: int

    def add(self, database: np.ndarray, labels: np.ndarray) -> None:
        """Count a tile of at most `tile` items: packed codes (n, bytes), labels (n,) int64 or (n, C) bool."""

    def counts(self) -> np.ndarray:
        """Return the counts so far, (Q, levels, bits + 1) int64."""


def pack(codes: np.ndarray) -> np.ndarray:
    """Pack codes (n, bits) bool into bytes (n, ceil(bits / 8)) uint8, first bit highest, padded with zeros."""
    if codes.ndim != 2 or codes.dtype != np.bool_:
        raise ValueError(f"Codes to pack must be bool of shape (n, bits), not {codes.dtype} {codes.shape}.")
    return np.packbits(codes, axis=1)


def unpack(packed: np.ndarray, bits: int) -> np.ndarray:
    """Unpack bytes (n, ceil(bits / 8)) uint8 into codes (n, bits) bool; the inverse of `pack`."""
    _check_packed(packed, "Codes", bits)
    return np.unpackbits(packed, axis=1, count=bits).astype(bool)


def histograms(
    query: np.ndarray | Rows,
    database: np.ndarray | Rows,
    query_labels: np.ndarray | Rows,
    database_labels: np.ndarray | Rows,
    *,
    bits: int,
    backend: Backend = "auto",
    device: str = "cpu",
    gains: bool = False,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda items: None,
) -> Histograms:
    """Count the database by Hamming distance from each query, and the relevant part of it.

    query (Q, ceil(bits / 8)) and database (N, ceil(bits / 8)) are packed uint8; labels are integers (Q,), (N,) or
    multi-hot (Q, C), (N, C). The database and its labels may be memory-mapped: they are read a tile at a time.
    `backend` is "numba" (CPU), "torch" (any `device`) or "auto": numba on the CPU where it is installed, else torch.
    `gains` counts by number of shared labels too. `threads` are those of the CPU kernels (None: one a core), and
    `progress` hears how many items each tile had. Raises ValueError when codes, labels and bits do not fit together.
    """
    _check_packed(query, "Query codes", bits)
    _check_packed(database, "Database codes", bits)
    _check_labels(query_labels, len(query), database_labels, len(database))
    if len(query) == 0:
        raise ValueError("There are no query codes; at least one query is needed.")
    query, labels = np.asarray(query), plain_labels(np.asarray(query_labels))
    most_shared = max(1, int(labels.sum(axis=1).max())) if gains and labels.ndim == 2 else 1
    counter = _counter(backend, device, query, labels, bits=bits, levels=1 + most_shared, threads=threads)
    for start in range(0, len(database), counter.tile):
        tile = slice(start, start + counter.tile)
        codes = np.asarray(database[tile])
        _check_padding(codes, "Database codes", bits)
        counter.add(codes, plain_labels(database_labels[tile]))
        progress(len(codes))
    counts = counter.counts()
    return Histograms(counts.sum(axis=1), counts[:, 1:].sum(axis=1), counts[:, 1:].copy() if gains else None)


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plain_labels(labels: np.ndarray) -> np.ndarray:
    """Return labels as the kernels take them: (n,) int64, or (n, C) bool from multi-hot."""
    return np.asarray(labels) != 0 if labels.ndim == 2 else np.asarray(labels).astype(np.int64)


def _counter(
    backend: Backend,
    device: str,
    query: np.ndarray,
    labels: np.ndarray,
    *,
    bits: int,
    levels: int,
    threads: int | None,
) -> Counter:
    _check_padding(query, "Query codes", bits)
    if backend not in ("auto", "numba", "torch"):
        raise ValueError(f"Unknown backend '{backend}'; known are auto, numba and torch.")
    if backend == "numba" and device != "cpu":
        raise ValueError(f"The numba backend runs on the CPU, not on '{device}'; use backend torch there.")
    if backend == "numba" or (backend == "auto" and device == "cpu"):
        try:
            from hashbench.metrics.kernels_numba import NumbaCounter

            return NumbaCounter(query, labels, bits=bits, levels=levels, threads=threads)
        except ImportError as error:
            if backend == "numba":
                raise ValueError(f"The numba backend cannot be imported ({error}); use backend torch.") from error
    from hashbench.metrics.kernels_torch import TorchCounter

    return TorchCounter(query, labels, bits=bits, levels=levels, device=device, threads=threads)


def _check_packed(packed: np.ndarray | Rows, name: str, bits: int) -> None:
    if not 1 <= bits <= MAX_BITS:
        raise ValueError(f"Codes of {bits} bits cannot be measured; bits must lie between 1 and {MAX_BITS}.")
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != -(-bits // 8):
        raise ValueError(
            f"{name} are {packed.dtype} {packed.shape}; codes of {bits} bits must be packed into "
            f"uint8 (n, {-(-bits // 8)}): see hashbench.metrics.pack."
        )


def _check_padding(packed: np.ndarray, name: str, bits: int) -> None:
    padding = -bits % 8
    if padding and (packed[:, -1] & ((1 << padding) - 1)).any():
        raise ValueError(f"{name} have ones beyond bit {bits}; they were packed from longer codes: check bits.")


def _check_labels(query: np.ndarray | Rows, queries: int, database: np.ndarray | Rows, items: int) -> None:
    for name, labels, count in (("Query", query, queries), ("Database", database, items)):
        if len(labels.shape) not in (1, 2) or (labels.ndim == 1 and labels.dtype.kind not in "iu"):
            raise ValueError(
                f"{name} labels are {labels.dtype} {labels.shape}; they must be integers (n,) or multi-hot (n, C)."
            )
        if len(labels) != count:
            raise ValueError(f"{name} labels and codes differ in number: {len(labels)} labels for {count} codes.")
    if query.ndim != database.ndim or query.shape[1:] != database.shape[1:]:
        raise ValueError(
            f"Query labels {query.shape} and database labels {database.shape} do not fit: both must be integers (n,) "
            "or both multi-hot over the same classes."
        )
