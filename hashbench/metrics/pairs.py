"""Relevance given by pairs of query and item, and pairs to leave out: read, checked, and counted into histograms.

The kernels count all items; only the pairs' own distances are computed beside them, so the cost is O(pairs). Databases
are read a tile at a time here too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import import_module
from typing import Any

import numpy as np

from hashbench.metrics.large.files import check_sparse

AT_A_TIME = 1 << 16  # pairs whose codes are compared at a time
LARGEST_GAIN = 255  # each gain is a histogram for each query
POPCOUNT = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Columns:
    """Pairs of query and item ordered by item: those of item i at starts[i]:starts[i + 1].

    query (pairs,) int64 is each pair's query, gain (pairs,) int64 its gain (1 where it is none), starts (N + 1,) int64.
    """

    query: np.ndarray
    gain: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.query)

    def between(self, start: int, stop: int) -> Columns:
        """Return the pairs of the items from `start` to `stop`, which are numbered from 0 then."""
        first, last = self.starts[start], self.starts[stop]
        return Columns(self.query[first:last], self.gain[first:last], self.starts[start : stop + 1] - first)

    @property
    def items(self) -> np.ndarray:
        """Each pair's item, (pairs,) int64."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    @classmethod
    def of(cls, item: np.ndarray, query: np.ndarray, gain: np.ndarray, items: int) -> Columns:
        """Return the pairs (pairs,) of each array, which are ordered by item and then by query."""
        starts = np.concatenate([[0], np.cumsum(np.bincount(item, minlength=items))])
        return cls(query.astype(np.int64), gain.astype(np.int64), starts.astype(np.int64))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which items are relevant to which queries, None where labels say so, and which pairs are left out of rankings."""

    relevant: Columns | None = None
    excluded: Columns | None = None
    largest_gain: int = 1  # of all relevant pairs, also where these are those of some items alone
    note: str = ""

    def __bool__(self) -> bool:
        return self.relevant is not None or self.excluded is not None

    def between(self, start: int, stop: int) -> Pairs:
        """Return the pairs of the items from `start` to `stop`, which are numbered from 0 then."""
        relevant = None if self.relevant is None else self.relevant.between(start, stop)
        excluded = None if self.excluded is None else self.excluded.between(start, stop)
        return replace(self, relevant=relevant, excluded=excluded)

    @property
    def kinds(self) -> str:
        """Which of the two there are."""
        return f"{'relevant' * (self.relevant is not None)} {'excluded' * (self.excluded is not None)}".strip()

    @property
    def fingerprint(self) -> str:
        """The sha256 of all pairs."""
        found = sha256()
        for name in ("relevant", "excluded"):
            columns: Columns | None = getattr(self, name)
            found.update(name.encode() if columns is not None else b"-")
            for array in () if columns is None else (columns.query, columns.gain, columns.starts):
                found.update(np.ascontiguousarray(array).tobytes() + b"|")
        return found.hexdigest()


def read_pairs(
    relevance: Any = None, exclude: Any = None, *, never_itself: bool = False, queries: int, items: int
) -> Pairs:
    """Return the pairs that sparse matrices (Q, N) of scipy hold; an item left out of a ranking is not relevant in it.

    A nonzero value of `relevance` makes the item relevant and is its gain: an integer from 1 to LARGEST_GAIN. A nonzero
    value of `exclude` leaves the pair out, `never_itself` all pairs (i, i). Raises ValueError for other things than
    sparse matrices, other shapes and gains, pairs that are there twice, and `never_itself` without as many queries as
    items.
    """
    relevant = None if relevance is None else _columns(relevance, "relevance", queries, items)
    excluded = None if exclude is None else _columns(exclude, "exclude", queries, items)
    if never_itself:
        if queries != items:
            raise ValueError(
                f"There are {queries:,} queries and {items:,} items; only where the queries are the database, in its "
                "order, can each be left out of its own ranking (never_itself, `--never-itself`)."
            )
        own = np.arange(items) * (queries + 1)
        keys = own if excluded is None else np.union1d(own, _keys(excluded, queries))
        excluded = Columns.of(keys // queries, keys % queries, np.ones(len(keys)), items)
    both = 0
    if relevant is not None and excluded is not None:
        keys, left_out = _keys(relevant, queries), np.append(_keys(excluded, queries), -1)
        kept = left_out[np.searchsorted(left_out[:-1], keys)] != keys
        both = int((~kept).sum())
        relevant = Columns.of(relevant.items[kept], relevant.query[kept], relevant.gain[kept], items)
    largest_gain = 1 if relevant is None else int(relevant.gain.max(initial=1))
    return Pairs(relevant, excluded, largest_gain, _note(relevant, excluded, both, queries))


class PairCounter:
    """What pairs change in the counts of a streamed database: adds the relevant ones, subtracts those left out."""

    def __init__(self, pairs: Pairs, queries: np.ndarray, labels: np.ndarray | None, *, bits: int, levels: int):
        """`queries (Q, bytes)` packed; `labels (Q,)` int64 or `(Q, C)` bool, None where pairs say what is relevant."""
        self._pairs, self._queries, self._labels, self._levels = pairs, queries, labels, levels
        self._change = np.zeros((len(queries), levels, bits + 1), np.int64)
        self.excluded = np.zeros(len(queries), np.int64)

    def add(self, start: int, database: np.ndarray, labels: np.ndarray | None) -> None:
        """Take a tile of the database that begins with item `start`: codes (n, bytes), labels (n,) or (n, C) bool."""
        tile = self._pairs.between(start, start + len(database))
        for query, item, gain in _slices(tile.relevant):
            distance = self._distances(query, item, database)
            self._count(query, 0, distance, -1)
            self._count(query, np.minimum(gain, self._levels - 1), distance, 1)
        for query, item, _ in _slices(tile.excluded):
            self._count(query, self._shared(query, item, labels), self._distances(query, item, database), -1)
            np.add.at(self.excluded, query, 1)

    def counts(self) -> np.ndarray:
        """Return what is to be added to the counts of all items at level 0, (Q, levels, bits + 1) int64."""
        return self._change

    def _distances(self, query: np.ndarray, item: np.ndarray, database: np.ndarray) -> np.ndarray:
        return POPCOUNT[self._queries[query] ^ database[item]].sum(axis=1)

    def _shared(self, query: np.ndarray, item: np.ndarray, labels: np.ndarray | None) -> np.ndarray | int:
        """Return the level at which each pair was counted: 0 where pairs are relevant, as those left out are not."""
        if self._labels is None or labels is None:
            return 0
        if labels.ndim == 1:
            return (self._labels[query] == labels[item]).astype(np.int64)
        return np.minimum((self._labels[query] & labels[item]).sum(axis=1), self._levels - 1)

    def _count(self, query: np.ndarray, level: np.ndarray | int, distance: np.ndarray, change: int) -> None:
        _, levels, width = self._change.shape
        np.add.at(self._change.reshape(-1), (query * levels + level) * width + distance, change)


def _slices(columns: Columns | None) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield query, item and gain of all pairs, some at a time."""
    if columns is None:
        return
    items = columns.items
    for start in range(0, len(columns), AT_A_TIME):
        part = slice(start, start + AT_A_TIME)
        yield columns.query[part], items[part], columns.gain[part]


