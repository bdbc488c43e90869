"""Exact search by multi-index hashing beside a linear scan and FAISS: `python benchmarks/search_cost.py`.

Codes are uniform ("random"), or around 100 random words with a tenth of their bits turned ("clustered"), as those of a
trained method are; queries are drawn likewise. Every way finds the same, on one thread; the ratio is of the linear
scan's seconds.
"""

from __future__ import annotations

import numpy as np
from tabulate import tabulate

from hashbench.evaluation.search_cost import Search, costs_of
from hashbench.metrics.hamming import pack

BITS, QUERIES = 64, 200
ITEMS = (50_000, 1_000_000)
SEARCHES = (Search(radius=2), Search(neighbours=100))


def codes(count: int, kind: str, seed: int) -> np.ndarray:
    """Return packed codes (count, BITS / 8)."""
    random = np.random.default_rng(seed)
    if kind == "random":
        return random.integers(0, 256, (count, BITS // 8), dtype=np.uint8)
    words = np.random.default_rng(99).random((100, BITS)) < 0.5
    return pack(words[random.integers(0, 100, count)] ^ (random.random((count, BITS), dtype=np.float32) < 0.1))


def main() -> None:
    """Print the table."""
    rows = []
    for items in ITEMS:
        for kind in ("random", "clustered"):
            costs = costs_of(codes(QUERIES, kind, 1), codes(items, kind, 0), BITS, SEARCHES)
            for cost in costs["searches"]:
                scan = cost["seconds"]["linear scan"]
                ways = {
                    way: f"{1e6 * seconds:,.1f} ({scan / seconds:,.1f}x)" for way, seconds in cost["seconds"].items()
                }
                rows.append({"items": f"{items:,}", "codes": kind, "search": cost["search"],
                             "compared": f"{cost['compared']['mean']:,.0f}", **ways})  # fmt: skip
    print(tabulate(rows, headers="keys", disable_numparse=True))


if __name__ == "__main__":
    main()
