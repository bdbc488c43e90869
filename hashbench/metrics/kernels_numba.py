"""The CPU kernel: XOR, popcount and count in one compiled pass, several threads, no sort.

What makes it fast: a block of distances is computed by vector instructions into a buffer that stays in the first-level
cache, and the distances of two items are counted with one increment, in a table of all pairs of distances whose
margins are the histogram (half the increments, and far fewer that wait for the one before). With one label per item a
tile is grouped by label first, so that the relevant items of a query are a range and relevance costs nothing. Items
that stand for several have weights, and are counted one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from hashbench.metrics.compiling import compiled, over_rows
from hashbench.metrics.histograms import Histograms, cores

BLOCK = 2048  # distances computed at a time: 8 KB, well inside the first-level cache
SLOT = np.uint32  # unsigned: a signed index would be checked for counting from the end
TILE_ITEMS = 65_536  # at most 32,768 pairs are counted between two settlements: 16-bit cells cannot overflow
TILE_BYTES = 1 << 20  # a tile's codes stay in the second-level cache while the queries pass over them
NO_WEIGHTS = np.zeros(0, np.int64)


def _popcount_instruction(typing: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


popcount: Any = intrinsic(_popcount_instruction)


@compiled
def distances_of(query: np.ndarray, database: np.ndarray, start: int, size: int, out: np.ndarray) -> None:
    """Write the distances of `query (words,)` to `size` items of `database (words, n)` into `out`."""
    words = database[0, start : start + size]
    for j in range(size):
        out[j] = popcount(query[0] ^ words[j])
    for w in range(1, database.shape[0]):
        words = database[w, start : start + size]
        for j in range(size):
            out[j] += popcount(query[w] ^ words[j])


@compiled
def _shared_labels(query: np.ndarray, labels: np.ndarray, start: int, size: int, out: np.ndarray) -> None:
    words = labels[0, start : start + size]
    for j in range(size):
        out[j] = popcount(query[0] & words[j])
    for w in range(1, labels.shape[0]):
        words = labels[w, start : start + size]
        for j in range(size):
            out[j] += popcount(query[w] & words[j])


@compiled
def _pairs(slots: int, items: int) -> np.ndarray:
    """Return the table of pairs, or none where fewer items than cells make settling cost more than it saves."""
    side = slots if items >= slots * slots else 0
    return np.zeros((side, side), np.uint16)


@compiled
def _tally(slots: np.ndarray, size: int, pairs: np.ndarray, histogram: np.ndarray, in_pairs: bool) -> None:
    """Count `slots[:size]`, two at a time into `pairs` or one at a time into `histogram`."""
    half = size // 2 if in_pairs else 0
    first, second, rest = slots[:half], slots[half : 2 * half], slots[2 * half : size]
    for j in range(half):
        pairs[first[j], second[j]] += np.uint16(1)
    for j in range(len(rest)):
        histogram[rest[j]] += 1


@compiled
def _tally_weighted(slots: np.ndarray, size: int, weights: np.ndarray, start: int, histogram: np.ndarray) -> None:
    """Count `slots[:size]` of the items from `start` on, each as often as its weight says."""
    for j in range(size):
        histogram[slots[j]] += weights[start + j]


@compiled
def _settle(pairs: np.ndarray, histogram: np.ndarray) -> None:
    """Add both margins of `pairs` to `histogram` and clear it."""
    for i in range(pairs.shape[0]):
        row = np.int64(0)
        for j in range(pairs.shape[1]):
            row += pairs[i, j]
            histogram[j] += pairs[i, j]
            pairs[i, j] = 0
        histogram[i] += row


@compiled
def _count_range(
    query: np.ndarray,
    database: np.ndarray,
    start: int,
    stop: int,
    slots: np.ndarray,
    pairs: np.ndarray,
    histogram: np.ndarray,
    in_pairs: bool,
    weights: np.ndarray,
) -> None:
    for block in range(start, stop, BLOCK):
        size = min(BLOCK, stop - block)
        distances_of(query, database, block, size, slots)
        if len(weights):
            _tally_weighted(slots, size, weights, block, histogram)
        else:
            _tally(slots, size, pairs, histogram, in_pairs)


@compiled
def _count_grouped(
    queries: np.ndarray,
    classes: np.ndarray,
    database: np.ndarray,
    starts: np.ndarray,
    weights: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Count one label per item: `database (words, n)` is grouped, class c lies at starts[c]:starts[c + 1]."""
    width = counts.shape[2]
    slots = np.empty(BLOCK, SLOT)
    n = database.shape[1]
    pairs = _pairs(width, n)
    for q in range(queries.shape[0]):
        query, first, last = queries[q], starts[classes[q]], starts[classes[q] + 1]
        in_pairs = not len(weights) and n - (last - first) >= width * width
        _count_range(query, database, 0, first, slots, pairs, counts[q, 0], in_pairs, weights)
        _count_range(query, database, last, n, slots, pairs, counts[q, 0], in_pairs, weights)
        if in_pairs:
            _settle(pairs, counts[q, 0])
        in_pairs = not len(weights) and last - first >= width * width
        _count_range(query, database, first, last, slots, pairs, counts[q, 1], in_pairs, weights)
        if in_pairs:
            _settle(pairs, counts[q, 1])


