"""Ways to search the codes of an index: every code, tables of substrings, or FAISS's graph, which is approximate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    from hashbench.metrics.multi_index import LinearScan, MultiIndex
    from hashbench.search.contents import Contents

LINKS = 32  # of each code in the graph
BREADTH = 128  # codes that are kept in mind while the graph is built, and searched


class Exact:
    """Search that finds all images as near as the last of the nearest."""

    approximate = False

    def __init__(self, contents: Contents):
        """Prepare it; raises HashbenchError where numba is not installed."""
        try:
            from hashbench.metrics.multi_index import LinearScan, MultiIndex
        except ImportError as error:
            raise HashbenchError(f"Search among codes needs numba ({error}); pip install numba.") from error
        scan = contents.kind == "flat"
        self._index: LinearScan | MultiIndex = (LinearScan if scan else MultiIndex)(contents.codes, contents.bits)

    def nearest(self, code: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and distances of the `count` nearest to one packed code, and of all as near as the last."""
        found = self._index.search(code[None], neighbours=count, ties=True)
        return found.items, found.distances


class Graph:
    """Search along the links of a graph of distinct codes, which may miss some of the nearest.

    Equal codes would be linked to each other alone, and hide all others.
    """

    approximate = True

    def __init__(self, contents: Contents):
        """Read the graph; raises HashbenchError where faiss is not installed, or the graph is not of these codes."""
        assert contents.graph is not None
        faiss = _faiss()
        try:
            self._index = faiss.deserialize_index_binary(np.frombuffer(contents.graph, np.uint8))
        except RuntimeError as error:
            raise HashbenchError(f"The graph of this index cannot be read ({error}); make the index again.") from error
        distinct, code_of = _distinct(contents.codes)
        if (self._index.ntotal, self._index.d) != (len(distinct), 8 * distinct.shape[1]):
            raise HashbenchError("The graph of this index is of other codes; make the index again.")
        self._rows = np.argsort(code_of, kind="stable")
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(code_of))])

    def nearest(self, code: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and distances of about the `count` nearest to one packed code, all of each code that is met."""
        self._index.hnsw.efSearch = max(BREADTH, 2 * count)
        distances, codes = self._index.search(code[None], count)
        met = [(self._rows[self._starts[each] : self._starts[each + 1]], distance)
               for each, distance in zip(codes[0], distances[0], strict=True) if each >= 0]  # fmt: skip
        rows = np.concatenate([rows for rows, _ in met])
        return rows, np.repeat([distance for _, distance in met], [len(rows) for rows, _ in met])


def build_graph(codes: np.ndarray) -> bytes:
    """Return FAISS's graph over the distinct ones of packed codes (n, bytes).

    Raises HashbenchError where faiss is not installed.
    """
    faiss, (distinct, _) = _faiss(), _distinct(codes)
    index = faiss.IndexBinaryHNSW(8 * codes.shape[1], LINKS)
    index.hnsw.efConstruction = BREADTH
    index.add(np.ascontiguousarray(distinct))
    return bytes(faiss.serialize_index_binary(index).tobytes())


def _distinct(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct ones of packed codes (n, bytes), sorted, and which of them each code is (n,)."""
    distinct, code_of = np.unique(codes, axis=0, return_inverse=True)
    return distinct, code_of.reshape(-1)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise HashbenchError(
            "An index of kind hnsw needs faiss; install it with pip install 'hashbench[faiss]', or make a flat one."
        ) from None
    return faiss
