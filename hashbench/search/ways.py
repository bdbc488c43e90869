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
    """Search along the links of a graph, which may miss some of the nearest."""

    approximate = True

    def __init__(self, contents: Contents):
        """Read the graph; raises HashbenchError where faiss is not installed, or the graph is not of these codes."""
        assert contents.graph is not None
        faiss = _faiss()
        try:
            self._index = faiss.deserialize_index_binary(np.frombuffer(contents.graph, np.uint8))
        except RuntimeError as error:
            raise HashbenchError(f"The graph of this index cannot be read ({error}); make the index again.") from error
        if (self._index.ntotal, self._index.d) != (len(contents.codes), 8 * contents.codes.shape[1]):
            raise HashbenchError("The graph of this index is of other codes; make the index again.")

    def nearest(self, code: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and distances of about the `count` nearest to one packed code."""
        self._index.hnsw.efSearch = max(BREADTH, 2 * count)
        distances, rows = self._index.search(code[None], count)
        there = rows[0] >= 0
        return rows[0][there].astype(np.int64), distances[0][there].astype(np.int64)


def build_graph(codes: np.ndarray) -> bytes:
    """Return FAISS's graph over packed codes (n, bytes); raises HashbenchError where faiss is not installed."""
    faiss = _faiss()
    index = faiss.IndexBinaryHNSW(8 * codes.shape[1], LINKS)
    index.hnsw.efConstruction = BREADTH
    index.add(np.ascontiguousarray(codes))
    return bytes(faiss.serialize_index_binary(index).tobytes())


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise HashbenchError(
            "An index of kind hnsw needs faiss; install it with pip install 'hashbench[faiss]', or make a flat one."
        ) from None
    return faiss
