"""How long `hashbench compare` takes over a folder of many runs, beyond Python's own start.

python benchmarks/compare.py [--runs 1000]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from itertools import islice, product
from pathlib import Path

import click
import numpy as np
from tabulate import tabulate

from hashbench.metrics.histograms import Histograms
from hashbench.metrics.measures import evaluate_histograms
from hashbench.results.result import Result
from hashbench.results.runs import RunDirectory
from hashbench.storage.strict_json import digest

QUERIES, ITEMS, CLASSES = 1_000, 5_000, 10
MEASURES = ("mAP@all", "mAP@1000/hits", "mAP@1000/R", "P@100", "R@1000", "P@H<=2", "PR", "PR@k")
COMMANDS = {
    "compare": [],
    "compare --baseline": ["--baseline", "method-0"],
    "compare --baseline --cost --bounds": ["--baseline", "method-0", "--cost", "--bounds"],
    "compare --measure, recomputed": ["--measure", "mAP@500/hits"],
    "compare --test queries": ["--baseline", "method-0", "--test", "queries"],
}


def histograms(bits: int, skill: float, rng: np.random.Generator) -> Histograms:
    """Histograms as codes of that skill in (0, 1) give: distances binomial, smaller to relevant items."""
    share = ITEMS // CLASSES

    def counts(items: int, mean: float) -> np.ndarray:
        chance = np.array([mean**d * (1 - mean) ** (bits - d) for d in range(bits + 1)])
        chance *= [float(np.prod([(bits - i) / (i + 1) for i in range(d)])) for d in range(bits + 1)]
        return rng.multinomial(items, chance / chance.sum(), QUERIES)

    r = counts(share, 0.5 - 0.4 * skill)
    return Histograms(counts(ITEMS - share, 0.5) + r, r)


def write(folder: Path, runs: int) -> None:
    """Make that many finished runs: 5 data sets, 4 code lengths, 5 seeds and as many methods as it takes."""
    rng = np.random.default_rng(0)
    methods = (f"method-{i}" for i in range(runs))
    combinations = product(methods, [f"data-{i}" for i in range(5)], (16, 32, 48, 64), range(5))
    for method, dataset, bits, seed in islice(combinations, runs):
        hist = histograms(bits, rng.uniform(0.3, 0.9), rng)
        found = evaluate_histograms(hist, MEASURES)
        coords = {
            "method": method, "method_version": 1, "fields": {}, "dataset": dataset, "protocol": "a",
            "evaluated": "test", "measure": "mAP@all", "backbone": "resnet-small", "recipe": "scratch",
            "inputs": "images", "bits": bits, "seed": seed, "engine": 1, "cell": digest([method, dataset, bits]),
        }  # fmt: skip
        result = Result(
            id=digest(coords), coords=coords, metrics=found.metrics, bounds=found.bounds, ties=found.ties,
            curves=found.curves, counts=found.counts, code_stats={}, diagnostics={},
            epoch={"kept": "last", "of": 25}, time={"train": 60.0}, images_per_s=1500.0, peak_memory_mb=1000.0,
            provenance={"split_sha256": digest(dataset), "started": "2026-01-01T00:00:00+00:00"},
        )  # fmt: skip
        run = RunDirectory.at(folder, dataset=f"{dataset}@a", method=method, bits=bits, seed=seed, id=result.id)
        with run.lock():
            run.write_arrays("histograms", **hist.arrays())
            run.write_result(result)


def seconds(*arguments: str) -> tuple[float, float]:
    """Return the wall and the CPU seconds of one Python process."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - start, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


@click.command()
@click.option("--runs", default=1000, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Keep the runs here, and use them if they are there.")
def main(runs: int, folder: Path | None) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary) / "runs"
        if not place.exists():
            write(place, runs)
        start = min(seconds("-c", "pass") for _ in range(5))
        rows = []
        for name, options in COMMANDS.items():
            wall, cpu = min(seconds("-m", "hashbench", "compare", str(place), *options) for _ in range(3))
            rows.append([name, f"{wall - start[0]:.2f}", f"{cpu - start[1]:.2f}"])
    print(tabulate(rows, headers=[f"{runs:,} runs", "seconds beyond Python's start", "of CPU"], disable_numparse=True))


if __name__ == "__main__":
    main()
