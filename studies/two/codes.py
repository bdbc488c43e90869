"""What of a run needs its codes or its model: their entropy, other ways of counting, real-valued outputs.

    python studies/two/codes.py RUNS -o results/two/codes.csv [--data-dir FOLDER]

Writes one line for the first seed of each row on fixed features that has codes; lines that are there already are kept.
`answers.py` reads them. RUNS with codes.npz and model.pt are not committed.

entropy     of the distribution of database codes, in nats, with Miller and Madow's correction; at most log N
order       Spearman's correlation, over all pairs of classes, of the distance of two classes' mean codes with the
            cosine distance of their mean features
hits        mAP@1000/hits, ties expected
as_lies     as deephash-pytorch computes mAP@1000: ties by the order of the database
by_class    the same, the database sorted by class
dcmh        as DCMH's authors compute mAP@1000: over the first min(1000, R) relevant items, wherever they rank
train_too   mAP@all, ties expected, with the training images in the database; empty where they are in it anyway
queries     how many queries the next three have, evenly drawn from the protocol's
codes       their mAP@all by Hamming distance, ties expected
outputs     by the cosine of the network's real-valued outputs; empty for codes that are no signs of outputs
features    by the cosine of the fixed features
"""

from __future__ import annotations

import argparse
import csv
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

import hashbench
from hashbench.datasets.base import Dataset
from hashbench.datasets.catalogue import load
from hashbench.errors import HashbenchError
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.phases import fixed_inputs
from hashbench.experiments.runner import load_with_result
from hashbench.metrics.hamming import unpack
from hashbench.results.finding import find_runs
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.system.distributed import SINGLE

COLUMNS = (
    "id",
    "entropy",
    "order",
    "hits",
    "as_lies",
    "by_class",
    "dcmh",
    "train_too",
    "queries",
    "codes",
    "outputs",
    "features",
)
QUERIES = 250  # about so many have real-valued rankings
CPU = torch.device("cpu")
_BY_FEATURES: dict[tuple[str, str], float] = {}  # mAP@all by the cosine of the features of a backbone, for all its runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    lines = {}
    if options.output.exists():
        with options.output.open() as file:
            lines = {line["id"]: line for line in csv.DictReader(file)}
    for result in find_runs(options.runs)[0]:
        wanted = result.coords["seed"] == 0 and result.coords["inputs"] == "features" and result.has_codes
        if result.id not in lines and wanted:
            lines[result.id] = dict(zip(COLUMNS, line(result, options.data_dir), strict=True))
            write(options.output, lines)
    print(f"{options.output}: {len(lines)} runs")


def write(path: Path, lines: dict[str, dict[str, object]]) -> None:
    """Write all lines, sorted, at once."""
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines[id] for id in sorted(lines))
    part.replace(path)


