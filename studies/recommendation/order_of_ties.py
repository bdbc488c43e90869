"""What ignoring ties would have changed: the codes of finished runs, tied items in the order of their numbers.

    python studies/recommendation/order_of_ties.py RUNS [--data-dir FOLDER]

Prints, for each cell, HR@10 expected over ties, by ascending and by descending item numbers, by popularity (training
pairs, most first), and the bounds over all orders; means over seeds.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from tabulate import tabulate

from hashbench.datasets.interactions.loading import load
from hashbench.metrics import unpack
from hashbench.results.finding import find_runs
from hashbench.results.runs import RunDirectory


def hit_rate(distances: np.ndarray, relevant: np.ndarray, excluded: np.ndarray, order: np.ndarray) -> float:
    """Return HR@10 where tied items are in the given order; distances (Q, N), the other two bool (Q, N)."""
    sorted_first = np.where(excluded, np.iinfo(np.int64).max, distances)[:, order]
    first = order[np.argsort(sorted_first, axis=1, kind="stable")[:, :10]]
    return float(np.take_along_axis(relevant, first, axis=1).any(axis=1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    datasets, cells = {}, defaultdict(list)
    for result in find_runs([options.runs])[0]:
        if not result.has_codes:
            continue
        name, bits = f"{result.coords['dataset']}@{result.coords['protocol']}", result.coords["bits"]
        if name not in datasets:
            data = load(name, data_dir=options.data_dir)
            masks = []
            for which in (data.is_relevant, data.is_train):
                mask = np.zeros(data.train.shape, bool)
                mask[data.store.user[which], data.store.item[which]] = True
                masks.append(mask[data.query])
            datasets[name] = (*masks, np.asarray((data.train != 0).sum(axis=0)).ravel())
        relevant, excluded, pairs = datasets[name]
        codes = RunDirectory(result.path).read_codes(bits)
        query, database = (unpack(codes[part], bits).astype(np.int64) for part in ("query", "database"))
        distances = query.sum(axis=1)[:, None] + database.sum(axis=1) - 2 * query @ database.T
        numbers = np.arange(database.shape[0])
        orders = numbers, numbers[::-1], np.argsort(-pairs, kind="stable")
        found = [hit_rate(distances, relevant, excluded, order) for order in orders]
        cells[name, result.coords["method"], bits].append([result.metrics["HR@10"], *found, *result.bounds["HR@10"]])
    rows = [
        [name, method, bits, len(seeds), *np.mean(seeds, axis=0)]
        for (name, method, bits), seeds in sorted(cells.items())
    ]
    headers = [
        "data set",
        "method",
        "bits",
        "seeds",
        "expected",
        "ascending",
        "descending",
        "popular first",
        "worst",
        "best",
    ]
    print(tabulate(rows, headers=headers, floatfmt=".4f", tablefmt="github"))


if __name__ == "__main__":
    main()
