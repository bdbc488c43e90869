"""Do hash centers follow the classes, and does retrieval follow the centers? On CIFAR-100, over the main grid's runs.

    python studies/crh/centers.py RUNS -o results/crh-centers.csv
    python studies/crh/centers.py results/crh-centers.csv

The first needs RUNS with codes.npz (not committed) and the official binary files below HASHBENCH_DATA. It writes one
line for each run that keeps centers: Spearman's correlation, over all pairs of classes, of the similarity of two
centers (their agreeing bits) with three references that know nothing of the run, and the share of superclass pairs
among nearest centers.
The second prints the means over seeds, and over all runs the correlation of a run's mAP with each of these.

confusion    how often a linear classifier takes one of the two classes for the other, over the database images: the
             `classifier` row, same seed; no method trains on it (SHC does on a classifier's doubts about train images)
superclass   whether both belong to one of CIFAR-100's 20 superclasses
features     cosine of the classes' mean features, as `hashbench plot centers` has it
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import pearsonr, spearmanr
from tabulate import tabulate

from hashbench.datasets.base import Dataset
from hashbench.datasets.catalogue import load
from hashbench.metrics.hamming import unpack
from hashbench.results.finding import find_runs
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.results.tables.blocks import row_label

COLUMNS = ("row", "bits", "seed", "mAP@all", "confusion", "superclass", "features", "nearest_share")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="RUNS|CSV")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    if arguments.output is None:
        print(table(arguments.source))
        return
    results, problems = find_runs([arguments.source])
    if problems:
        raise SystemExit(problems[0])
    of_study = [r for r in results if r.coords["dataset"] == "cifar100" and r.coords["protocol"] == "45k"]
    tested = [r for r in of_study if r.coords["evaluated"] == "test" and r.coords["inputs"] == "features"]
    dataset = load("cifar100@45k", accept_unofficial=True)
    rows = lines(tested, dataset, superclasses(dataset))
    with arguments.output.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    print(f"{arguments.output}: {len(rows)} runs with centers")


def table(path: Path) -> str:
    """Return the means over seeds as a Markdown table, and the correlations of mAP over all runs of a code length."""
    with path.open() as file:
        runs = list(csv.DictReader(file))
    measured = COLUMNS[3:]
    values = np.array([[float(run[name] or "nan") for name in measured] for run in runs])
    places = [(int(run["bits"]), run["row"]) for run in runs]
    rows = [
        [row, bits, *values[[place == (bits, row) for place in places]].mean(axis=0)] for bits, row in sorted({*places})
    ]
    for bits in sorted({bits for bits, _ in places}):
        of_length = values[[place[0] == bits for place in places]]
        follows = [pearsonr(of_length[:, 0], column).statistic for column in of_length[:, 1:].T]
        rows.append([f"correlation of mAP, {len(of_length)} runs", bits, None, *follows])
    return tabulate(rows, headers=["row", "bits", *measured], tablefmt="pipe", floatfmt=".2f", missingval="")


def lines(results: Sequence[Result], dataset: Dataset, coarse: np.ndarray) -> list[tuple[object, ...]]:
    """Return a line of COLUMNS for each run that keeps centers."""
    first, second = np.triu_indices(dataset.num_classes, k=1)
    same = (coarse[:, None] == coarse)[first, second]
    confused = {
        result.coords["seed"]: confusion(result, dataset)[first, second]
        for result in results
        if result.coords["method"] == "classifier" and result.coords["bits"] == 64
    }
    found = []
    for result in results:
        run, coords = RunDirectory(Path(str(result.path))), result.coords
        if not run.centers.is_file():
            continue
        kept = run.read_arrays("centers")
        centers = unpack(kept["centers"], coords["bits"])
        alike = (centers[first] == centers[second]).mean(axis=1)
        references = (confused[coords["seed"]], same, kept["similarity"][first, second])
        found.append(
            (
                row_label(result),
                coords["bits"],
                coords["seed"],
                round(result.metrics["mAP@all"] or 0.0, 4),
                *(correlation(alike, reference) for reference in references),
                nearest_share(centers, coarse),
            )
        )
    return sorted(found, key=lambda line: line[:3])


def superclasses(dataset: Dataset) -> np.ndarray:
    """Return each class's superclass (100,), from the first two bytes of the official records."""
    records = np.fromfile(Path(os.environ["HASHBENCH_DATA"]) / "cifar-100-binary" / "train.bin", np.uint8)
    coarse, fine = records.reshape(-1, 3074)[:, :2].T
    found = np.zeros(dataset.num_classes, dtype=int)
    found[fine] = coarse
    return found


def confusion(result: Result, dataset: Dataset) -> np.ndarray:
    """Return how many database images of two classes a run of `classifier` takes for each other, (C, C), symmetric."""
    codes = RunDirectory(Path(str(result.path))).read_arrays("codes")["database"]
    truth = dataset.store.labels[dataset.split.database].argmax(axis=1)
    _, word = np.unique(codes, axis=0, return_inverse=True)
    counts = np.zeros((word.max() + 1, dataset.num_classes))
    np.add.at(counts, (word.ravel(), truth), 1)
    meant = counts.argmax(axis=1)  # the class whose word it is: most of those who get it
    table = np.zeros((dataset.num_classes, dataset.num_classes))
    np.add.at(table, (truth, meant[word.ravel()]), 1)
    return table + table.T


def correlation(x: np.ndarray, y: np.ndarray) -> float | str:
    """Return Spearman's rho, "" where one of the two never changes."""
    return "" if np.ptp(x) == 0 else round(float(spearmanr(x, y).statistic), 4)


def nearest_share(centers: np.ndarray, coarse: np.ndarray) -> float:
    """Return the mean over classes of how many of the nearest centers (all at one distance) are of the superclass.

    4 of the 99 others are: .04 by chance.
    """
    apart = (centers[:, None] != centers).sum(axis=2).astype(float)
    np.fill_diagonal(apart, np.inf)
    nearest = apart == apart.min(axis=1, keepdims=True)
    same = coarse[:, None] == coarse
    return round(float(((nearest & same).sum(axis=1) / nearest.sum(axis=1)).mean()), 4)


if __name__ == "__main__":
    main()