@compiled
def _count_masked(
    queries: np.ndarray,
    query_labels: np.ndarray,
    database: np.ndarray,
    labels: np.ndarray,
    width: int,
    weights: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Count several labels per item: slot = distance + width * shared labels, the latter at most levels - 1."""
    slots, shared = np.empty(BLOCK, SLOT), np.empty(BLOCK, SLOT)
    n, cells = database.shape[1], counts.shape[1]
    pairs = _pairs(cells, n)
    in_pairs = not len(weights) and n >= cells * cells
    highest = SLOT(cells // width - 1)
    for q in range(queries.shape[0]):
        for block in range(0, n, BLOCK):
            size = min(BLOCK, n - block)
            distances_of(queries[q], database, block, size, slots)
            _shared_labels(query_labels[q], labels, block, size, shared)
            for j in range(size):
                slots[j] += min(shared[j], highest) * SLOT(width)
            if len(weights):
                _tally_weighted(slots, size, weights, block, counts[q])
            else:
                _tally(slots, size, pairs, counts[q], in_pairs)
        if in_pairs:
            _settle(pairs, counts[q])


@compiled
def _group(
    database: np.ndarray, labels: np.ndarray, weights: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return codes and weights ordered by their label's place among the sorted `classes`, and where a class starts."""
    words, n = database.shape
    places = np.searchsorted(classes, labels)
    starts = np.zeros(len(classes) + 2, np.int64)
    for i in range(n):
        if places[i] == len(classes) or classes[places[i]] != labels[i]:
            places[i] = len(classes)  # no query has this label
        starts[places[i] + 1] += 1
    starts = np.cumsum(starts)
    free = starts.copy()
    grouped, grouped_weights = np.empty_like(database), np.empty_like(weights)
    for i in range(n):
        for w in range(words):
            grouped[w, free[places[i]]] = database[w, i]
        if len(weights):
            grouped_weights[free[places[i]]] = weights[i]
        free[places[i]] += 1
    return grouped, grouped_weights, starts


@compiled
def _rank_in_order(
    queries: np.ndarray,
    query_labels: np.ndarray,
    database: np.ndarray,
    labels: np.ndarray,
    several_labels: bool,
    nearer: np.ndarray,
    hits: np.ndarray,
    last_rank: np.ndarray,
    last_hit: np.ndarray,
    total: np.ndarray,
    found: np.ndarray,
) -> None:
    """Add the precision at every relevant item up to `last_rank` and `last_hit`, taking ties in database order."""
    slots, shared = np.empty(BLOCK, SLOT), np.empty(BLOCK, SLOT)
    n = database.shape[1]
    for q in range(queries.shape[0]):
        for block in range(0, n, BLOCK):
            size = min(BLOCK, n - block)
            distances_of(queries[q], database, block, size, slots)
            if several_labels:
                _shared_labels(query_labels[q], labels, block, size, shared)
            else:
                for j in range(size):
                    shared[j] = query_labels[q, 0] == labels[0, block + j]
            for j in range(size):
                nearer[q, slots[j]] += 1
                if shared[j] > 0:
                    hits[q, slots[j]] += 1
                    rank, hit = nearer[q, slots[j]], hits[q, slots[j]]
                    if rank <= last_rank[q] and hit <= last_hit[q]:
                        total[q] += hit / rank
                        found[q] += 1


def words_of(rows: np.ndarray) -> np.ndarray:
    """Return the bytes of each row, zero-padded, as 64-bit words: (n, bytes) uint8 -> (words, n) uint64."""
    padded = np.zeros((len(rows), -(-rows.shape[1] // 8)), np.uint64)
    padded.view(np.uint8)[:, : rows.shape[1]] = rows
    return np.ascontiguousarray(padded.T)


def label_words(labels: np.ndarray) -> np.ndarray:
    """Return labels as 64-bit words (words, n) uint64: (n,) int64 as they are, (n, C) bool as bit masks."""
    if labels.ndim == 1:
        return labels.astype(np.int64, copy=False).view(np.uint64)[None]
    return words_of(np.packbits(labels, axis=1))


def _tile(words: int) -> int:
    return min(TILE_ITEMS, TILE_BYTES // (8 * words))


class NumbaCounter:
    """Counts a streamed database for fixed queries on the CPU (see `histograms.Counter`)."""

    def __init__(self, queries: np.ndarray, labels: np.ndarray, *, bits: int, levels: int, threads: int | None = None):
        """`queries (Q, bytes)` packed; `labels (Q,)` int64 or `(Q, C)` bool; `levels` of relevance, 0 among them."""
        self._threads = threads or cores()
        self._queries = np.ascontiguousarray(words_of(queries).T)
        self._several_labels = labels.ndim == 2
        if self._several_labels:
            self._labels = np.ascontiguousarray(label_words(labels).T)
        else:
            self._classes, self._labels = np.unique(labels, return_inverse=True)
        self._counts = np.zeros((len(queries), levels, bits + 1), np.int64)
        self.tile = _tile(self._queries.shape[1])

    def add(self, database: np.ndarray, labels: np.ndarray) -> None:
        """Count one tile of the database: packed codes (n, bytes) and their labels, n at most `tile`."""
        self.add_words(words_of(database), label_words(labels))

    def add_words(self, codes: np.ndarray, labels: np.ndarray, weights: np.ndarray = NO_WEIGHTS) -> None:
        """Count items as words, codes and labels (words, n) uint64, each `weights (n,)` int64 times."""
        width = self._counts.shape[2]
        if self._several_labels:
            flat = self._counts.reshape(len(self._counts), -1)

            def count(part: slice) -> None:
                _count_masked(self._queries[part], self._labels[part], codes, labels, width, weights, flat[part])
        else:
            grouped, grouped_weights, starts = _group(codes, labels[0].view(np.int64), weights, self._classes)

            def count(part: slice) -> None:
                _count_grouped(
                    self._queries[part], self._labels[part], grouped, starts, grouped_weights, self._counts[part]
                )

        over_rows(len(self._queries), count, self._threads)

    def counts(self) -> np.ndarray:
        """Return the counts so far, (Q, levels, bits + 1) int64: by level of relevance, then by distance."""
        return self._counts


class NumbaRanker:
    """Ranks a streamed database for fixed queries, ties in its order, and sums the precisions at the relevant items.

    `total (Q,)` float64 and `hits (Q,)` int64 cover the relevant items that rank at most `last_rank (Q,)` and are among
    the first `last_hit (Q,)` relevant ones.
    """

    def __init__(
        self,
        queries: np.ndarray,
        labels: np.ndarray,
        hist: Histograms,
        *,
        last_rank: np.ndarray,
        last_hit: np.ndarray,
    ):
        """`queries (Q, bytes)` packed; `labels (Q,)` int64 or `(Q, C)` bool; `hist` of the whole database."""
        self._queries = np.ascontiguousarray(words_of(queries).T)
        self._several_labels = labels.ndim == 2
        self._labels = np.ascontiguousarray(label_words(labels).T)
        self._nearer = np.cumsum(hist.n, axis=1) - hist.n
        self._hits = np.cumsum(hist.r, axis=1) - hist.r
        self._last_rank, self._last_hit = last_rank, last_hit
        self.total, self.hits = np.zeros(len(queries)), np.zeros(len(queries), np.int64)
        self.tile = _tile(self._queries.shape[1])

    def add(self, database: np.ndarray, labels: np.ndarray) -> None:
        """Rank the next tile of the database: packed codes (n, bytes) and their labels, n at most `tile`."""
        codes, theirs = words_of(database), label_words(labels)

        def rank(part: slice) -> None:
            _rank_in_order(
                *(self._queries[part], self._labels[part], codes, theirs, self._several_labels),
                *(self._nearer[part], self._hits[part], self._last_rank[part], self._last_hit[part]),
                *(self.total[part], self.hits[part]),
            )

        over_rows(len(self._queries), rank, cores())
