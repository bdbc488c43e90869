"""Exact search among codes by multi-index hashing, and by a linear scan: what is found, and what it costs.

A code is cut into substrings, each with a table of its own; whoever is within Hamming distance r of a query has, in
table r mod m or one before it, a substring within r // m of the query's, or one within r // m - 1 in the others
(Norouzi, Punjani and Fleet, TPAMI 2014, arXiv:1307.2982). The tables are sorted arrays with a place for each value of a
substring, so that a lookup is two reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hashbench.metrics.compiling import compiled, over_rows
from hashbench.metrics.hamming import unpack
from hashbench.metrics.kernels_numba import BLOCK, SLOT, distances_of, popcount

MAX_WIDTH = 24  # bits of a substring, whose table has a place for each of its 2^width values
ROWS = 65_536  # whose bits are unpacked at a time


@dataclass(frozen=True)
class Found:
    """What a search found for each query, nearest first, and what it looked at."""

    starts: np.ndarray  # (Q + 1,) int64: what was found for query i is at starts[i]:starts[i + 1]
    items: np.ndarray  # (found,) int64: database items
    distances: np.ndarray  # (found,) int64: their Hamming distances
    buckets: np.ndarray  # (Q,) int64: table entries looked at, empty ones too; 0 of a linear scan
    candidates: np.ndarray  # (Q,) int64: items in them, each as often as it was met
    compared: np.ndarray  # (Q,) int64: different items, whose distance was computed


class MultiIndex:
    """Tables of a database of codes by substrings; searches are exact."""

    def __init__(self, database: np.ndarray, bits: int, *, tables: int | None = None):
        """Build `tables` (default: see `usual_tables`) of packed codes (N, ceil(bits / 8)) uint8.

        Substrings are consecutive bits, the first ones a bit longer where they differ. Raises ValueError where codes
        and bits do not fit together, and for a number of tables that is not possible.
        """
        tables = usual_tables(bits, len(database)) if tables is None else tables
        least = -(-bits // MAX_WIDTH)
        if not least <= tables <= bits:
            raise ValueError(f"Codes of {bits} bits can have {least} to {bits} tables, not {tables}.")
        self.bits = bits
        self.widths = np.array([bits // tables + (place < bits % tables) for place in range(tables)])
        self._words = _words(database, bits)
        keys = self._keys(database)
        self._offsets = np.concatenate([[0], np.cumsum((1 << self.widths) + 1)])
        self._order = np.empty((tables, len(database)), dtype=np.int32)
        self._starts = np.zeros(self._offsets[-1], dtype=np.int32)
        for place, width in enumerate(self.widths):
            self._order[place] = np.argsort(keys[place], kind="stable")
            counts = np.bincount(keys[place], minlength=1 << width)
            self._starts[self._offsets[place] + 1 : self._offsets[place + 1]] = np.cumsum(counts)

    def search(
        self,
        query: np.ndarray,
        *,
        radius: int | None = None,
        neighbours: int | None = None,
        ties: bool = False,
        threads: int = 1,
    ) -> Found:
        """Return all items within `radius`, or as many nearest `neighbours`, of packed codes (Q, ceil(bits / 8)).

        Which of the items at the last neighbour's distance are taken is arbitrary; with `ties`, all of them are. Raises
        ValueError for codes of another length, and unless one of the two is given.
        """
        limit, wanted = _asked(self.bits, radius, neighbours, len(self._words))
        words, keys = _words(query, self.bits), self._keys(query).T.copy()

        def part(rows: slice) -> tuple[np.ndarray, ...]:
            return _search(words[rows], keys[rows], self._words, self._order, self._starts, self._offsets, self.widths,
                           self.bits, limit, wanted, ties)  # fmt: skip

        return _gathered(len(query), part, threads)

    def _keys(self, codes: np.ndarray) -> np.ndarray:
        """Return the substrings (tables, n) of packed codes as numbers, the first bit counting most."""
        keys = np.empty((len(self.widths), len(codes)), dtype=np.int64)
        for start in range(0, len(codes), ROWS):
            bits = unpack(codes[start : start + ROWS], self.bits)
            for place, (end, width) in enumerate(zip(np.cumsum(self.widths), self.widths, strict=True)):
                keys[place, start : start + ROWS] = bits[:, end - width : end] @ (1 << np.arange(width)[::-1])
        return keys


def usual_tables(bits: int, items: int) -> int:
    """Return bits / log2(items), rounded: about one item for each value of a substring, as the paper advises."""
    return min(bits, max(-(-bits // MAX_WIDTH), round(bits / math.log2(max(items, 2))), 1))


class LinearScan:
    """A database of codes of which every distance to a query is computed."""

    def __init__(self, database: np.ndarray, bits: int):
        """Take packed codes (N, ceil(bits / 8)) uint8; raises ValueError where codes and bits do not fit together."""
        self.bits = bits
        self._words = _words(database, bits).T.copy()

    def search(
        self,
        query: np.ndarray,
        *,
        radius: int | None = None,
        neighbours: int | None = None,
        ties: bool = False,
        threads: int = 1,
    ) -> Found:
        """Return the same as `MultiIndex.search`; raises ValueError likewise."""
        limit, wanted = _asked(self.bits, radius, neighbours, self._words.shape[1])
        words = _words(query, self.bits)
        return _gathered(
            len(query), lambda rows: _scan(words[rows], self._words, self.bits, limit, wanted, ties), threads
        )


def linear_scan(
    query: np.ndarray,
    database: np.ndarray,
    bits: int,
    *,
    radius: int | None = None,
    neighbours: int | None = None,
    threads: int = 1,
) -> Found:
    """Return the same as `MultiIndex.search` from every distance; raises ValueError likewise."""
    return LinearScan(database, bits).search(query, radius=radius, neighbours=neighbours, threads=threads)


def _asked(bits: int, radius: int | None, neighbours: int | None, items: int) -> tuple[int, int]:
    """Return the largest distance to look at, and how many items are wanted (0: all within it)."""
    if (radius is None) == (neighbours is None):
        raise ValueError("Give a radius, or a number of neighbours.")
    if radius is not None:
        if radius < 0:
            raise ValueError(f"The radius must be 0 or more, not {radius}.")
        return min(radius, bits), 0
    assert neighbours is not None
    if neighbours < 1:
        raise ValueError(f"The number of neighbours must be 1 or more, not {neighbours}.")
    return bits, min(neighbours, items)


def _words(codes: np.ndarray, bits: int) -> np.ndarray:
    """Return packed codes as words (n, ceil(bits / 64)) uint64, padded with zeros."""
    if codes.ndim != 2 or codes.dtype != np.uint8 or codes.shape[1] != -(-bits // 8):
        raise ValueError(
            f"Packed codes of {bits} bits are uint8 (n, {-(-bits // 8)}), not {codes.dtype} {codes.shape}."
        )
    return np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8))).view(np.uint64)


def _gathered(rows: int, part: Callable[[slice], tuple[np.ndarray, ...]], threads: int) -> Found:
    """Return what `part` found for each of its rows, as one."""
    parts: dict[int, tuple[np.ndarray, ...]] = {}

    def work(at: slice) -> None:
        parts[at.start] = part(at)

    over_rows(rows, work, threads)
    columns = [np.concatenate(each) for each in zip(*(parts[start] for start in sorted(parts)), strict=True)]
    counts, items, distances, looked = columns
    starts = np.concatenate([[0], np.cumsum(counts)])
    return Found(starts, items, distances, looked[:, 0], looked[:, 1], looked[:, 2])


@compiled
def _distance(one: np.ndarray, other: np.ndarray) -> int:
    total = 0
    for place in range(len(one)):
        total += popcount(one[place] ^ other[place])
    return total


@compiled
def _longer(array: np.ndarray, size: int) -> np.ndarray:
    if size <= len(array):
        return array
    longer = np.empty(2 * size, dtype=np.int64)
    longer[: len(array)] = array
    return longer


@compiled
def _nearest(near: np.ndarray, distance: np.ndarray, count: int, hist: np.ndarray, limit: int, wanted: int,
             items: np.ndarray, distances: np.ndarray, done: int) -> int:  # fmt: skip
    """Write the items within `limit`, the nearest first, at most `wanted` (0: all), behind `done`; return how many."""
    places = np.empty(limit + 2, dtype=np.int64)
    places[0] = 0
    for step in range(limit + 1):
        places[step + 1] = places[step] + hist[step]
    total = places[limit + 1] if wanted == 0 else min(wanted, places[limit + 1])
    for at in range(count):
        step = distance[at]
        if step <= limit:
            if places[step] < total:
                items[done + places[step]] = near[at]
                distances[done + places[step]] = step
            places[step] += 1
    return total


@compiled
def _search(query: np.ndarray, keys: np.ndarray, database: np.ndarray, order: np.ndarray, starts: np.ndarray,
            offsets: np.ndarray, widths: np.ndarray, bits: int, limit: int, wanted: int,
            ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    rows, tables, size = len(query), len(widths), len(database)
    counts, looked = np.zeros(rows, dtype=np.int64), np.zeros((rows, 3), dtype=np.int64)
    items, distances = np.empty(1024, dtype=np.int64), np.empty(1024, dtype=np.int64)
    near, distance = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
    seen, hist = np.full(size, -1, dtype=np.int32), np.empty(bits + 1, dtype=np.int64)
    done = 0
    for row in range(rows):
        hist[:] = 0
        count, within, reached = 0, 0, 0
        for step in range(limit + 1):
            table, flips = step % tables, step // tables
            first, width, key = offsets[table], widths[table], keys[row, table]
            mask = (1 << flips) - 1
            while mask < (1 << width):  # all masks of that many bits, in ascending order
                bucket = first + (key ^ mask)
                looked[row, 0] += 1
                for at in range(starts[bucket], starts[bucket + 1]):
                    looked[row, 1] += 1
                    item = order[table, at]
                    if seen[item] != row:
                        seen[item] = row
                        apart = _distance(query[row], database[item])
                        hist[apart] += 1
                        near[count], distance[count] = item, apart
                        count += 1
                if mask == 0:
                    break
                lowest = mask & -mask
                ripple = mask + lowest
                mask = ripple | (((ripple ^ mask) >> 2) // lowest)
            reached = step
            within = hist[: step + 1].sum()  # all items within `step` have been met
            if wanted > 0 and within >= wanted:
                break
        looked[row, 2] = count
        items, distances = _longer(items, done + within), _longer(distances, done + within)
        most = 0 if ties else wanted
        counts[row] = _nearest(near, distance, count, hist, reached, most, items, distances, done)
        done += counts[row]
    return counts, items[:done].copy(), distances[:done].copy(), looked


@compiled
def _scan(query: np.ndarray, database: np.ndarray, bits: int, limit: int, wanted: int,
          ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Search `database (words, N)`, all of whose distances to a query are computed by vector instructions."""
    rows, size = len(query), database.shape[1]
    counts, looked = np.zeros(rows, dtype=np.int64), np.zeros((rows, 3), dtype=np.int64)
    items, distances = np.empty(1024, dtype=np.int64), np.empty(1024, dtype=np.int64)
    near, distance = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
    every, hist = np.empty(size, dtype=SLOT), np.empty(bits + 1, dtype=np.int64)
    done = 0
    for row in range(rows):
        for start in range(0, size, BLOCK):
            distances_of(query[row], database, start, min(BLOCK, size - start), every[start : start + BLOCK])
        looked[row, 1], looked[row, 2] = size, size
        reached = limit
        if wanted > 0:
            hist[:] = 0
            for item in range(size):
                hist[every[item]] += 1
            within, reached = 0, -1
            while within < wanted:
                reached += 1
                within += hist[reached]
        count = 0
        for item in range(size):
            if every[item] <= reached:
                near[count], distance[count] = item, every[item]
                count += 1
        hist[:] = 0
        for at in range(count):
            hist[distance[at]] += 1
        items, distances = _longer(items, done + count), _longer(distances, done + count)
        most = 0 if ties else wanted
        counts[row] = _nearest(near, distance, count, hist, reached, most, items, distances, done)
        done += counts[row]
    return counts, items[:done].copy(), distances[:done].copy(), looked
