"""Does counting items together that share code and labels pay, and what does looking for them cost elsewhere?

    python benchmarks/distinct.py                     trained codes of 16 bits, and codes that share nothing
    python benchmarks/distinct.py --items 100000000   the first of these at that size, each way once

Both ways run in turns in one process, so that other work on the machine meets both; the ratio is that of the medians.
The trained codes are those of crh on fashion-mnist-10k, drawn at random with one bit in a hundred flipped; they are
trained at the first call, into --runs-dir.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from unittest.mock import patch

import click
import numpy as np
from tabulate import tabulate

import hashbench
from hashbench.datasets import catalogue
from hashbench.metrics import Histograms, distinct, histograms
from hashbench.results.runs import RunDirectory

QUERIES, ITEMS, AT_A_TIME = 1000, 1_000_000, 1_000_000
Side = tuple[np.ndarray, np.ndarray]  # packed codes (n, bytes), labels (n,) or (n, C)


def trained(items: int, runs: Path) -> tuple[Side, Side, int]:
    """Queries and items drawn from the codes of a run of 16 bits."""
    result = hashbench.run("crh", "fashion-mnist-10k", bits=16, epochs=3, runs_dir=runs, progress=False)
    codes, data = RunDirectory(result.path).read_arrays("codes"), catalogue.load("fashion-mnist-10k")
    random = np.random.default_rng(0)

    def draw(part: str, rows: np.ndarray, count: int) -> Side:
        classes = data.store.labels[rows].argmax(axis=1).astype(np.uint8)
        drawn, labels = np.empty((count, 2), np.uint8), np.empty(count, np.uint8)
        for start in range(0, count, AT_A_TIME):
            chosen = random.integers(0, len(rows), min(AT_A_TIME, count - start))
            flips = np.packbits(random.random((len(chosen), 16), np.float32) < 0.01, axis=1)
            drawn[start : start + len(chosen)] = codes[part][chosen] ^ flips
            labels[start : start + len(chosen)] = classes[chosen]
        return drawn, labels

    return draw("query", data.split.query, QUERIES), draw("database", data.split.database, items), 16


def uniform(bits: int, items: int, classes: int = 0) -> tuple[Side, Side, int]:
    """Random codes of ten classes, or of several of `classes` labels each."""
    random = np.random.default_rng(0)

    def draw(count: int) -> Side:
        labels = random.random((count, classes)) < 2 / classes if classes else random.integers(0, 10, count)
        return random.integers(0, 256, (count, bits // 8), np.uint8), labels

    return draw(QUERIES), draw(items), bits


def timed(query: Side, database: Side, bits: int, *, together: bool) -> tuple[Histograms, float, float]:
    """Return the histograms, and the seconds of the clock and of the CPU."""
    with patch.object(distinct, "FEWEST_ITEMS", distinct.FEWEST_ITEMS if together else 1 << 60):
        wall, cpu = time.perf_counter(), time.process_time()
        found = histograms(query[0], database[0], query[1], database[1], bits=bits)
        return found, time.perf_counter() - wall, time.process_time() - cpu


@click.command(help=__doc__)
@click.option("--items", default=ITEMS, show_default=True, help="More than these: trained codes alone, once.")
@click.option("--repeats", default=15, show_default=True, help="Calls of each way; the median counts.")
@click.option("--runs-dir", type=click.Path(path_type=Path), default="runs", show_default=True)
def main(items: int, repeats: int, runs_dir: Path) -> None:
    cases = {"trained, 16 bits": lambda: trained(items, runs_dir)}
    if items <= ITEMS:
        cases |= {
            "random, 16 bits": lambda: uniform(16, items),
            "random, 64 bits": lambda: uniform(64, items),
            "random, 64 bits, the fewest items": lambda: uniform(64, distinct.FEWEST_PAIRS // QUERIES + 1),
            "random, 64 bits, 80 labels": lambda: uniform(64, distinct.FEWEST_ITEMS, classes=80),
        }
    else:
        repeats = 1
    rows = []
    for name, make in cases.items():
        query, database, bits = make()
        ways: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for turn in range(repeats + (repeats > 1)):  # the first turn compiles
            found = {}
            for together in (False, True) if turn % 2 else (True, False):
                found[together], *seconds = timed(query, database, bits, together=together)
                if turn or repeats == 1:
                    ways[together].append((seconds[0], seconds[1]))
            assert all(np.array_equal(values, found[True].arrays()[of]) for of, values in found[False].arrays().items())
        each, once = (np.median(ways[together], axis=0) for together in (False, True))
        rows.append((name, f"{len(database[0]):,}", *each, *once, *(each / once)))
    click.echo(f"{QUERIES:,} queries, {len(os.sched_getaffinity(0))} cores")
    headers = ("", "items", "each s", "CPU s", "together s", "CPU s", "ratio", "CPU ratio")
    click.echo(tabulate(rows, headers=headers, floatfmt=".3f"))


if __name__ == "__main__":
    main()
