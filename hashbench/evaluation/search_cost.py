"""What exact search costs with a run's codes: what multi-index hashing looks at, and seconds beside other ways."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hashbench.errors import HashbenchError
from hashbench.results.runs import RunDirectory
from hashbench.results.search_costs import fingerprint, write_search_cost
from hashbench.system.processor import processor

if TYPE_CHECKING:
    from hashbench.metrics.multi_index import Found, MultiIndex

REPEATS = 3  # of each timing, of which the shortest counts
_FEW = 20  # queries that compile the kernels


@dataclass(frozen=True)
class Search:
    """All items within a Hamming radius, or a number of nearest ones: one of the two is given."""

    radius: int | None = None
    neighbours: int | None = None

    def __str__(self) -> str:
        return f"radius {self.radius}" if self.neighbours is None else f"nearest {self.neighbours}"


def search_cost(
    run: RunDirectory,
    searches: Sequence[Search],
    *,
    tables: int | None = None,
    queries: int = 1000,
    threads: int = 1,
) -> dict[str, Any]:
    """Return what `searches` of a finished run's first `queries` in its database cost, and keep it in the run's folder.

    Counts are means over the queries and their 95th percentiles, `seconds` those of one query with `threads`. `tables`
    are those of the index, `usual_tables` without. FAISS, where it is installed, is measured on the same searches where
    it is exact. Raises HashbenchError where numba, codes or an index of that many tables cannot be had.
    """
    bits = run.read_result().coords["bits"]
    codes = run.read_codes(bits)
    try:
        costs = costs_of(codes["query"][:queries], codes["database"], bits, searches, tables=tables, threads=threads)
    except ValueError as error:
        raise HashbenchError(f"{run.path}: {error}") from error
    found = {"codes_sha256": fingerprint(codes), **costs}
    write_search_cost(run, found)
    return found


def costs_of(
    query: np.ndarray,
    database: np.ndarray,
    bits: int,
    searches: Sequence[Search],
    *,
    tables: int | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Return what `search_cost` does, of packed codes (Q, ceil(bits / 8)) and (N, ceil(bits / 8)) uint8.

    Raises ValueError for a number of tables that is not possible, and HashbenchError where numba is not installed.
    """
    try:
        from hashbench.metrics.multi_index import MultiIndex
    except ImportError as error:
        raise HashbenchError(f"Search among codes needs numba ({error}); install it with pip install numba.") from error

    index = MultiIndex(database, bits, tables=tables)
    return {
        "bits": bits,
        "queries": len(query),
        "database": len(database),
        "tables": index.widths.tolist(),
        "threads": threads,
        "machine": processor(),
        "searches": [_cost(search, index, query, database, threads) for search in searches],
    }


def _cost(search: Search, index: MultiIndex, query: np.ndarray, database: np.ndarray, threads: int) -> dict[str, Any]:
    from hashbench.metrics.multi_index import linear_scan

    asked: dict[str, Any] = {"radius": search.radius, "neighbours": search.neighbours}

    def by_index(codes: np.ndarray) -> Found:
        return index.search(codes, **asked, threads=threads)

    def by_scan(codes: np.ndarray) -> Found:
        return linear_scan(codes, database, index.bits, **asked, threads=threads)

    found = by_index(query)
    scanned = by_scan(query)
    if not (np.array_equal(found.starts, scanned.starts) and np.array_equal(found.distances, scanned.distances)):
        raise AssertionError(f"{search}: the index did not find what the linear scan finds.")
    counts = {
        "found": np.diff(found.starts),
        "buckets": found.buckets,
        "candidates": found.candidates,
        "compared": found.compared,
    }
    ways: dict[str, Callable[[np.ndarray], Any]] = {"multi-index": by_index, "linear scan": by_scan}
    ways |= _faiss(search, index.bits, len(index.widths), database, threads)
    return {
        "search": str(search),
        **{name: {"mean": float(each.mean()), "p95": float(np.quantile(each, 0.95))} for name, each in counts.items()},
        "seconds": {name: _seconds(way, query) for name, way in ways.items()},
    }


def _seconds(way: Callable[[np.ndarray], Any], query: np.ndarray) -> float:
    """Return the seconds of one query, the shortest of some repeats, after a few queries to warm up."""
    way(query[:_FEW])
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        way(query)
        times.append(time.perf_counter() - started)
    return min(times) / len(query)


def _faiss(
    search: Search, bits: int, tables: int, database: np.ndarray, threads: int
) -> dict[str, Callable[[np.ndarray], Any]]:
    """Return the same search by FAISS's indexes, of those in which it is exact; none where FAISS is not installed."""
    try:
        import faiss
    except ImportError:
        return {}
    if bits % 8:
        return {}  # it takes whole bytes
    faiss.omp_set_num_threads(threads)
    flat = faiss.IndexBinaryFlat(bits)
    flat.add(database)
    if search.neighbours is not None:  # the hash indexes look at near buckets alone, and may miss neighbours
        wanted = min(search.neighbours, len(database))
        return {"FAISS flat": lambda codes: flat.search(codes, wanted)}
    radius = search.radius
    assert radius is not None
    found: dict[str, Callable[[np.ndarray], Any]] = {
        "FAISS flat": lambda codes: flat.range_search(codes, radius + 1)  # it takes what is below
    }
    width = bits // tables
    # It never ends where it shall flip more bits than a substring has.
    if radius <= 3:  # every item within r differs in at most r of the first bits; there are too many such buckets soon
        hashed = faiss.IndexBinaryHash(bits, width)
        hashed.nflip = min(radius, width)
        hashed.add(database)
        found["FAISS hash"] = lambda codes: hashed.range_search(codes, radius + 1)
    multiple = faiss.IndexBinaryMultiHash(bits, tables, width)
    multiple.nflip = min(radius // tables, width)
    multiple.add(database)
    found["FAISS multi-hash"] = lambda codes: multiple.range_search(codes, radius + 1)
    return found