def _columns(matrix: Any, name: str, queries: int, items: int) -> Columns:
    """Return the pairs with a nonzero value."""
    sparse: Any = import_module("scipy.sparse")  # slow to import, and only needed here
    if not sparse.issparse(matrix):
        raise ValueError(
            f"{name} is of type {type(matrix).__name__}; give a sparse matrix of scipy, a row a query and a column an "
            "item: scipy.sparse.csr_array(dense)."
        )
    if matrix.shape != (queries, items):
        raise ValueError(
            f"{name} has the shape {tuple(matrix.shape)}, but there are {queries:,} queries and {items:,} items; it "
            "needs a row for each query and a column for each item of the database."
        )
    try:
        check_sparse(matrix)
        pairs = sparse.coo_array(matrix)
    except Exception as error:
        raise ValueError(f"{name} is damaged: {error}") from error
    keys = pairs.col.astype(np.int64) * queries + pairs.row
    order = np.argsort(keys)
    keys = keys[order]
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
        item, query = divmod(int(keys[twice[0]]), queries)
        raise ValueError(f"{name} holds the pair of query {query} and item {item} more than once; keep one.")
    there = pairs.data[order] != 0
    keys, gain = keys[there], pairs.data[order][there]
    if name == "exclude":
        gain = np.ones(len(keys))
    elif len(gain) and not (
        gain.dtype.kind in "biuf" and 1 <= gain.min() <= gain.max() <= LARGEST_GAIN and (gain == np.floor(gain)).all()
    ):
        raise ValueError(
            f"relevance holds values from {gain.min()} to {gain.max()}; each is the gain of a pair, an integer from 1 "
            f"to {LARGEST_GAIN}, and what is not relevant is 0."
        )
    return Columns.of(keys // queries, keys % queries, gain, items)


def _keys(columns: Columns, queries: int) -> np.ndarray:
    """Return a number for each pair, (pairs,) int64, increasing."""
    return columns.items * queries + columns.query


def _note(relevant: Columns | None, excluded: Columns | None, both: int, queries: int) -> str:
    parts = []
    if relevant is not None:
        gains = relevant.gain.max(initial=1)
        graded = f", gains {relevant.gain.min()} to {gains}" if gains > 1 else ""
        without = queries - len(np.unique(relevant.query))
        parts.append(f"{len(relevant):,} relevant pairs{graded}, {without:,} of {queries:,} queries without any")
    if excluded is not None:
        which = f" ({both:,} of them were given as relevant, which they are not then)" if both else ""
        parts.append(f"{len(excluded):,} pairs left out{which}")
    return f"Pairs: {'; '.join(parts)}." if parts else ""