def line(result: Result, data_dir: Path | None) -> list[object]:
    """Return the values of COLUMNS of one run."""
    coords, run = result.coords, RunDirectory(Path(str(result.path)))
    experiment = Experiment.from_identity(run.read_spec()["identity"])
    name = f"{coords['dataset']}@{coords['protocol']}"
    dataset = dataset_of(name, data_dir)
    features = fixed_inputs(experiment, dataset, CPU, False, SINGLE)  # a memory map
    codes = {part: unpack(packed, coords["bits"]) for part, packed in run.read_codes(coords["bits"]).items()}
    every = slice(None, None, max(1, len(dataset.split.query) // QUERIES))
    query, database, train = dataset.split.query[every], dataset.split.database, dataset.split.train
    truth = [dataset.store.labels[part].astype(np.float32) for part in (query, database)]
    relevant = truth[0] @ truth[1].T > 0
    by_features = (name, experiment.recipe.backbone)
    if by_features not in _BY_FEATURES:
        _BY_FEATURES[by_features] = average_precision(features[query], features[database], relevant)
    network = network_of(run)
    outputs = None if network is None else [outputs_of(network, features[part]) for part in (query, database)]
    if outputs is not None and any(
        out.shape != code.shape or ((out >= 0) != code).mean() > 1e-4
        for out, code in zip(outputs, (codes["query"][every], codes["database"]), strict=True)
    ):
        network = outputs = None  # the codes are no signs of outputs
    labels = [dataset.store.labels[part].astype(np.uint8) for part in (dataset.split.query, database, train)]
    measured = partial(measure, codes["query"], labels[0])
    order = np.lexsort(labels[1].T)
    train_too = ""
    if network is not None and not np.isin(train, database).any():
        more = outputs_of(network, features[train]) >= 0
        train_too = measured(np.concatenate([codes["database"], more]), np.concatenate(labels[1:]), "mAP@all")
    return [
        result.id,
        round(entropy(codes["database"]), 3),
        round(class_order(codes["database"], features[database], truth[1]), 3),
        measured(codes["database"], labels[1], "mAP@1000/hits"),
        measured(codes["database"], labels[1], "mAP@1000", "deephash-pytorch"),
        measured(codes["database"][order], labels[1][order], "mAP@1000", "deephash-pytorch"),
        measured(codes["database"], labels[1], "mAP@1000", "dcmh"),
        train_too,
        len(query),
        measure(codes["query"][every], labels[0][every], codes["database"], labels[1], "mAP@all"),
        "" if outputs is None else round(average_precision(*outputs, relevant), 4),
        round(_BY_FEATURES[by_features], 4),
    ]


@cache
def dataset_of(name: str, data_dir: Path | None) -> Dataset:
    """Return a data set, read once."""
    return load(name, data_dir=data_dir, accept_unofficial=True)


def entropy(codes: np.ndarray) -> float:
    """Return the entropy of the distribution of codes (N, K) in nats, corrected by (distinct - 1) / 2 N."""
    counts = np.unique(np.packbits(codes, axis=1), axis=0, return_counts=True)[1]
    share = counts / len(codes)
    return min(float(-(share * np.log(share)).sum() + (len(counts) - 1) / (2 * len(codes))), float(np.log(len(codes))))


def measure(
    query: np.ndarray,
    of_query: np.ndarray,
    database: np.ndarray,
    of_database: np.ndarray,
    name: str,
    mode: str | None = None,
) -> float:
    """Return a measure of codes (n, K) against codes with multi-hot labels (n, C), as a code base computes it."""
    (value,) = hashbench.evaluate(query, database, of_query, of_database, measures=[name], mode=mode).values()
    return round(float(value), 4)


def class_order(codes: np.ndarray, features: np.ndarray, labels: np.ndarray) -> float:
    """Return Spearman's correlation of distances between classes by their mean codes and by their mean features."""
    count = labels.sum(axis=0)[:, None]
    by_codes, by_features = (
        pdist(labels.T @ of / count, metric)
        for of, metric in ((codes.astype(np.float32), "cityblock"), (features, "cosine"))
    )
    return float(spearmanr(by_codes, by_features).statistic)


def network_of(run: RunDirectory) -> torch.nn.Module | None:
    """Return the network of a run, for evaluation; None where it has none."""
    try:
        network = load_with_result(run.path)[0].network
    except HashbenchError:
        return None
    return None if network is None else network.eval()


@torch.inference_mode()
def outputs_of(network: torch.nn.Module, features: np.ndarray) -> np.ndarray:
    """Return the network's real-valued outputs (n, K)."""
    return network(torch.from_numpy(np.ascontiguousarray(features))).numpy()


def average_precision(query: np.ndarray, database: np.ndarray, relevant: np.ndarray) -> float:
    """Return mAP@all of rankings by the cosine, relevant (Q, N) bool."""
    query, database = (
        each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in (query, database)
    )
    order = np.argsort(-(query @ database.T), axis=1, kind="stable")
    hits = np.take_along_axis(relevant, order, axis=1)
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return float(((precision * hits).sum(axis=1) / np.maximum(hits.sum(axis=1), 1)).mean())


if __name__ == "__main__":
    main()
