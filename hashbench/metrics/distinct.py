"""Items that share code and labels, counted together: short codes of many items have few different words.

A sample of the database tells whether that pays (`repeats`). Then the items are gathered in hash tables, one a thread,
of different rows and how often each is there; only these rows are compared with the queries, as often as they are
there, and queries that are alike are one. The counts are those of every other kernel.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hashbench.metrics.compiling import compiled
from hashbench.metrics.histograms import cores, plain_labels
from hashbench.metrics.kernels_numba import NumbaCounter, label_words, words_of
from hashbench.metrics.large.rows import ConvertedRows

FEWEST_PAIRS = 1 << 28  # of queries and items: below, a sample would take more than a fiftieth of the counting
FEWEST_ITEMS = 1 << 18
SAMPLED, SLICES = 1 << 14, 8  # items of the sample, and places of the database where they lie
MOST_DIFFERENT = 0.4  # share of the sample; a row of a table costs about twice as much as an item
ROWS = 1 << 15  # different rows of a table, a power of two: it stays in the caches, and is counted when it is full
FEWEST_EACH = 2  # items of a row of a full table; with fewer of them, the rest is counted item by item
EMPTY = np.int32(-1)


@compiled
def _gather(
    codes: np.ndarray,
    labels: np.ndarray,
    start: int,
    stop: int,
    places: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    used: int,
) -> tuple[int, int]:
    """Add the items from `start` to `stop` to a hash table; return where that ended, and how many rows are used.

    codes and labels (words, n) uint64; `places` holds the row of each slot; rows (ROWS, words) uint64, of which the
    first `used` are there `weights` times. It ends early where no row is free.
    """
    words, more = codes.shape[0], labels.shape[0]
    last = np.uint64(len(places) - 1)
    for i in range(start, stop):
        code = codes[0, i]
        for w in range(1, words):
            code = (code ^ (code >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) ^ codes[w, i]
        for w in range(more):
            code = (code ^ (code >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) ^ labels[w, i]
        code = (code ^ (code >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        slot = (code >> np.uint64(32)) & last
        while True:
            row = places[slot]
            if row == EMPTY:
                if used == len(rows):
                    return i, used
                for w in range(words):
                    rows[used, w] = codes[w, i]
                for w in range(more):
                    rows[used, words + w] = labels[w, i]
                places[slot] = used
                weights[used] = 1
                used += 1
                break
            same = True
            for w in range(words):
                same &= rows[row, w] == codes[w, i]
            for w in range(more):
                same &= rows[row, words + w] == labels[w, i]
            if same:
                weights[row] += 1
                break
            slot = (slot + np.uint64(1)) & last
    return stop, used


class _Table:
    """Different rows of code and labels, and how often each was added."""

    def __init__(self, words: int, more: int, most: int):
        self._words = words
        self._places = np.full(2 * most, EMPTY, np.int32)
        self._rows = np.empty((most, words + more), np.uint64)
        self._weights = np.zeros(most, np.int64)
        self.used = 0

    def add(self, codes: np.ndarray, labels: np.ndarray, start: int, stop: int) -> int:
        """Add the items from `start` to `stop` of words (words, n) uint64; return where no row was free, or `stop`."""
        place, self.used = _gather(codes, labels, start, stop, self._places, self._rows, self._weights, self.used)
        return place

    def take(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return codes and labels (words, n) uint64 and weights (n,) int64 of all rows, and forget them."""
        rows, weights = np.ascontiguousarray(self._rows[: self.used].T), self._weights[: self.used].copy()
        self._places.fill(EMPTY)
        self.used = 0
        return rows[: self._words], rows[self._words :], weights


def repeats(database: np.ndarray | ConvertedRows, labels: np.ndarray | ConvertedRows | None, *, queries: int) -> bool:
    """Return whether items share code and labels so often that it pays to count them together, from a sample.

    database (n, bytes) uint8; labels as `histograms` takes them, or None where they say nothing.
    """
    if len(database) < FEWEST_ITEMS or queries * len(database) < FEWEST_PAIRS:
        return False
    size = SAMPLED // SLICES
    table: _Table | None = None
    for start in np.linspace(0, len(database) - size, SLICES).astype(np.int64):
        part = slice(start, start + size)
        codes, theirs = words_of(np.asarray(database[part])), _label_words(labels, part)
        table = table or _Table(len(codes), len(theirs), SAMPLED)
        table.add(codes, theirs, 0, size)
    return table is not None and table.used <= MOST_DIFFERENT * SAMPLED


def _label_words(labels: np.ndarray | ConvertedRows | None, part: slice) -> np.ndarray:
    if labels is None:
        return np.zeros((1, part.stop - part.start), np.uint64)
    return label_words(plain_labels(np.asarray(labels[part])))


class DistinctCounter:
    """Counts the different rows of code and labels of a streamed database (see `histograms.Counter`)."""

    def __init__(self, queries: np.ndarray, labels: np.ndarray, *, bits: int, levels: int, threads: int | None = None):
        """`queries (Q, bytes)` packed; `labels (Q,)` int64 or `(Q, C)` bool; `levels` of relevance, 0 among them."""
        codes, theirs = words_of(queries), label_words(labels)
        _, first, place = np.unique(np.vstack([codes, theirs]), axis=1, return_index=True, return_inverse=True)
        self._place = place.reshape(-1)  # of each query among the different ones
        self._different = NumbaCounter(queries[first], labels[first], bits=bits, levels=levels, threads=threads)
        self._tables = [_Table(len(codes), len(theirs), ROWS) for _ in range(threads or cores())]
        self._repeats = True
        self.tile = self._different.tile

    def add(self, database: np.ndarray, labels: np.ndarray) -> None:
        """Gather one tile of the database: packed codes (n, bytes) and their labels, n at most `tile`."""
        if not self._repeats:
            self._different.add(database, labels)
            return
        codes, theirs = words_of(database), label_words(labels)
        bounds = np.linspace(0, len(database), len(self._tables) + 1).astype(np.int64).tolist()
        places, stops = bounds[:-1], bounds[1:]
        with ThreadPoolExecutor(len(self._tables)) as pool:
            while places != stops:
                added = pool.map(lambda table, *part: table.add(codes, theirs, *part), self._tables, places, stops)
                places = list(added)
                for table, place, stop in zip(self._tables, places, stops, strict=True):
                    if place < stop:
                        self._count(table)

    def counts(self) -> np.ndarray:
        """Return the counts so far, (Q, levels, bits + 1) int64: by level of relevance, then by distance."""
        for table in self._tables:
            self._count(table)
        return self._different.counts()[self._place]

    def _count(self, table: _Table) -> None:
        """Count the rows of a table, and empty it."""
        codes, labels, weights = table.take()
        if len(weights):
            self._different.add_words(codes, labels, weights)
            self._repeats &= len(weights) < ROWS or bool(weights.sum() >= FEWEST_EACH * len(weights))
