"""Statistics of codes: how evenly bits are used, how alike they are, how near classes lie."""

from __future__ import annotations

import numpy as np

from hashbench.metrics.hamming import unpack
from hashbench.metrics.histograms import Histograms

TILE = 65_536  # items unpacked at a time; sums of as many products of {-1, +1} are exact in float32


def code_statistics(database: np.ndarray, hist: Histograms) -> dict[str, float | int | None]:
    """Describe the packed database codes (N, ceil(bits / 8)) uint8 and their histograms by plain numbers.

    bit_balance: mean over bits of min(p, 1 - p) * 2, p the share of ones (1 = every bit splits the database in halves);
    bit_correlation: mean absolute Pearson correlation of two different bits, 0 for a bit that never changes, None for
    one bit; distinct_codes; intra_distance and inter_distance: mean Hamming distance in bits from a query to the items
    that share a label and that share none, over all pairs, None without any; tied_share: of all pairs of a relevant
    and an irrelevant item, the share that lies at one distance from the query, whose order the codes leave open.
    Raises ValueError when the codes do not belong to the histograms.
    """
    if len(database) != hist.database or len(database) == 0:
        raise ValueError(f"{len(database)} database codes do not belong to histograms of {hist.database} items.")
    ones, products = _bit_sums(database, hist.bits)
    share = ones / len(database)
    distance = np.arange(hist.bits + 1)
    irrelevant = hist.n - hist.r
    mixed = (hist.r.astype(float) * irrelevant).sum()
    pairs = (hist.relevant.astype(float) * irrelevant.sum(axis=1)).sum()
    return {
        "bit_balance": float(2 * np.minimum(share, 1 - share).mean()),
        "bit_correlation": _mean_correlation(share, products / len(database)),
        "distinct_codes": _distinct(database),
        "intra_distance": _mean(distance, hist.r),
        "inter_distance": _mean(distance, irrelevant),
        "tied_share": float(mixed / pairs) if pairs else None,
    }


def class_separation(database: np.ndarray, labels: np.ndarray | None, bits: int) -> dict[str, float | None]:
    """Return how far the nearest classes of the packed database codes (N, ceil(bits / 8)) uint8 are apart, and so on.

    A class's mean code has each bit's share of ones; the distance to it is the sum of absolute differences, in bits.
    inter_distance_min: that of two classes' means, for the nearest two; intra_distance_max: the mean distance of a
    class's items from its mean, for the widest class; separation: the first over the second. The lower bound of Zhu et
    al. (arXiv:2210.05899) has the least and the largest distance of single items instead, which those coded worst
    decide: of almost all codes that ratio is 0. None without two classes, or where nothing is to divide by.
    `labels` (N, C) multi-hot; items without one are left out. {} without labels, or where an item has several. Raises
    ValueError when codes and labels do not belong together.
    """
    if labels is None:
        return {}
    if len(labels) != len(database):
        raise ValueError(f"{len(database)} database codes do not belong to {len(labels)} rows of labels.")
    sums = _class_sums(database, labels, bits)
    if sums is None:
        return {}
    items, ones = sums
    means = ones / items[:, None]
    apart = [float(np.abs(means[:place] - means[place]).sum(axis=1).min()) for place in range(1, len(means))]
    wide = [float(2 * (mean * (1 - mean)).sum()) for mean in means]
    nearest, widest = min(apart, default=None), max(wide, default=None)
    return {
        "inter_distance_min": nearest,
        "intra_distance_max": widest,
        "separation": nearest / widest if nearest is not None and widest else None,
    }


def _class_sums(database: np.ndarray, labels: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the classes' numbers of items, (C,), and of ones in each bit, (C, bits); None where items have several.

    Classes without items are left out.
    """
    items, ones = np.zeros(labels.shape[1], np.int64), np.zeros((labels.shape[1], bits), np.int64)
    for start in range(0, len(database), TILE):
        marked = np.asarray(labels[start : start + TILE]) > 0
        row, of = marked.nonzero()
        if len(row) > marked.any(axis=1).sum():
            return None
        order = of.argsort(kind="stable")
        present, first, size = np.unique(of[order], return_index=True, return_counts=True)
        if len(present):
            codes = unpack(np.asarray(database[start : start + TILE]), bits)[row[order]]
            items[present] += size
            ones[present] += np.add.reduceat(codes, first, axis=0, dtype=np.int64)
    return items[items > 0], ones[items > 0]


def _bit_sums(database: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each bit is one, (bits,), and the sum of products of every two bits as -1 and +1."""
    ones, products = np.zeros(bits), np.zeros((bits, bits))
    for start in range(0, len(database), TILE):
        codes = unpack(np.asarray(database[start : start + TILE]), bits)
        ones += codes.sum(axis=0)
        signs = np.where(codes, np.float32(1), np.float32(-1))
        products += signs.T @ signs
    return ones, products


def _mean_correlation(share: np.ndarray, mean_product: np.ndarray) -> float | None:
    if len(share) < 2:
        return None
    mean = 2 * share - 1
    spread = np.sqrt(1 - mean**2)
    scale = np.outer(spread, spread)
    correlation = np.zeros_like(scale)
    np.divide(mean_product - np.outer(mean, mean), scale, out=correlation, where=scale > 0)
    return float(np.abs(correlation[np.triu_indices(len(share), k=1)]).mean())


def _distinct(database: np.ndarray) -> int:
    rows = np.zeros((len(database), -(-database.shape[1] // 8) * 8), np.uint8)
    rows[:, : database.shape[1]] = database
    words = rows.shape[1] // 8
    return len(np.unique(rows.view(np.uint64 if words == 1 else f"V{8 * words}")))  # words are sorted far faster


def _mean(distance: np.ndarray, counts: np.ndarray) -> float | None:
    total = counts.sum()
    return float((counts.sum(axis=0) * distance).sum() / total) if total else None
