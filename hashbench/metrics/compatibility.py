"""The mAP of published code bases, to reproduce and explain their numbers; never the default of anything.

All of them break Hamming ties by the order of the database, which histograms do not hold. So the codes are read a
second time: an item's rank is the number of items nearer than its group plus those of its group seen so far. Nothing
is sorted here either.

- deephash-pytorch: over the hits in the top k; "all" is the script's k = -1, which drops the last-ranked item.
- hashnet: over the hits in the top k; a query without a hit leaves the mean.
- fire: over the hits in the top k; such a query counts 0.
- dcmh: mean of the precisions at the first min(k, R) relevant items, wherever they rank.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from hashbench.metrics.histograms import Histograms, plain_labels
from hashbench.metrics.large.rows import ConvertedRows

Mode = Literal["deephash-pytorch", "hashnet", "fire", "dcmh"]
MODES: tuple[Mode, ...] = get_args(Mode)


def average_precision(
    query: np.ndarray | ConvertedRows,
    database: np.ndarray | ConvertedRows,
    query_labels: np.ndarray | ConvertedRows,
    database_labels: np.ndarray | ConvertedRows,
    *,
    hist: Histograms,
    mode: Mode,
    k: int | None,
) -> np.ndarray:
    """Return each query's AP as the code base `mode` computes it, (Q,) float64; NaN for queries it drops.

    query (Q, bytes) and database (N, bytes) are packed uint8, labels and `hist` those of `histograms` on the same
    codes; k None stands for the whole ranking. Raises ValueError for an unknown mode and where it has no "all".
    """
    if mode not in MODES:
        raise ValueError(f"Unknown compatibility mode '{mode}'; known are {', '.join(MODES)}.")
    if k is None and mode == "hashnet":
        raise ValueError("The mode hashnet has no mAP@all; give a cut, such as mAP@1000.")
    last_rank = np.full(hist.queries, hist.database, np.int64)
    last_hit = hist.relevant
    if mode == "dcmh":
        last_hit = last_hit if k is None else np.minimum(last_hit, k)
    elif mode == "deephash-pytorch" and k is None:
        last_rank -= 1
    elif k is not None:
        last_rank = np.minimum(last_rank, k)
    total, hits = _in_database_order(query, database, query_labels, database_labels, hist, last_rank, last_hit)
    without_hits = np.nan if mode == "hashnet" else 0.0
    return np.divide(total, hits, out=np.full(len(total), without_hits), where=hits > 0)


def mean(values: np.ndarray) -> float:
    """Return the mean over the queries that a mode keeps; NaN when it keeps none."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else float("nan")


def _in_database_order(
    query: np.ndarray | ConvertedRows,
    database: np.ndarray | ConvertedRows,
    query_labels: np.ndarray | ConvertedRows,
    database_labels: np.ndarray | ConvertedRows,
    hist: Histograms,
    last_rank: np.ndarray,
    last_hit: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return sum of precisions (Q,) and number (Q,) of the relevant items up to a rank and up to a number of hits."""
    try:
        from hashbench.metrics.kernels_numba import NumbaRanker
    except ImportError as error:
        raise ValueError(f"The compatibility modes need numba, which cannot be imported ({error}).") from error
    ranker = NumbaRanker(
        np.asarray(query), plain_labels(np.asarray(query_labels)), hist, last_rank=last_rank, last_hit=last_hit
    )
    for start in range(0, len(database), ranker.tile):
        tile = slice(start, start + ranker.tile)
        ranker.add(np.asarray(database[tile]), plain_labels(database_labels[tile]))
    return ranker.total, ranker.hits
