"""True neighbours: relevant are the items nearest to a query in fixed features, whatever their labels.

It is what unsupervised hashing promises to find. The distances are computed in float64, in tiles of queries and items.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hashbench.datasets.sparse import dense
from hashbench.errors import HashbenchError
from hashbench.evaluation.conditions.contract import Condition, FixedFeatures, Queries, condition

if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from torch import Tensor

TILE = 1 << 23  # float64 values of a tile: 64 MiB
#: Squared distances that differ by less than this share of the two squared lengths are equal: rounding moves them.
TIED = 1e-12


@condition("neighbours")
class Neighbours(Condition):
    """The `k` database items nearest to a query in fixed features are relevant, with all that are as near as the last.

    `metric` is `euclidean` or `cosine`; in the latter a vector of zeros is no neighbour and has none. Items that the
    data set leaves out of a ranking take no place among the k.
    """

    takes = ("images", "vectors", "text")
    k: int = 100
    metric: Literal["euclidean", "cosine"] = "euclidean"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise HashbenchError(f"neighbours(k={self.k}) is not possible; give 1 or more.")

    @property
    def measures(self) -> tuple[str, ...]:
        """The recall of the neighbours among as many items."""
        return (f"R@{self.k}",)

    def apply(self, queries: Queries) -> Tensor:
        """Return the queries, which stay as they are."""
        return queries.images

    def relevance(self, features: FixedFeatures) -> csr_array[Any, Any]:
        """Return the neighbours as ones, (Q, N); raises HashbenchError for too few items and for NaN."""
        from scipy.sparse import csr_array, vstack
        from tqdm.auto import tqdm

        queries, items = len(features.query), len(features.database)
        if self.k >= items:
            raise HashbenchError(
                f"neighbours(k={self.k}) is not possible: the database has {items:,} items, and of these fewer must be "
                f"relevant; give a smaller k."
            )
        found, step = [], max(1, TILE // items)
        with tqdm(total=queries, unit="query", desc="neighbours", disable=not features.progress, leave=False) as bar:
            for start in range(0, queries, step):
                index = features.query[start : start + step]
                left_out = None if features.left_out is None else features.left_out[start : start + step]
                found.append(csr_array(self._nearest(features, index, left_out), dtype=np.uint8))
                bar.update(len(index))
        return csr_array(vstack(found, format="csr"))

    def _nearest(self, features: FixedFeatures, index: np.ndarray, left_out: Any) -> np.ndarray:
        """Return which items are neighbours of the queries at `index`, (n, N) bool."""
        ((queries, of_query),) = self._tiles(features, index, len(index))
        squared = np.empty((len(index), len(features.database)))
        rounding = np.empty_like(squared)
        width = features.inputs.shape[1]
        done = 0
        for items, of_item in self._tiles(features, features.database, max(1, TILE // width)):
            tile = slice(done, done + len(items))
            np.add(of_query[:, None], of_item, out=rounding[:, tile])
            squared[:, tile] = rounding[:, tile] - 2 * (queries @ items.T)
            done += len(items)
        if self.metric == "cosine":
            squared[rounding < 2 - 1e-6] = np.inf  # one of the two has no direction
        if left_out is not None:
            squared[left_out.nonzero()] = np.inf
        last = np.partition(squared, self.k - 1, axis=1)[:, self.k - 1, None]
        return (squared <= last + TIED * rounding) & np.isfinite(squared)

    def _tiles(self, features: FixedFeatures, index: np.ndarray, rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the vectors (n, width) float64 of the inputs at `index`, `rows` at a time, and their squared lengths.

        For the cosine they have the length 1, or 0.
        """
        for start in range(0, len(index), rows):
            found = dense(features.inputs[index[start : start + rows]]).astype(np.float64)
            squared = np.einsum("nw,nw->n", found, found)
            if not np.isfinite(squared).all():
                raise HashbenchError("Features with NaN or infinite values have no neighbours; correct the data.")
            if self.metric == "cosine":
                there = squared > 0
                found[there] /= np.sqrt(squared[there])[:, None]
                squared = there.astype(np.float64)
            yield found, squared
